"""What the commands share: reading flags, and the way that numbers are shown."""

import contextlib
import io
import re
import sys
from typing import Any, TypeVar

import tyro

from jaxppo.fields import ConfigError, check

__all__ = ["check_seed", "parse", "summary"]

T = TypeVar("T")

JOINED = ("--hidden", "--filters", "--env-params")


def parse(cls: type[T], argv: list[str], prog: str) -> T:
    """Parse flags with tyro; a value that a config refuses is raised as the `ConfigError` that it is."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, args=_in_words(argv), prog=prog, config=config)
    except SystemExit as ended:
        cause: BaseException | None = ended
        while cause is not None and not isinstance(cause, ConfigError):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        sys.stderr.write(complaint.getvalue())
        raise


def _in_words(argv: list[str]) -> list[str]:
    """Flags with their lists in words, which may be joined as `jaxppo sweep` has it: 64,64 or gravity=9.8,length=1."""
    words: list[str] = []
    flag = ""
    for word in argv:
        name, given, value = word.partition("=")
        if word.startswith("--"):
            flag = name.replace("_", "-")
            words += [name, *_split(value)] if given and flag in JOINED else [word]
        else:
            words += _split(word) if flag in JOINED else [word]
    return words


def _split(word: str) -> list[str]:
    return [part for part in re.split("[,=]", word) if part]


def check_seed(seed: int) -> None:
    """Raise `ConfigError` for what is no seed."""
    check(0 <= seed < 2**32, "seed", seed, "a whole number >= 0 and < 2^32")


def summary(returns: Any, how: str) -> str:
    """Returns of episodes in a line."""
    mean, std = returns.mean(), returns.std()
    extremes = f"min {returns.min():.4g}, max {returns.max():.4g}"
    return f"{how} return over {len(returns)} episodes: {mean:.2f} ± {std:.2f} (mean ± std; {extremes})"

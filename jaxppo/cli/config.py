"""Flags that describe a config, for the commands that take one."""

import argparse
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxppo.config import Config
from jaxppo.presets import METHODS, preset_settings
from jaxppo.settings import KINDS, check_names, defaults, kinds_of, owned, read_toml, to_flags

__all__ = ["settings_class"]


def settings_class(argv: list[str]) -> tuple[type, list[str]]:
    """The flags that describe a config, as a dataclass to inherit from, and those to parse before the ones given."""
    kinds, flags = _base(argv)
    start = defaults(kinds)

    @dataclass(frozen=True)
    class Settings:
        settings: Config = start
        network: Literal[tuple(KINDS["network"])] = kinds.get("network", "mlp")  # type: ignore[valid-type]
        """The actor-critic network."""
        learner: Literal[tuple(KINDS["learner"])] = kinds.get("learner", "sgd")  # type: ignore[valid-type]
        """How the parameters move."""
        objective: Literal[tuple(KINDS["objective"])] = kinds.get("objective", "clip")  # type: ignore[valid-type]
        """What SGD maximises."""
        config: Path | None = None
        """TOML file of settings, named as the flags are (num_envs = 64)."""
        preset: Literal[("auto", "none", *METHODS)] = "auto"  # type: ignore[valid-type]
        """auto: settings known to learn on the environment with this learner or objective; none: do without; or a
        method."""

    return Settings, flags


def _base(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What flags are parsed on top of: the kinds chosen, and the flags for a TOML file and the preset."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("env", *KINDS):
        first.add_argument(f"--{name}", default=argparse.SUPPRESS)
    first.add_argument("--config", type=Path)
    first.add_argument("--preset", default="auto")
    try:
        typed = vars(first.parse_known_args(argv)[0])
    except argparse.ArgumentError:
        return {}, []  # a flag without its value, which the real parser will tell of
    file, method = typed.pop("config"), typed.pop("preset")
    settings = {**(read_toml(file, kinds_of(typed)) if file else {}), **typed}
    settings = preset_settings(settings.get("env", "CartPole-v1"), method, settings)
    for flag, following in zip(argv, [*argv, ""][1:], strict=True):
        written, given, value = flag.partition("=")
        value = value if given else following
        name = written.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and any(name in owned(kind) for kinds in KINDS.values() for kind in kinds.values()):
            check_names({**kinds_of(settings), name: _read(value)})  # a flag of a kind that was not chosen
    return kinds_of(settings), to_flags(settings)


def _read(word: str) -> int | float | str:
    """A number, if it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(word)
    return word

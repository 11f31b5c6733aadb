"""`jaxppo profile`."""

from dataclasses import dataclass

import jax
from rich.console import Console

from jaxppo.cache import without_kept_programs
from jaxppo.cli.config import settings_class
from jaxppo.cli.flags import check_seed, parse
from jaxppo.profile_table import print_profile
from jaxppo.profiling import profile_update

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Tell where the time of an update goes."""
    settings, flags = settings_class(argv)

    @dataclass(frozen=True)
    class Profile(settings):  # type: ignore[valid-type, misc]
        """Tell where the time of an update goes, and how far that is from what this machine can do.

        Takes the same settings as `jaxppo train`.
        """

        agents: int = 1
        """Agents trained side by side, one for each seed."""
        repeats: int = 5
        """Timed runs of each part, of which the median counts."""
        seed: int = 0
        """Seed of everything random."""

    args = parse(Profile, [*flags, *argv], "jaxppo profile")
    check_seed(args.seed)
    with without_kept_programs():  # for it tells how long compilation takes
        profile = profile_update(args.settings, jax.random.key(args.seed), agents=args.agents, repeats=args.repeats)
    print_profile(profile, Console(highlight=False, soft_wrap=True))
    return 0

"""What an experiment is: something that is prepared, trained and presented."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxppo.progress import Progress

__all__ = ["Experiment", "Prepared"]


class Prepared(Protocol):
    """An experiment that is ready to be trained."""

    def summary(self) -> str:
        """What it is made of, in a few words."""
        ...

    def steps(self) -> int:
        """Environment steps of everything that it trains."""
        ...

    def train(self, path: Path, *, overwrite: bool, progress: Progress) -> bool:
        """Train what `path` does not hold yet; whether nothing is left to do, so no if an interrupt came.

        Raises:
            ConfigError: there is something else in `path`, and no `overwrite`.
        """
        ...

    def present(self, path: Path) -> str:
        """Write the tables and figures of a finished experiment beside its results in `path`; what to print about it.

        Raises:
            ConfigError: too few steps to show anything.
        """
        ...


class Experiment(NamedTuple):
    """A published comparison that can be prepared.

    Attributes:
        about: what it is, in a line.
        prepare: makes it of options by name, each of which has a default: raises `ConfigError` for a bad one.
        options: their names.
        quick: those of a smoke run.
    """

    about: str
    prepare: Callable[..., Prepared]
    options: tuple[str, ...]
    quick: Mapping[str, Any]

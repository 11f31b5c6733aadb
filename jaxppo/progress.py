"""What a person sees while a run trains: a live bar on a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Bar", "Lines", "Progress", "Silent", "count"]


class Progress(Protocol):
    """Told of what happens in a run."""

    def note(self, text: str) -> None:
        """Something to say once."""
        ...

    def advance(self, steps: int, rate: float, metrics: Mapping[str, np.ndarray]) -> None:
        """So many steps are done, of late `rate` per second; `metrics` [agents, updates] are of the last chunk."""
        ...

    def close(self) -> None:
        """Training is over."""
        ...


class Bar:
    """A live bar: steps, steps per second, time left, and the mean return of the episodes that ended lately."""

    def __init__(self, console: Console, total_steps: int):
        self._console = console
        self._bar = RichProgress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn(
                "{task.fields[steps]}/{task.fields[of]} steps · {task.fields[rate]}/s · return {task.fields[score]}"
            ),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total_steps, steps="0", of=count(total_steps), rate="–", score="–")
        self._bar.start()

    def note(self, text: str) -> None:
        self._console.print(text)

    def advance(self, steps: int, rate: float, metrics: Mapping[str, np.ndarray]) -> None:
        known = _score(metrics)
        if known is not None:
            self._bar.update(self._task, score=f"{known:.1f}")
        self._bar.update(self._task, completed=steps, steps=count(steps), rate=count(rate))

    def close(self) -> None:
        self._bar.stop()


class Lines:
    """A line for every tenth of the run: for pipes, logs and those who asked for quiet."""

    def __init__(self, console: Console, total_steps: int):
        self._console = console
        self._total = total_steps
        self._tenths = 0
        self._score: float | None = None

    def note(self, text: str) -> None:
        self._console.print(text)

    def advance(self, steps: int, rate: float, metrics: Mapping[str, np.ndarray]) -> None:
        known = _score(metrics)
        self._score = self._score if known is None else known
        if steps * 10 // self._total > self._tenths:
            self._tenths = steps * 10 // self._total
            score = "–" if self._score is None else f"{self._score:.1f}"
            self._console.print(f"{steps} steps · {count(rate)} steps/s · return {score}")

    def close(self) -> None:
        """Nothing to tidy up."""


class Silent:
    """Nothing."""

    def note(self, text: str) -> None:
        """Said to nobody."""

    def advance(self, steps: int, rate: float, metrics: Mapping[str, np.ndarray]) -> None:
        """Shown to nobody."""

    def close(self) -> None:
        """Nothing to tidy up."""


def count(number: float) -> str:
    """A count to three digits or so: 950, 12.3k, 1.50M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:.0f}"


def _score(metrics: Mapping[str, np.ndarray]) -> float | None:
    """Mean return of the episodes that ended in the last 20 updates, or in all of the chunk if it is shorter.

    Agents that have diverged are left out.
    """
    returns, episodes, norms = (metrics[name][:, -20:] for name in ("episode_return", "episodes", "grad_norm"))
    known = np.isfinite(returns) & (episodes > 0) & np.isfinite(norms)
    return float(np.average(returns[known], weights=episodes[known])) if known.any() else None

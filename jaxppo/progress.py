"""What a person sees while a run trains: a live bar on a terminal, plain lines elsewhere."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Bar", "Lines", "Progress", "count"]


class Progress(Protocol):
    """Told of what happens in a run."""

    def compiled(self, seconds: float) -> None:
        """The program is compiled and training begins."""
        ...

    def advance(self, rows: Sequence[Mapping[str, Any]], steps_per_second: float) -> None:
        """Another chunk of updates is done; `rows` are their metrics."""
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

    def compiled(self, seconds: float) -> None:
        self._console.print(f"compiled in {seconds:.1f} s")
        self._bar.reset(self._task)

    def advance(self, rows: Sequence[Mapping[str, Any]], steps_per_second: float) -> None:
        steps = rows[-1]["env_steps"]
        known = _score(rows)
        if known is not None:
            self._bar.update(self._task, score=f"{known:.1f}")
        self._bar.update(self._task, completed=steps, steps=count(steps), rate=count(steps_per_second))

    def close(self) -> None:
        self._bar.stop()


class Lines:
    """A line for every tenth of the run: for pipes, logs and those who asked for quiet."""

    def __init__(self, console: Console, total_steps: int):
        self._console = console
        self._total = total_steps
        self._tenths = 0
        self._score: float | None = None

    def compiled(self, seconds: float) -> None:
        self._console.print(f"compiled in {seconds:.1f} s")

    def advance(self, rows: Sequence[Mapping[str, Any]], steps_per_second: float) -> None:
        steps = rows[-1]["env_steps"]
        known = _score(rows)
        self._score = self._score if known is None else known
        if steps * 10 // self._total > self._tenths:
            self._tenths = steps * 10 // self._total
            score = "–" if self._score is None else f"{self._score:.1f}"
            self._console.print(f"{steps} steps · {count(steps_per_second)} steps/s · return {score}")

    def close(self) -> None:
        """Nothing to tidy up."""


def count(number: float) -> str:
    """A count to three digits or so: 950, 12.3k, 1.50M."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{suffix}"
    return f"{number:.0f}"


def _score(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Mean return of the episodes that ended in the last updates, about 20 of them or all of the chunk."""
    recent = [row for row in rows[-20:] if not math.isnan(row["episode_return"])]
    episodes = sum(row["episodes"] for row in recent)
    return sum(row["episode_return"] * row["episodes"] for row in recent) / episodes if episodes else None

"""The directory of measured points: each is kept when it is done, and not measured again.

manifest.json   what was measured, with what, on which device, and how it ended; earlier launches
scaling.csv     a row for each point
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from jaxppo.files import write_whole
from jaxppo.results import continued, launched, read_manifest, write_manifest

__all__ = ["Point", "add_point", "close_points", "open_points", "read_points"]


class Point(NamedTuple):
    """What training so many agents at once has taken.

    Attributes:
        agents: at once.
        runs: of so many agents each, one after the other.
        compile_seconds: to compile their program.
        seconds: to train them, compilation apart: the median of the runs.
        steps_per_second: environment steps of all agents together.
        peak_bytes: memory of the program.
        episode_return: mean return of the last episodes of each agent, averaged over the agents of all runs.
        worst: that of the worst agent.
        best: that of the best.
    """

    agents: int
    runs: int
    compile_seconds: float
    seconds: float
    steps_per_second: float
    peak_bytes: int
    episode_return: float
    worst: float
    best: float


def open_points(path: Path, measured: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make a directory for points, or go on with that of the same ones: for `directories.filling`.

    Args:
        path: where.
        measured: what tells points from those of another experiment, as JSON has it.
        overwrite: replace a directory of other points.

    Raises:
        ConfigError: there is something else.
    """
    ours = "a new directory, or that of the same experiment"
    same = "a new directory, or one of the very same settings and device to go on with; or add --overwrite"
    known = continued(path, {"measured": measured}, ours, same, overwrite=overwrite)
    launched(path, known, {"measured": measured})


def close_points(path: Path, status: str) -> None:
    """Note how it ended."""
    write_manifest(path, {**read_manifest(path), "status": status})


def read_points(path: Path) -> list[Point]:
    """The points that are done, in the order of their numbers of agents."""
    file = path / "scaling.csv"
    rows = pd.read_csv(file).to_dict("records") if file.is_file() else []
    return [Point(**{str(name): value for name, value in row.items()}) for row in rows]


def add_point(path: Path, point: Point) -> None:
    """Keep one more point."""
    points = sorted([*read_points(path), point])
    write_whole(path / "scaling.csv", pd.DataFrame(points).to_csv(index=False).encode())

"""Learning curves as pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

__all__ = ["smooth", "write_curves"]

# Okabe & Ito's colour-blind-safe palette, the light yellow left out.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LABELS = {"env_steps": "environment steps", "wall_time": "wall time, compilation apart"}


def write_curves(
    path: Path, runs: Mapping[str, Mapping[str, Sequence[float]]], metric: str = "episode_return", title: str = ""
) -> None:
    """Draw `metric` of each run against environment steps and against wall time, as PNG or SVG by the path's suffix.

    Updates without a value (such as those in which no episode ended) are left out. Pale lines are single updates,
    strong ones their running mean.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, x in zip(axes, ("env_steps", "wall_time"), strict=True):
        for i, (label, metrics) in enumerate(runs.items()):
            _draw(axis, np.asarray(metrics[x], float), np.asarray(metrics[metric], float), label, i)
        axis.set_xlabel(LABELS[x])
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.xaxis.set_major_formatter(EngFormatter(unit="s" if x == "wall_time" else ""))
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(metric.replace("_", " "))
    if len(runs) > 1:
        axes[0].legend(frameon=False)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _draw(axis: Axes, x: np.ndarray, y: np.ndarray, label: str, index: int) -> None:
    known = np.isfinite(y)
    x, y = x[known], y[known]
    colour = COLOURS[index % len(COLOURS)]
    axis.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
    mark = "o" if len(y) == 1 else None  # which is no line
    axis.plot(x, smooth(y, max(1, math.ceil(len(y) / 50))), color=colour, linewidth=1.8, marker=mark, label=label)


def smooth(y: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each point, of as many as there are at the start."""
    sums = np.cumsum(np.concatenate([[0.0], y]))
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)

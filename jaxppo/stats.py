"""Statistics of scores from few runs: aggregates, stratified bootstrap intervals, performance profiles.

Scores are an array [runs, tasks]; or an array [..., runs] for each task, by name or in order. Numbers of runs may then
differ between tasks, of which each weighs the same, and axes before the runs are kept in what is returned.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxppo.fields import check, is_real, is_whole

__all__ = [
    "Estimate",
    "Scores",
    "estimate",
    "iqm",
    "mean",
    "median",
    "on_grid",
    "optimality_gap",
    "probability_of_improvement",
    "profile",
]

Scores = np.ndarray | Mapping[str, Any] | Sequence[Any]
CHUNK = 100  # resamples worked on at once, which bounds the memory


class Estimate(NamedTuple):
    """A statistic and its confidence interval, each with the shape that the statistic has."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def mean(scores: Scores) -> np.ndarray:
    """Mean over the tasks of the mean over each one's runs."""
    return np.mean([task.mean(axis=-1) for task in _tasks(scores)], axis=0)


def median(scores: Scores) -> np.ndarray:
    """Median over the tasks of the mean over each one's runs (§3)."""
    return np.median([task.mean(axis=-1) for task in _tasks(scores)], axis=0)


def iqm(scores: Scores) -> np.ndarray:
    """Interquartile mean: of the middle half of all runs of all tasks (§4.3).

    Where a quarter of the runs is no whole number, the two runs at the edges count in part, so that exactly half of the
    weight is left. Cutting whole runs only, as `scipy.stats.trim_mean` does, gives the same if it is one.
    """
    tasks = _tasks(scores)
    pooled = np.concatenate(tasks, axis=-1)
    weight = np.concatenate([np.full(task.shape[-1], 1 / (len(tasks) * task.shape[-1])) for task in tasks])
    order = np.argsort(pooled, axis=-1)
    upper = np.cumsum(weight[order], axis=-1)
    inside = np.clip(upper, 0.25, 0.75) - np.clip(upper - weight[order], 0.25, 0.75)
    return 2 * np.sum(inside * np.take_along_axis(pooled, order, axis=-1), axis=-1)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
    """How far runs fall short of `target` on average, more than which counts no more; lower is better (§4.3)."""
    return target - mean([np.minimum(task, target) for task in _tasks(scores)])


def probability_of_improvement(scores: Scores, others: Scores) -> np.ndarray:
    """P(X > Y) for a run X of `scores` and a run Y of `others` on the same task, averaged over tasks (§4.3).

    A tie counts half. For each task this is the Mann–Whitney U statistic divided by the number of pairs.

    Raises:
        ConfigError: bad scores, or scores of different tasks.
    """
    if isinstance(scores, Mapping) and isinstance(others, Mapping):
        check(scores.keys() == others.keys(), "others", sorted(others), f"scores of the same tasks, {sorted(scores)}")
    xs, ys = _tasks(scores), _tasks(others)
    check(len(xs) == len(ys), "others", f"{len(ys)} tasks", f"scores of the same tasks, which are {len(xs)}")
    chances = []
    for x, y in zip(xs, ys, strict=True):
        x, y = x[..., :, None], y[..., None, :]
        chances.append(np.mean((x > y) + 0.5 * (x == y), axis=(-2, -1)))
    return np.mean(chances, axis=0)


def profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
    """Performance profile [thresholds, ...]: the share of runs whose score is above each threshold (§4.2).

    The score distribution of the paper's equation 1, with the same weight for every task.
    """
    tasks = _tasks(scores)
    return np.stack([mean([(task > threshold).astype(float) for task in tasks]) for threshold in thresholds])


def estimate(
    statistic: Callable[..., np.ndarray],
    *scores: Scores,
    seed: int = 0,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Estimate:
    """A statistic of one or more sets of scores, with its stratified bootstrap percentile interval (§4.1).

    Runs are resampled with replacement within each task, of each set on its own. Axes before the runs share their
    resamples, so that whole learning curves are resampled, not each of their points.

    Args:
        statistic: a function of as many sets of scores, such as `iqm`.
        scores: the sets.
        seed: of the resampling.
        resamples: how many.
        confidence: probability that the interval is to cover.

    Raises:
        ConfigError: bad scores, a task with a single run, or a number out of range.
    """
    check(is_whole(resamples), "resamples", resamples, "a whole number >= 1")
    check(is_real(confidence) and 0 < confidence < 1, "confidence", confidence, "a number > 0 and < 1")
    value = np.asarray(statistic(*scores))
    sets = [_tasks(each) for each in scores]
    fewest = min(task.shape[-1] for tasks in sets for task in tasks)
    check(fewest >= 2, "scores", "a task with one run", "at least 2 runs of every task, for an interval")
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - start)
        parts.append(statistic(*([_resample(rng, task, size) for task in tasks] for tasks in sets)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(parts, axis=-1), [tail, 1 - tail], axis=-1)
    return Estimate(value, low, high)


def on_grid(steps: np.ndarray, values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Mean of the values between neighbouring points of a grid, at grid[i] < step <= grid[i + 1].

    Curves whose steps differ can be averaged there. NaNs are left out; nothing is interpolated.

    Args:
        steps: [points], in any order.
        values: [points].
        grid: [cells + 1], increasing.

    Returns:
        [cells], NaN where there is no value.
    """
    cell = np.searchsorted(grid, steps, side="left") - 1
    known = np.isfinite(values) & (cell >= 0) & (cell < len(grid) - 1)
    count = np.bincount(cell[known], minlength=len(grid) - 1)
    total = np.bincount(cell[known], weights=values[known], minlength=len(grid) - 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _tasks(scores: Scores) -> list[np.ndarray]:
    """An array [..., runs] for each task, those with names in the order of these.

    Raises:
        ConfigError: no tasks, no runs, or a score that is not a finite number.
    """
    if isinstance(scores, np.ndarray):
        check(scores.ndim == 2, "scores", f"an array of shape {scores.shape}", "an array [runs, tasks]")
        scores = list(scores.T)
    elif isinstance(scores, Mapping):
        scores = [scores[name] for name in sorted(scores)]
    tasks = [np.asarray(task, float) for task in scores]
    some = bool(tasks) and all(task.ndim > 0 and task.size > 0 for task in tasks)
    check(some, "scores", "nothing", "at least one task, and at least one run of each")
    finite = all(np.all(np.isfinite(task)) for task in tasks)
    check(finite, "scores", "NaN or infinity among them", "finite numbers; leave out runs that have no score")
    return tasks


def _resample(rng: np.random.Generator, task: np.ndarray, size: int) -> np.ndarray:
    """[..., runs] to [..., size, runs], drawn with replacement."""
    runs = task.shape[-1]
    return task[..., rng.integers(runs, size=(size, runs))]

"""Figures of a sweep: learning curves, aggregates with intervals, performance profiles, sensitivity to settings."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator

from jaxppo import stats
from jaxppo.files import write_whole
from jaxppo.plot import COLOURS
from jaxppo.scoring import AGGREGATES, aggregate, perturbed, ranked, score_table, shared_settings, swept, texts
from jaxppo.tables import Results

__all__ = ["Drawn", "aggregates", "draw_all", "learning_curves", "profiles", "save", "sensitivity"]

MOST_LINES = len(COLOURS)  # with more settings than this, only the best few are drawn
BEST_LINES = 6
MOST_BARS = 20
MOST_TICKS = 8  # of a setting's values
CELLS = 60  # of a learning curve
PANEL = (3.7, 2.7)  # inches


class Drawn(NamedTuple):
    """A figure, and what to know when looking at it."""

    figure: Figure
    caption: str


def draw_all(results: Results) -> dict[str, Drawn]:
    """Every figure that these results have something to show in, by file name.

    A setting that a population changed has none of its own, since no agent kept what the tables say of it.

    Raises:
        ConfigError: no agent has a score.
    """
    drawn = {
        "curves_steps": learning_curves(results, "env_steps"),
        "curves_time": learning_curves(results, "wall_time"),
    }
    if len(shared_settings(score_table(results))) > 1:
        drawn |= {"aggregates": aggregates(results), "profiles": profiles(results)}
    fields = [field for field in swept(results.agents) if field not in perturbed(results)]
    return drawn | {f"sensitivity_{field}": sensitivity(results, field) for field in fields}


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG and as SVG to `path` with these suffixes, the same bytes for the same figure."""
    svg, png = BytesIO(), BytesIO()
    with mpl.rc_context({"svg.hashsalt": "jaxppo"}):
        figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.set_layout_engine("none")  # it is laid out now, which takes longer than drawing
    figure.savefig(png, format="png", dpi=120)
    write_whole(path.with_suffix(".svg"), svg.getvalue())
    write_whole(path.with_suffix(".png"), png.getvalue())


def learning_curves(results: Results, x: str = "env_steps", centre: Callable[..., np.ndarray] = stats.mean) -> Drawn:
    """Episode return against `x` ("env_steps" or "wall_time"): a panel per environment, a line per setting.

    Returns are averaged over up to 60 stretches of the axis. A line goes as far as all of the setting's seeds go, and
    leaves out stretches in which one of them ended no episode.
    """
    table = score_table(results)
    envs = list(dict.fromkeys(table["env"]))
    chosen, note = _chosen(table)
    names = list(dict.fromkeys(label for env in envs for label in chosen[env]))
    together = len(names) <= MOST_LINES
    figure, axes = _panels(len(envs))
    longest = results.metrics[x].max()
    for env, axis in zip(envs, axes, strict=True):
        agents = table[table["env"] == env]
        curves = _curves(results.metrics[results.metrics["agent"].isin(agents["agent"])], x)
        for place, label in enumerate(chosen[env]):
            seeds = np.stack([curves[1][agent] for agent in agents.loc[agents["label"] == label, "agent"]])
            _line(axis, curves[0], seeds, label, COLOURS[names.index(label) if together else place], centre)
        axis.set_title(env, fontsize=10)
        axis.xaxis.set_major_locator(MaxNLocator(5))
        if x == "wall_time":
            _time_axis(axis, longest)
        else:
            axis.set_xlabel("environment steps", fontsize=9)
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        if not together and axis.get_lines():
            axis.legend(fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.22))
        axis.set_ylabel("episode return" if _is_first(axis) else "", fontsize=9)
    if len(names) > 1 and together:
        _legend(figure, axes)
    word = "Interquartile mean" if centre is stats.iqm else "Mean"
    single = table.groupby(["env", "setting"]).size().max() == 1
    seeds_note = "Single seeds" if single else f"{word} of {_seeds(table, 'bands')}"
    against = "wall time" if x == "wall_time" else "environment steps"
    return _captioned(results, figure, f"Episode return against {against}", seeds_note + note)


def aggregates(results: Results) -> Drawn:
    """IQM, mean, median and optimality gap of the normalised scores of each setting, with their intervals."""
    table = score_table(results)
    rows = aggregate(table)
    note = f"; the best {MOST_BARS} of {len(rows)} settings by IQM" if len(rows) > MOST_BARS else ""
    labels = list(rows)[:MOST_BARS]
    names = [_wrapped(label, 44) for label in labels]
    lines = [1 + name.count("\n") for name in names]
    heights = -np.cumsum(lines) + np.array(lines) / 2
    width = 0.07 * max(len(line) for name in names for line in name.split("\n"))
    figure = Figure(figsize=(9 + width, 1.3 + 0.27 * sum(lines)), layout="constrained")
    axes = figure.subplots(1, len(AGGREGATES), sharey=True)
    for axis, name in zip(axes, AGGREGATES, strict=True):
        for place, label in enumerate(labels):
            value, low, high = rows[label][name]
            colour = COLOURS[place] if len(labels) <= MOST_LINES else COLOURS[0]
            axis.barh(heights[place], high - low, left=low, height=0.66, color=colour, alpha=0.45)
            axis.plot([value, value], heights[place] + np.array([-0.33, 0.33]), color=colour, linewidth=2)
        axis.set_title(f"{name} (low is good)" if name == "optimality gap" else name, fontsize=10)
        axis.use_sticky_edges = False  # else a line at the end of the axis is cut in half
        axis.xaxis.set_major_locator(MaxNLocator(4))
        _tidy(axis)
        axis.tick_params(axis="y", length=0)
    axes[0].set_yticks(heights, names, fontsize=8)
    axes[0].set_ylim(-sum(lines) - 0.2, 0.2)
    figure.supxlabel("normalised score: 0 random, 1 the best setting of the environment", fontsize=9)
    return _captioned(results, figure, "Normalised scores", f"{_environments(table)}, {_seeds(table, 'bars')}{note}")


def profiles(results: Results) -> Drawn:
    """The share of runs above each normalised score, for each setting."""
    table = score_table(results)
    shared = shared_settings(table)
    best_first = _by_mean(table, shared)
    labels = best_first if len(best_first) <= MOST_LINES else best_first[:BEST_LINES]
    note = f"; the best {len(labels)} of {len(best_first)} settings" if len(labels) < len(best_first) else ""
    pooled = np.concatenate([runs for label in labels for runs in shared[label].values()])
    thresholds = np.linspace(max(min(pooled.min(), 0.0), -1.0), min(pooled.max(), 2.0) * 1.02, 101)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for label, colour in zip(labels, COLOURS, strict=False):
        runs = shared[label]
        axis.plot(thresholds, stats.profile(runs, thresholds), color=colour, linewidth=1.8, label=_wrapped(label, 90))
        if min(map(len, runs.values())) > 1:
            band = stats.estimate(lambda scores: stats.profile(scores, thresholds), runs)
            axis.fill_between(thresholds, band.low, band.high, color=colour, alpha=0.15, linewidth=0)
    axis.set_xlabel("normalised score τ: 0 random, 1 the best setting of the environment", fontsize=9)
    axis.set_ylabel("share of runs with score > τ", fontsize=9)
    _tidy(axis)
    _legend(figure, [axis])
    note = f"{_environments(table)}, {_seeds(table, 'bands')}{note}"
    return _captioned(results, figure, "Performance profiles", note)


def sensitivity(results: Results, field: str) -> Drawn:
    """Scores against one swept setting: a panel per environment, a dot per agent, means over all agents of a value."""
    table = score_table(results).merge(results.agents[["agent", field]], on="agent")
    layout, places = _layout(table[field])
    table = table.assign(place=places, text=texts(table[field]))
    envs = list(dict.fromkeys(table["env"]))
    figure, axes = _panels(len(envs))
    for env, axis in zip(envs, axes, strict=True):
        rows = table[table["env"] == env]
        axis.plot(rows["place"], rows["score"], ".", color=COLOURS[0], alpha=0.3, markersize=5, zorder=1)
        _means(axis, rows, "" if layout == "names" else "-")
        if layout == "log":
            axis.set_xscale("log")
        if layout in ("names", "steps") or (layout == "log" and _apart(places)):
            _ticks(axis, dict(zip(table["place"], table["text"], strict=True)))
        axis.set_title(env, fontsize=10)
        axis.set_xlabel(field, fontsize=9)
        axis.set_ylabel("score (mean return at the end)" if _is_first(axis) else "", fontsize=9)
    note = f"Dots are agents, circles their mean at each {field} over all other settings, with its 95 % interval"
    if table.groupby(["env", "place"]).size().max() == 1:
        note = "Dots are agents"
    return _captioned(results, figure, f"Sensitivity to {field}", note)


def _means(axis: Axes, rows: pd.DataFrame, line: str) -> None:
    """The mean score at each place where there is more than one agent, with its interval."""
    counts = rows["place"].value_counts().sort_index()
    repeated = counts.index[counts > 1].to_numpy(float)
    groups = [rows.loc[rows["place"] == place, "score"].to_numpy() for place in repeated]
    if groups:
        found = [stats.estimate(stats.mean, [values]) for values in groups]
        value, low, high = np.array(found).T
        error = np.maximum([value - low, high - value], 0)  # rounding can make them negative
        axis.errorbar(repeated, value, error, color=COLOURS[1], fmt=f"o{line}", markersize=4, linewidth=1.4)


def _captioned(results: Results, figure: Figure, what: str, note: str) -> Drawn:
    """The figure with its note above it, which also says how many agents it is without."""
    lost = int((results.agents["status"] == "diverged").sum())
    if lost:
        note += f"; without {lost} agent{'s' * (lost > 1)} that diverged"
    figure.suptitle(textwrap.fill(note, int(figure.get_figwidth() * 12)), fontsize=10)
    return Drawn(figure, f"{what}. {note}.")


def _chosen(table: pd.DataFrame) -> tuple[dict[str, list[str]], str]:
    """The labels to draw in each environment, best first, and what to say if they are not all.

    Settings that were run in every environment are chosen by their mean normalised score, others in each by itself.
    """
    envs = list(dict.fromkeys(table["env"]))
    total = table["label"].nunique()
    if total <= MOST_LINES:
        return {env: list(dict.fromkeys(table.loc[table["env"] == env, "label"])) for env in envs}, ""
    shared = shared_settings(table)
    if len(envs) > 1 and len(shared) == total:
        best = _by_mean(table, shared)[:BEST_LINES]
        return dict.fromkeys(envs, best), f"; the best {BEST_LINES} of {total} settings over all environments"
    by_env = {env: table[table["env"] == env] for env in envs}
    means = {env: rows.groupby("label")["score"].mean().to_dict() for env, rows in by_env.items()}
    best_of = {env: ranked(by_env[env], means[env])[:BEST_LINES] for env in envs}
    where = "" if len(envs) == 1 else " in each environment"
    return best_of, f"; the best {BEST_LINES} of {total} settings{where}"


def _by_mean(table: pd.DataFrame, shared: Mapping[str, Mapping[str, np.ndarray]]) -> list[str]:
    """The labels of `shared_settings`, the highest mean first."""
    return ranked(table, {label: float(stats.mean(by_env)) for label, by_env in shared.items()})


def _curves(metrics: pd.DataFrame, x: str) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """The middles of cells of the x axis [cells], and each agent's mean return in them."""
    known = metrics[np.isfinite(metrics["episode_return"])]
    cells = max(1, min(CELLS, int(known.groupby("agent").size().median())))
    grid = np.linspace(0, metrics[x].max(), cells + 1)
    curves = {
        int(str(agent)): stats.on_grid(rows[x].to_numpy(float), rows["episode_return"].to_numpy(float), grid)
        for agent, rows in known.groupby("agent")
    }
    return (grid[1:] + grid[:-1]) / 2, curves


def _line(
    axis: Axes, x: np.ndarray, seeds: np.ndarray, label: str, colour: str, centre: Callable[..., np.ndarray]
) -> None:
    """A setting's line, from its seeds [seeds, cells], and its band."""
    whole = np.all(np.isfinite(seeds), axis=0)
    x, runs = x[whole], seeds[:, whole].T
    if not len(x):
        return
    marker = "o" if len(x) == 1 else ""
    axis.plot(x, centre([runs]), color=colour, linewidth=1.6, marker=marker, markersize=4, label=_wrapped(label, 90))
    if len(seeds) > 1:
        band = stats.estimate(centre, [runs])
        axis.fill_between(x, band.low, band.high, color=colour, alpha=0.18, linewidth=0)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """Axes for so many panels, up to three in a row."""
    columns = 2 if count == 4 else min(count, 3)
    rows = math.ceil(count / columns)
    width = max(PANEL[0] * columns, 6.5)
    figure = Figure(figsize=(width, PANEL[1] * rows + 1.0), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.remove()
    for axis in axes[:count]:
        _tidy(axis)
    return figure, axes[:count]


def _is_first(axis: Axes) -> bool:
    """Whether the panel is the first of its row."""
    place = axis.get_subplotspec()
    return place is not None and place.is_first_col()


def _tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all panels below them, in as many columns as its longest text leaves room for."""
    entries = {str(line.get_label()): line for axis in axes for line in axis.get_lines()}
    if not entries:
        return  # no stretch in which every seed of a setting ended an episode
    longest = max(len(line) for label in entries for line in label.split("\n"))
    columns = max(1, int(figure.get_figwidth() * 12 / (longest + 7)))
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )


def _time_axis(axis: Axes, longest: float) -> None:
    """Ticks in seconds, minutes or hours."""
    unit, seconds = next(
        (unit, size) for unit, size in (("h", 3600), ("min", 60), ("s", 1)) if longest >= 3 * size or size == 1
    )
    axis.set_xlabel(f"wall time, compilation apart ({unit})", fontsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / seconds:g}")


def _ticks(axis: Axes, places: dict[float, str]) -> None:
    """Ticks at the values of a setting, slanted where there is much to write."""
    places = dict(sorted(places.items()))
    axis.set_xticks(list(places), list(places.values()))
    if sum(map(len, places.values())) > 30:
        for text in axis.get_xticklabels():
            text.set(rotation=30, ha="right", rotation_mode="anchor")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.12)


def _apart(places: np.ndarray) -> bool:
    """Whether there is room to write at each of these places on a logarithmic axis."""
    logs = np.log(np.unique(places))
    return bool(np.min(np.diff(logs)) > (logs[-1] - logs[0]) / MOST_TICKS)


def _layout(values: pd.Series) -> tuple[str, np.ndarray]:
    """How to lay out a swept setting on an axis, and where its values are there.

    "log" if it is numbers that spread over a decade, "linear" if they are many, else "steps" of the same width; "names"
    for what is not numbers, or not all finite ones.
    """
    if not all(isinstance(value, int | float | np.number) and np.isfinite(value) for value in values):
        return "names", values.map(str).rank(method="dense").to_numpy(float)
    if values.map(lambda value: isinstance(value, bool)).any():
        return "names", values.astype(float).to_numpy()
    if values.min() > 0 and values.max() >= 10 * values.min():
        return "log", values.to_numpy(float)
    if values.nunique() > MOST_TICKS:
        return "linear", values.to_numpy(float)
    return "steps", values.rank(method="dense").to_numpy(float)


def _wrapped(label: str, width: int) -> str:
    return textwrap.fill(label, width, break_long_words=False, break_on_hyphens=False) or "all agents"


def _seeds(table: pd.DataFrame, drawn: str) -> str:
    """`"5 seeds; bands are …"`, or `"3 to 5 seeds; …"`, and no word of intervals where there are none."""
    counts = table.groupby(["env", "setting"]).size()
    least, most = counts.min(), counts.max()
    many = f"{least} to {most} seeds" if least < most else "1 seed" if most == 1 else f"{most} seeds"
    return many if most == 1 else f"{many}; {drawn} are 95 % bootstrap intervals"


def _environments(table: pd.DataFrame) -> str:
    count = table["env"].nunique()
    return str(table["env"].iloc[0]) if count == 1 else f"{count} environments"

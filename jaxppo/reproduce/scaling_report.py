"""What is told of the measured points: a table, a sentence and a figure."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, LogLocator, NullLocator

from jaxppo.plot import COLOURS
from jaxppo.progress import count
from jaxppo.reproduce.points import Point

__all__ = ["draw", "markdown", "speed_up"]

MOST_TICKS = 9
MARGIN = 2  # above and below the lines, so that little differences look little
COLUMNS = (
    "agents at once",
    "runs",
    "compilation (s)",
    "wall time (s)",
    "steps/s, all agents",
    "faster than one after the other",
    "memory (MiB)",
    "mean return (worst … best agent)",
)
# PureJaxRL's README: one agent trains 10 times as fast as CleanRL's, 2048 in half the time that CleanRL's one takes.
PUBLISHED = (
    "PureJaxRL reports that on a GPU 2048 agents train in half the time that CleanRL takes for one, and one agent in a "
    "tenth of it: 2048 then take about 5 times as long as one."
)


def speed_up(points: Sequence[Point]) -> list[float]:
    """How many times as fast each number of agents trains at once as one after the other."""
    (one,) = (point.seconds for point in points if point.agents == 1)
    return [point.agents * one / point.seconds for point in points]


def markdown(points: Sequence[Point], measured: Mapping[str, Any]) -> str:
    """A row for each point, and what PureJaxRL reports."""
    lines = [f"{_what(measured)}. Times are medians of the runs, of warm programs, compilation apart."]
    lines += ["Returns are of each agent's last 100 episodes.", "", f"| {' | '.join(COLUMNS)} |", "|---" * 8 + "|"]
    lines += [
        f"| {point.agents} | {point.runs} | {point.compile_seconds:.2f} | {point.seconds:,.2f} "
        f"| {point.steps_per_second:,.0f} | {gain:.2f} × | {point.peak_bytes / 2**20:,.1f} "
        f"| {point.episode_return:.4g} ({point.worst:.4g} … {point.best:.4g}) |"
        for point, gain in zip(points, speed_up(points), strict=True)
    ]
    one, most = points[0], points[-1]
    ratio = f"Here {most.agents} agents take {most.seconds / one.seconds:.3g} times as long as one. {PUBLISHED}"
    return "\n".join([*lines, "", ratio if len(points) > 1 else PUBLISHED]) + "\n"


def draw(points: Sequence[Point], measured: Mapping[str, Any]) -> Figure:
    """Wall time and steps per second against the number of agents, beside those of one agent after the other."""
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    time, rate = figure.subplots(1, 2)
    agents = [point.agents for point in points]
    one = points[0]
    _lines(time, agents, [point.seconds for point in points], [one.seconds * many for many in agents])
    _lines(rate, agents, [point.steps_per_second for point in points], [one.steps_per_second] * len(agents))
    time.set_ylabel("wall time, compilation apart (s)")
    time.yaxis.set_major_formatter("{x:g}")
    rate.set_ylabel("environment steps/s, all agents")
    rate.yaxis.set_major_formatter(EngFormatter(sep=""))
    figure.legend(*time.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(_what(measured), fontsize=10)
    return figure


def _lines(axis: Axes, agents: Sequence[int], measured: Sequence[float], ideal: Sequence[float]) -> None:
    """Both lines on logarithmic axes, with ticks at numbers of agents."""
    axis.plot(agents, ideal, "--", color=COLOURS[1], linewidth=1.4, label="one after the other")
    axis.plot(agents, measured, "o-", color=COLOURS[0], linewidth=1.8, markersize=4, label="at once")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_ylim(min(*measured, *ideal) / MARGIN, max(*measured, *ideal) * MARGIN)
    axis.xaxis.set_major_locator(FixedLocator(list(agents)[:: -(-len(agents) // MOST_TICKS)]))
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("agents at once")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _what(measured: Mapping[str, Any]) -> str:
    settings = measured["settings"]
    return f"PPO on {settings['env']}, {count(settings['total_timesteps'])} steps each, {measured['device']}"

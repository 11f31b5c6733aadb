"""A table and a picture of measured throughput.

    python benchmarks/report.py benchmarks/results/throughput.jsonl

Writes OUT.md, OUT.png and OUT.svg beside the lines of OUT.jsonl.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import record

matplotlib.use("Agg")
from cases import CASES
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from jaxppo.plot import COLOURS

TRAINERS = ("jaxppo", "rejax", "brax", "sbx", "sb3")  # each has its colour wherever it appears
STYLES = dict(zip(TRAINERS, COLOURS, strict=False))

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description="A table and a picture of measured throughput.")
    parser.add_argument("lines", type=Path, help="the JSON lines of compare.py")
    write(parser.parse_args().lines)


def write(lines: Path) -> None:
    """OUT.md, OUT.png and OUT.svg beside OUT.jsonl."""
    rows = record.read(lines)
    lines.with_suffix(".md").write_text(f"{table(rows)}\n{notes(rows)}")
    draw(rows, (lines.with_suffix(".png"), lines.with_suffix(".svg")))


def table(rows: Sequence[Row]) -> str:
    """A Markdown table, aligned so that it reads well on a terminal too."""
    head = (
        "case",
        "environment",
        "trainer",
        "steps/s",
        "jaxppo is",
        "compile (s)",
        "ready (s)",
        "MiB",
        "return",
        "after steps",
    )
    ours = {row["case"]: row for row in rows if row["trainer"] == "jaxppo"}
    cells = [head, *(_cells(row, ours.get(row["case"])) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    left = 3  # columns of words; the rest are numbers
    rule = [("-" * width) if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    padded = [
        [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in cells
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (padded[0], rule, *padded[1:]))


def _cells(row: Row, ours: Row | None) -> tuple[str, ...]:
    return (
        row["case"],
        row["env"],
        row["trainer"],
        f"{row['steps_per_s']:,}",
        f"{ratio(ours, row)} ×" if ours and ours is not row else "",
        "" if row["compile_s"] is None else f"{row['compile_s']:.1f}",
        _ready(row),
        f"{row['peak_mib']:,}",
        _return(row),
        f"{row['steps']:,}",
    )


def _ready(row: Row) -> str:
    """Seconds from the start of the process until its program is compiled, or nothing needs to be."""
    return f"{row['start_s'] + (row['compile_s'] or 0):.1f}" if "start_s" in row else ""


def _return(row: Row) -> str:
    """The mean over the agents that were trained, and its standard error if they were several."""
    error = row.get("standard_error")
    return f"{row['sampled_return']:.1f}" + ("" if error is None else f" ± {error:.1f}")


def ratio(ours: Row, peer: Row) -> str:
    """How many times as many steps per second jaxppo takes as the peer."""
    times = ours["steps_per_s"] / peer["steps_per_s"]
    return f"{times:.2f}" if times < 9.995 else f"{times:.0f}"


def notes(rows: Iterable[Row]) -> str:
    """Versions, machine and revision, each said once; the command of each measurement is in its line."""
    rows = list(rows)
    versions = {f"{row['trainer']}: " + ", ".join(" ".join(v) for v in row["versions"].items()) for row in rows}
    parts = {
        "Versions": sorted(versions),
        "Machine": sorted({f"{row['machine']}, {row['device']} backend" for row in rows}),
        "Revision": sorted({row["git_revision"] for row in rows}),
    }
    return "".join(f"- {name}: {'; '.join(values)}.\n" for name, values in parts.items())


def draw(rows: Sequence[Row], paths: Iterable[Path]) -> None:
    """Bars of steps per second, and below them returns against the seconds of training, a panel per case."""
    cases = [case for case in CASES if any(row["case"] == case for row in rows)]
    columns = min(3, len(cases))
    lines = math.ceil(len(cases) / columns)
    figure = plt.figure(figsize=(4.2 * columns, 2.9 + 2.6 * lines), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=(2.9, 2.6 * lines))
    bars = top.subplots()
    draw_bars(bars, rows, cases)
    axes = below.subplots(lines, columns, squeeze=False).ravel()
    for axis, case in zip(axes, cases, strict=False):
        draw_curves(axis, [row for row in rows if row["case"] == case])
    for axis in axes[len(cases) :]:
        axis.axis("off")
    below.supxlabel("seconds of training, compilation apart", fontsize=9)
    below.supylabel("episode return while training (lines) and at its end (points)", fontsize=9)
    top.legend(*bars.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    for path in paths:
        figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_bars(axis: Axes, rows: Sequence[Row], cases: Sequence[str]) -> None:
    """A group of bars per case, side by side without gaps for trainers that cannot do it."""
    width, gap = 1.0, 1.2
    start, ticks, seen = 0.0, [], set()
    for case in cases:
        group = sorted((row for row in rows if row["case"] == case), key=lambda row: TRAINERS.index(row["trainer"]))
        ours = next((row for row in group if row["trainer"] == "jaxppo"), None)
        for i, row in enumerate(group):
            trainer = row["trainer"]
            label = None if trainer in seen else trainer
            axis.bar(start + i * width, row["steps_per_s"], width * 0.92, color=STYLES[trainer], label=label)
            seen.add(trainer)
            if ours and row is not ours:
                text = f"{ratio(ours, row)}×"
                axis.annotate(
                    text,
                    (start + i * width, row["steps_per_s"]),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    fontsize=8,
                )
        ticks.append(start + (len(group) - 1) * width / 2)
        start += len(group) * width + gap
    names = {row["case"]: row["env"] for row in rows}
    axis.set_xticks(ticks, [f"{case}: {names[case]}\n{_size(case)}" for case in cases], fontsize=8)
    axis.set_yscale("log")
    axis.margins(y=0.12)
    axis.set_ylim(10 ** math.floor(math.log10(min(row["steps_per_s"] for row in rows))))
    axis.yaxis.set_major_formatter(EngFormatter(sep=""))
    axis.tick_params(axis="x", length=0)
    axis.set_ylabel("environment steps per second", fontsize=9)
    axis.set_title("Throughput, on a logarithmic scale; jaxppo is so many times as fast", fontsize=10)
    _plain(axis)


def _size(case: str) -> str:
    settings = CASES[case]
    agents = f"{settings['num_agents']} agents, " if settings["num_agents"] > 1 else ""
    return f"{agents}{settings['num_envs']} × {settings['num_steps']}"


def draw_curves(axis: Axes, rows: Sequence[Row]) -> None:
    """Returns while training as lines, and the return of 128 episodes at the end as points."""
    for row in rows:
        seconds, returns = row["curve"]["seconds"], row["curve"]["returns"]
        color = STYLES[row["trainer"]]
        end = row["steps"] / row["steps_per_s"]
        axis.plot(seconds, returns, color=color, linewidth=1.3)
        axis.plot(end, row["sampled_return"], "o", color=color, markersize=4, clip_on=False)
    axis.set_xscale("log")
    axis.set_title(f"{rows[0]['case']}: {rows[0]['env']}, {_size(rows[0]['case'])}", fontsize=9)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter(EngFormatter(unit="s", sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(labelsize=8)
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.3, axis="y")


if __name__ == "__main__":
    main()

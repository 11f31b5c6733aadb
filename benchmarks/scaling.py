"""How cost grows: with the number of agents, with the length of training, and in a fresh process.

    python benchmarks/scaling.py [--studies agents length startup] [--agents 1 4 …] [--out benchmarks/results/cost]

agents   environment steps per second of all agents together, on case A, for 1 to 256 agents at once or those given
length   time per environment step and peak memory of case A, for 1, 4 and 16 times as many steps
startup  compile time and the time from the start of the process to the end of the first update, of every case, with an
         empty persistent compilation cache and then with what that run has left in it

Every point is measured in a process of its own. Writes OUT.jsonl, OUT.md and OUT.png; what OUT.jsonl has of studies
that are not made again is kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import record
from cases import CASES
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

AGENTS = (1, 4, 16, 64, 256)
BASE_STEPS = 131_072
FACTORS = (1, 4, 16)
REPEATS = 3
STUDIES = ("agents", "length", "startup")


def main() -> None:
    parser = argparse.ArgumentParser(description="How cost grows with agents, with steps, and in a fresh process.")
    parser.add_argument("--studies", nargs="+", choices=STUDIES, default=list(STUDIES))
    parser.add_argument("--agents", nargs="+", type=int, default=list(AGENTS), help="how many at once in that study")
    parser.add_argument("--out", type=Path, help="write OUT.jsonl, OUT.md and OUT.png")
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(args.point)))
        return
    rows = (
        [row for row in record.read(args.out.with_suffix(".jsonl")) if row["study"] not in args.studies]
        if args.out
        else []
    )
    studies = {"agents": partial(over_agents, args.agents), "length": over_length, "startup": over_startup}
    for study in args.studies:
        for row in studies[study]():
            print(json.dumps(row), flush=True)
            rows.append(row)
    if args.out:
        rows.sort(key=lambda row: STUDIES.index(row["study"]))
        record.write(args.out.with_suffix(".jsonl"), rows)
        args.out.with_suffix(".md").write_text(table(rows, args.out))
        draw(args.out.with_suffix(".png"), rows)


def over_agents(counts: Sequence[int]) -> list[dict[str, Any]]:
    """About a second or more of training each; a program has no fewer than eight updates."""
    return [
        in_own_process({"study": "agents", "case": "A", "agents": agents, "steps": 512 * max(8, 512 // agents)})
        for agents in counts
    ]


def over_length() -> list[dict[str, Any]]:
    return [
        in_own_process({"study": "length", "case": "A", "agents": 1, "steps": factor * BASE_STEPS})
        for factor in FACTORS
    ]


def over_startup() -> list[dict[str, Any]]:
    """Each case twice, the second time with the compilation cache that the first has filled."""
    rows = []
    for case in "ABCDE":
        with tempfile.TemporaryDirectory() as directory:
            rows += [
                in_own_process(
                    {"study": "startup", "case": case, "cache": cache},
                    JAX_COMPILATION_CACHE_DIR=directory,
                    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0.1",
                    TF_CPP_MIN_LOG_LEVEL="3",
                )
                for cache in ("empty", "filled")
            ]
    return rows


def in_own_process(point: dict[str, Any], **environment: str) -> dict[str, Any]:
    """Measure a point in a fresh process; what it prints is a line of JSON."""
    command = [sys.executable, __file__, "--point", json.dumps({**point, "began": time.time()})]
    done = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    return {**point, **json.loads(done.stdout)}


def measure(point: dict[str, Any]) -> dict[str, Any]:
    """Measure a point in this process."""
    from jaxppo.results import describe

    measured = first_update(point) if point["study"] == "startup" else training(point)
    made = describe()
    return {**measured, **{key: made[key] for key in ("versions", "device", "git_revision")}}


def first_update(point: dict[str, Any]) -> dict[str, Any]:
    """Compile time of `init` and `update`, and the time since the process was started."""
    import jax
    from case_config import case_config

    import jaxppo
    from jaxppo.compilation import compiler_options

    config, agents = case_config(point["case"]), CASES[point["case"]]["num_agents"]
    init, update = jaxppo.init, jaxppo.update
    key = jax.random.key(0)
    if agents > 1:
        init, update = jax.vmap(init, (None, 0)), jax.vmap(update, (None, 0))
        key = jax.random.split(key, agents)
    imported = time.time() - point["began"]
    began = time.perf_counter()
    state = jax.eval_shape(init, config, key)
    options = compiler_options(config)
    programs = [
        jax.jit(function, compiler_options=options).lower(config, argument).compile()
        for function, argument in ((init, key), (update, state))
    ]
    compile_s = time.perf_counter() - began
    jax.block_until_ready(programs[1](config, programs[0](config, key)))
    return {
        "import_s": round(imported, 3),
        "compile_s": round(compile_s, 3),
        "first_update_s": round(time.time() - point["began"], 3),
    }


def training(point: dict[str, Any]) -> dict[str, Any]:
    """Warm training runs, the median of several."""
    import jax
    from case_config import case_config

    import jaxppo
    from jaxppo.compilation import compiler_options

    agents = point["agents"]
    jaxppo.use_cores()
    config = case_config(point["case"], point["steps"])

    def keys(seed: int) -> jax.Array:
        return jax.random.split(jax.random.key(seed), agents)

    program = jax.jit(jaxppo.train_agents, compiler_options=compiler_options(config))
    compiled = program.lower(config, keys(0)).compile()
    seconds, _ = record.timed(lambda seed: jax.block_until_ready(compiled(config, keys(seed))), REPEATS)
    steps = config.num_updates * config.batch_size * agents
    return {
        "seconds": [round(each, 4) for each in seconds],
        "steps_per_s": round(steps / statistics.median(seconds)),
        "peak_mib": record.peak_mib(),
    }


def table(rows: list[dict[str, Any]], out: Path) -> str:
    first, revisions = rows[0], ", ".join(dict.fromkeys(row["git_revision"][:7] for row in rows))
    lines = [
        f"`python benchmarks/scaling.py {flags(rows)}--out {out}`",
        f"at {revisions} on {first['device']['kind']}, jax {first['versions']['jax']}.",
    ]
    heads = {
        "agents": "| agents of case A | steps each | steps/s, all agents | peak memory (MiB) |",
        "length": "| steps of case A | µs per step | peak memory (MiB) |",
        "startup": "| case | compilation cache | compile time (s) | "
        "from the start of the process to the first update (s) |",
    }
    for study, head in heads.items():
        if points := chosen(rows, study):
            lines += ["", head, "|" + "---|" * (head.count("|") - 1), *map(line, points)]
    return "\n".join(lines) + "\n"


def flags(rows: list[dict[str, Any]]) -> str:
    """Those that ask for these points, where they are not all that there are without."""
    studies = [study for study in STUDIES if chosen(rows, study)]
    counts = tuple(row["agents"] for row in chosen(rows, "agents"))
    named = f"--studies {' '.join(studies)} " if studies != list(STUDIES) else ""
    return named + (f"--agents {' '.join(map(str, counts))} " if counts not in ((), AGENTS) else "")


def line(row: dict[str, Any]) -> str:
    """A point's row in its study's table."""
    match row["study"]:
        case "agents":
            cells = (row["agents"], f"{row['steps']:,}", f"{row['steps_per_s']:,}", row["peak_mib"])
        case "length":
            cells = (f"{row['steps']:,}", f"{1e6 / row['steps_per_s']:.2f}", row["peak_mib"])
        case _:
            cells = (row["case"], row["cache"], f"{row['compile_s']:.2f}", f"{row['first_update_s']:.2f}")
    return f"| {' | '.join(map(str, cells))} |"


def chosen(rows: list[dict[str, Any]], study: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["study"] == study]


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """A panel per study."""
    panels = {"agents": draw_agents, "length": draw_length, "startup": draw_startup}
    studies = [study for study in panels if chosen(rows, study)]
    figure, axes = plt.subplots(1, len(studies), figsize=(4 * len(studies), 3.4), layout="constrained", squeeze=False)
    for study, axis in zip(studies, axes[0], strict=True):
        panels[study](axis, chosen(rows, study))
        axis.spines["top"].set_visible(False)
        axis.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_agents(axis: Axes, points: list[dict[str, Any]]) -> None:
    counts = [row["agents"] for row in points]
    axis.plot(counts, [row["steps_per_s"] / 1e3 for row in points], "o-", color="#0072B2")
    axis.set_xscale("log", base=4)
    axis.set_xticks(counts, counts)
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("agents at once, case A")
    axis.set_ylabel("thousand steps/s, all agents")
    roomy(axis)


def draw_length(axis: Axes, points: list[dict[str, Any]]) -> None:
    steps = [row["steps"] / 1e3 for row in points]
    axis.plot(steps, [1e6 / row["steps_per_s"] for row in points], "o-", color="#0072B2")
    axis.set_xscale("log", base=4)
    axis.set_xticks(steps, [f"{each:,.0f}" for each in steps])
    axis.minorticks_off()
    axis.set_xlabel("thousand steps of training, case A")
    axis.set_ylabel("µs per step", color="#0072B2")
    roomy(axis)
    memory = axis.twinx()
    memory.plot(steps, [row["peak_mib"] for row in points], "s--", color="#D55E00")
    memory.set_ylabel("peak memory (MiB)", color="#D55E00")
    roomy(memory, 1.4)
    memory.spines["top"].set_visible(False)


def draw_startup(axis: Axes, points: list[dict[str, Any]]) -> None:
    for i, (cache, colour) in enumerate((("empty", "#D55E00"), ("filled", "#009E73"))):
        bars = [row for row in points if row["cache"] == cache]
        places = [j + (i - 0.5) * 0.36 for j in range(len(bars))]
        whole = [row["first_update_s"] for row in bars]
        axis.bar(places, whole, 0.34, color=colour, alpha=0.4)
        axis.bar(places, [row["compile_s"] for row in bars], 0.34, color=colour, label=f"{cache} cache")
        axis.set_xticks(range(len(bars)), [row["case"] for row in bars])
    axis.set_xlabel("case")
    axis.set_ylabel("s to the first update;\ncompilation strong")
    roomy(axis, 1.2)
    axis.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)


def roomy(axis: Axes, factor: float = 1.1) -> None:
    """From 0 to beyond the highest value, for markers, a legend, or a line of another axis."""
    axis.set_ylim(0, factor * axis.dataLim.ymax)


if __name__ == "__main__":
    main()

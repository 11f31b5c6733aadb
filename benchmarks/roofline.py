"""Where the time of an update goes in each case, and how far it is from the machine's limit.

    python benchmarks/roofline.py [--cases A B …] [--repeats 5] [--out benchmarks/results/roofline]

The same as `jaxppo profile` on the cases, each in a process of its own. Writes OUT.jsonl, OUT.md and OUT.png; what
OUT.jsonl has of cases that are not measured again is kept.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import record
from cases import CASES
from matplotlib import pyplot as plt

COLOURS = {
    "collection": "#0072B2",
    "advantages": "#56B4E9",
    "shuffling": "#E69F00",
    "gradient": "#D55E00",
    "optimiser": "#CC79A7",
    "other": "#BBBBBB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of an update goes in each case.")
    parser.add_argument("--cases", nargs="+", choices=list("ABCDE"), default=list("ABCDE"))
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each part, of which the median counts")
    parser.add_argument("--out", type=Path, help="write OUT.jsonl, OUT.md and OUT.png")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args.repeats)))
        return
    rows = {row["case"]: row for row in record.read(args.out.with_suffix(".jsonl"))} if args.out else {}
    for case in args.cases:
        command = [sys.executable, __file__, "--case", case, "--repeats", str(args.repeats)]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(line, end="", flush=True)
        rows[case] = json.loads(line)
    if args.out:
        rows = dict(sorted(rows.items()))
        record.write(args.out.with_suffix(".jsonl"), rows.values())
        args.out.with_suffix(".md").write_text(table(rows))
        draw(args.out.with_suffix(".png"), rows)


def measure(name: str, repeats: int) -> dict[str, Any]:
    """The profile of one case, in this process."""
    import jax
    from case_config import case_config

    from jaxppo.profiling import profile_update
    from jaxppo.results import describe

    config, agents = case_config(name), CASES[name]["num_agents"]
    profile = profile_update(config, jax.random.key(0), agents=agents, repeats=repeats)
    made = describe()
    return {
        "case": name,
        "env": CASES[name]["env"],
        "agents": agents,
        "steps_per_s": round(profile.env_steps / profile.seconds),
        **profile._asdict(),
        "parts": [part._asdict() for part in profile.parts],
        "other_seconds": profile.other_seconds,
        "limits": profile.limits._asdict(),
        "command": shlex.join(["python", "benchmarks/roofline.py", "--cases", name, "--repeats", str(repeats)]),
        **{key: made[key] for key in ("versions", "device", "git_revision")},
    }


def fraction(row: dict[str, Any], limit: str) -> float:
    """The time that all parts would take at a limit, over that of the update."""
    return sum(part[limit] for part in row["parts"]) / row["seconds"]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """A line per case and part."""
    first = next(iter(rows.values()))
    lines = [
        "`python benchmarks/roofline.py --out benchmarks/results/roofline`",
        f"at {first['git_revision']} on {first['device']['kind']}, jax {first['versions']['jax']}.",
        "",
        "| case | part | time (µs) | share | MFLOP | GFLOP/s | MB | of peak | of its shapes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, row in rows.items():
        lines += [
            table_line(case, part["name"], f"{part['seconds'] / row['seconds']:.1%}", part) for part in row["parts"]
        ]
        other = row["other_seconds"]
        lines.append(f"| {case} | other | {other * 1e6:.4g} | {other / row['seconds']:.1%} |||||")
        whole = {name: sum(part[name] for part in row["parts"]) for name in row["parts"][0] if name != "name"}
        speed = f"{row['steps_per_s']:,} steps/s"
        lines.append(table_line(case, "**update**", speed, {**whole, "seconds": row["seconds"]}))
    return "\n".join(lines) + "\n"


def table_line(case: str, name: str, share: str, part: dict[str, Any]) -> str:
    return (
        f"| {case} | {name} | {part['seconds'] * 1e6:.4g} | {share} | {part['flops'] / 1e6:.4g} "
        f"| {part['flops'] / part['seconds'] / 1e9:.3g} | {part['num_bytes'] / 1e6:.3g} "
        f"| {part['peak_seconds'] / part['seconds']:.1%} | {part['shapes_seconds'] / part['seconds']:.1%} |"
    )


def draw(path: Path, rows: dict[str, dict[str, Any]]) -> None:
    """The parts of each case stacked beside the time of the whole, and the fractions of both limits."""
    figure, (split, limits) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained", width_ratios=(3, 2))
    labels = [f"{case}: {row['env']}" + f" × {row['agents']}" * (row["agents"] > 1) for case, row in rows.items()]
    bottom = [0.0] * len(rows)
    for name, colour in COLOURS.items():
        seconds = [
            max(0.0, row["other_seconds"]) if name == "other" else part_seconds(row, name) for row in rows.values()
        ]
        widths = [1e6 * second / row["env_steps"] for second, row in zip(seconds, rows.values(), strict=True)]
        split.barh(labels, widths, left=bottom, color=colour, label=name, height=0.6)
        bottom = [a + b for a, b in zip(bottom, widths, strict=True)]
    whole = [1e6 * row["seconds"] / row["env_steps"] for row in rows.values()]
    split.plot(whole, labels, "|", color="black", markersize=22, markeredgewidth=2, label="whole update")
    split.set_xlabel("µs per environment step")
    for i, (limit, label, colour) in enumerate(
        (("peak_seconds", "of peak", "#888888"), ("shapes_seconds", "of products of its shapes", "#009E73"))
    ):
        places = [j + (i - 0.5) * 0.3 for j in range(len(rows))]
        limits.barh(places, [100 * fraction(row, limit) for row in rows.values()], 0.28, color=colour, label=label)
    limits.set_yticks(range(len(rows)), list(rows))
    limits.set_xlabel("% of the machine's limit")
    for axis, columns in ((split, 4), (limits, 1)):
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3, axis="x")
        axis.legend(frameon=False, fontsize=8, ncols=columns, loc="lower left", bbox_to_anchor=(0, 1), markerscale=0.5)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def part_seconds(row: dict[str, Any], name: str) -> float:
    return next(part["seconds"] for part in row["parts"] if part["name"] == name)


if __name__ == "__main__":
    main()

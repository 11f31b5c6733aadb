"""jaxppo and its peers side by side: the cases of cases.py, in turns, on this machine.

    python benchmarks/compare.py [--cases A B …] [--repeats 5] [--quick] [--out benchmarks/results/throughput]

Each peer is installed from the package index into a virtual environment of its own under benchmarks/.venvs. Writes one
JSON line per measurement to OUT.jsonl and a Markdown table to OUT.md.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from cases import CASES

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput of jaxppo and its peers, side by side.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--repeats", type=int, default=5, help="warm runs per measurement, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps and 3 repeats")
    parser.add_argument("--out", type=Path, help="write OUT.jsonl and OUT.md")
    args = parser.parse_args()
    trainers = {
        "jaxppo": [sys.executable, str(HERE / "throughput.py")],
        "rejax": [str(install("rejax")), str(HERE / "peers" / "rejax_throughput.py")],
    }
    flags = ["--repeats", str(args.repeats)] + ["--quick"] * args.quick
    rows = []
    for case in args.cases:
        for command in trainers.values():
            done = subprocess.run([*command, "--case", case, *flags], check=True, capture_output=True, text=True)
            rows.append({**json.loads(done.stdout.splitlines()[-1]), "git_revision": revision()})
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if args.out:
        args.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        machine = f"{os.cpu_count()} × {platform.machine()} cores, Python {platform.python_version()}"
        command = f"`python benchmarks/compare.py {' '.join(sys.argv[1:])}`"
        note = f"{command} at {revision()} on {machine}, {rows[0]['device']} backend.\n\n"
        args.out.with_suffix(".md").write_text(note + table(rows))


def install(peer: str) -> Path:
    """The Python of the peer's virtual environment, made if it is not there yet."""
    environment = HERE / ".venvs" / peer
    python = environment / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        requirements = HERE / "peers" / f"requirements-{peer}.txt"
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements)], check=True)
    return python


def table(rows: list[dict]) -> str:
    """A Markdown table with the ratio of throughputs, jaxppo's over the peer's."""
    lines = [
        "| case | trainer | steps/s | ratio | compile (s) | peak memory (MiB) | return at the end |",
        "|---|---|---|---|---|---|---|",
    ]
    ours = {row["case"]: row["steps_per_s"] for row in rows if row["trainer"] == "jaxppo"}
    for row in rows:
        ratio = "" if row["trainer"] == "jaxppo" else f"{ours[row['case']] / row['steps_per_s']:.2f}"
        case = f"{row['case']} {row['env']}"
        cells = (case, row["trainer"], f"{row['steps_per_s']:,}", ratio, row["compile_s"], row["peak_mib"])
        lines.append("| " + " | ".join(map(str, (*cells, row["sampled_return"]))) + " |")
    return "\n".join(lines) + "\n"


def revision() -> str:
    """The git revision of this checkout."""
    command = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()

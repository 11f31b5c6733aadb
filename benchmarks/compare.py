"""jaxppo and its peers side by side: the cases of cases.py, in turns, on this machine.

    python benchmarks/compare.py [--trainers jaxppo rejax …] [--cases A B …] [--repeats 5] [--quick]
                                 [--out benchmarks/results/throughput]

Each peer is installed from the package index into a virtual environment of its own under benchmarks/.venvs; one that
fails is told of in a line, and the others go on. On a terminal a table is printed, elsewhere a line of JSON per
measurement. `--out` puts the lines into OUT.jsonl, in place of those of the same case and trainer, and draws OUT.md,
OUT.png and OUT.svg from all of them as report.py does. With `--quick`, jaxppo and rejax take about five minutes.
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import record
import report
from cases import CASES

from jaxppo.cores import cpu_name

HERE = Path(__file__).resolve().parent
TIMEOUT = 1800  # seconds for a measurement, after which a trainer hangs rather than works


class Trainer(NamedTuple):
    """How to measure a trainer.

    Attributes:
        script: its script and flags.
        cases: those that it can do.
        environment: what its virtual environment and its requirements are called; None for this Python's.
    """

    script: tuple[str, ...]
    cases: str
    environment: str | None


TRAINERS = {
    "jaxppo": Trainer(("throughput.py",), "ABCDEF", None),
    "rejax": Trainer(("peers/rejax_throughput.py",), "ABCDE", "rejax"),
    "brax": Trainer(("peers/brax_throughput.py",), "F", "brax"),
    "sbx": Trainer(("peers/sb3_throughput.py", "--trainer", "sbx"), "ABCE", "sb3"),
    "sb3": Trainer(("peers/sb3_throughput.py", "--trainer", "sb3"), "ABCE", "sb3"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Throughput of jaxppo and its peers, side by side.")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--repeats", type=int, help="warm runs per measurement, of which the median counts (5; quick: 3)"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    parser.add_argument("--out", type=Path, help="write OUT.jsonl, OUT.md, OUT.png and OUT.svg")
    args = parser.parse_args(arguments)
    flags = ["--repeats", str(args.repeats or (3 if args.quick else 5))] + ["--quick"] * args.quick
    rows = []
    for case in args.cases:
        for name in args.trainers:
            if case not in TRAINERS[name].cases:
                continue
            try:
                row = measure(name, case, flags)
            except (subprocess.SubprocessError, OSError) as error:
                print(f"{case} {name}: failed: {reason(error)}", file=sys.stderr, flush=True)
                continue
            rows.append(row)
            speed = f"{case} {row['env']}, {name}: {row['steps_per_s']:,} steps/s"
            print(speed if sys.stdout.isatty() else json.dumps(row), flush=True)
            if args.out:
                keep(args.out.with_suffix(".jsonl"), row)
    if sys.stdout.isatty():
        print(f"\n{report.table(rows)}")
    if args.out:
        report.write(args.out.with_suffix(".jsonl"))


def measure(name: str, case: str, flags: Sequence[str]) -> dict[str, Any]:
    """One trainer on one case, in a process of its own.

    Raises:
        subprocess.SubprocessError, OSError: it could not be installed, failed, or took longer than TIMEOUT.
    """
    script, *own = TRAINERS[name].script
    command = [str(install(TRAINERS[name].environment)), str(HERE / script), *own, "--case", case, *flags]
    started_at = time.time()
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=TIMEOUT)
    row = json.loads(done.stdout.splitlines()[-1])
    start_s = row.pop("began_at") - started_at  # imports, and what else comes before compilation
    return {
        **row,
        "start_s": round(start_s, 2),
        "machine": f"{os.cpu_count()} cores of {cpu_name()}, Python {platform.python_version()}",
        "git_revision": revision(),
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], HERE.parent), *sys.argv[1:]]),
    }


def install(environment: str | None) -> Path:
    """The Python of a virtual environment, which is made if it is not there yet, whole or not at all."""
    if environment is None:
        return Path(sys.executable)
    ready = HERE / ".venvs" / environment
    if not (ready / "installed").exists():
        requirements = HERE / "peers" / f"requirements-{environment}.txt"
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(ready)],
            [str(ready / "bin" / "python"), "-m", "pip", "install", "-q", "-r", str(requirements)],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True)
        (ready / "installed").touch()
    return ready / "bin" / "python"


def reason(error: Exception) -> str:
    """What went wrong, on one line."""
    written = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else ""
    return written.splitlines()[-1] if written else str(error)


def keep(lines: Path, row: dict[str, Any]) -> None:
    """Put the row in place of that of the same case and trainer, in the order of the two."""
    same = (row["case"], row["trainer"])
    rows = [each for each in record.read(lines) if (each["case"], each["trainer"]) != same]
    order = (list(CASES), list(TRAINERS))
    rows = sorted([*rows, row], key=lambda each: (order[0].index(each["case"]), order[1].index(each["trainer"])))
    record.write(lines, rows)


def revision() -> str:
    """The git revision of this checkout, followed by -dirty if anything but results was changed since; or `unknown`."""
    if shutil.which("git") is None:
        return "unknown"
    git = ["git", "-C", str(HERE.parent)]
    described = subprocess.run([*git, "describe", "--always"], check=False, capture_output=True, text=True)
    if described.returncode:
        return "unknown"
    changed = subprocess.run(
        [*git, "diff", "--quiet", "HEAD", "--", ".", ":!benchmarks/results"], check=False
    ).returncode
    return described.stdout.strip() + ("-dirty" if changed else "")


if __name__ == "__main__":
    main()

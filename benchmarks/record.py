"""What the script of every trainer does alike: its flags, the timing, its line of JSON, and files of such lines.

Nothing but the standard library and the cases: it runs in the virtual environments of the peers as well.
"""

import argparse
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import CASES

CURVE_POINTS = 30
EVALUATION = 1000  # seed of the first run's episodes at its end: each agent has its own, or they would err together


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of JSON in a file, none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Leave a line of JSON for each row."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def parser(description: str) -> argparse.ArgumentParser:
    """A parser of `--case`, `--repeats` and `--quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--repeats", type=int, default=5, help="warm runs, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps")
    return parser


def whole_updates(case: dict[str, Any], quick: bool) -> int:
    """Updates in the steps of a case, or in a tenth of them."""
    return case["total_timesteps"] // (10 if quick else 1) // (case["num_envs"] * case["num_steps"])


def timed(run: Callable[[int], Any], repeats: int) -> tuple[list[float], list[Any]]:
    """Seconds and results of `run(1)`, …, `run(repeats)`, each of which waits for its result, after a `run(0)`."""
    run(0)
    seconds, results = [], []
    for seed in range(1, repeats + 1):
        began = time.perf_counter()
        results.append(run(seed))
        seconds.append(time.perf_counter() - began)
    return seconds, results


def peak_mib() -> int:
    """Most memory that this process has held so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def curve(seconds: Sequence[float], returns: Sequence[float]) -> dict[str, list[float]]:
    """Returns against seconds of training, at most CURVE_POINTS means of neighbours; NaN is left out."""
    points = [(at, value) for at, value in zip(seconds, returns, strict=True) if not math.isnan(value)]
    size = max(1, math.ceil(len(points) / CURVE_POINTS))
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return {
        "seconds": [round(statistics.mean(at for at, _ in each), 4) for each in bins],
        "returns": [round(statistics.mean(value for _, value in each), 3) for each in bins],
    }


def line(
    trainer: str,
    case: str,
    *,
    steps: int,
    timed_steps: int,
    seconds: Sequence[float],
    began_at: float,
    compile_s: float | None,
    peak_mib: int,
    sampled_returns: Sequence[float],
    curve: dict[str, list[float]],
    packages: Sequence[str],
    device: str,
) -> str:
    """One measurement as JSON.

    Args:
        trainer: who was measured.
        case: its key in CASES.
        steps: environment steps of a run, over its agents, that `sampled_returns` were reached after.
        timed_steps: environment steps of each of `seconds`.
        seconds: of each warm run; `steps_per_s` goes by their median.
        began_at: when all was imported and compilation, or training, began; a `time.time()`.
        compile_s: seconds of compilation, or None where nothing compiles.
        peak_mib: memory that training took.
        sampled_returns: of each agent of each warm run, the mean return of episodes with sampled actions at the end.
        curve: see `curve`.
        packages: whose versions to note.
        device: what it ran on.
    """
    agents = len(sampled_returns)
    error = statistics.stdev(sampled_returns) / math.sqrt(agents) if agents > 1 else None
    return json.dumps(
        {
            "trainer": trainer,
            "case": case,
            "env": CASES[case]["env"],
            "steps": steps,
            "steps_per_s": round(timed_steps / statistics.median(seconds)),
            "seconds": [round(each, 4) for each in seconds],
            "began_at": began_at,
            "compile_s": None if compile_s is None else round(compile_s, 2),
            "peak_mib": peak_mib,
            "sampled_return": round(statistics.mean(sampled_returns), 2),
            "standard_error": None if error is None else round(error, 2),
            "trained_agents": agents,
            "curve": curve,
            "versions": {package: version(package) for package in packages},
            "device": device,
        }
    )

"""`jaxppo plot`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxppo.cli.flags import parse
from jaxppo.fields import ConfigError, check, suggest
from jaxppo.plot import write_curves
from jaxppo.results import read_metrics

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Draw a metric of one or more runs."""

    @dataclass(frozen=True)
    class Plot:
        """Draw a metric of one or more runs against environment steps and against wall time."""

        runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
        """Run directories."""
        metric: str = "episode_return"
        """Any name in a line of metrics.jsonl."""
        out: Path = Path("curves.png")
        """The picture, PNG or SVG."""

    args = parse(Plot, argv, "jaxppo plot")

    check(len(args.runs) > 0, "runs", "", "at least one run directory")
    check(args.out.suffix in (".png", ".svg"), "out", args.out, "a file that ends in .png or .svg")
    curves = {str(path): read_metrics(path) for path in args.runs}
    for path, metrics in curves.items():
        check(bool(metrics), "runs", path, "a run with at least one logged update")
        check(args.metric in metrics, "metric", args.metric, f"a logged metric; {suggest(args.metric, metrics)}")
        some = any(map(math.isfinite, metrics[args.metric]))
        check(some, "metric", args.metric, f"one with a value in {path}, where no update has any")
    try:
        write_curves(args.out, curves, args.metric)
    except OSError as error:
        raise ConfigError("out", args.out, f"a file that can be written; {error.strerror}") from error
    print(f"wrote {args.out}")
    return 0

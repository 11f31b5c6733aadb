"""`jaxppo reproduce`."""

import argparse
from pathlib import Path

from rich.console import Console

from jaxppo.fields import check
from jaxppo.plan import plan
from jaxppo.progress import Bar, Lines, count
from jaxppo.reproduce import EXPERIMENTS, SUITES, prepare, present
from jaxppo.sweeps import sweep

__all__ = ["main"]

QUICK_STEPS = 16_384


def main(argv: list[str]) -> int:
    """Train a published comparison again and draw it beside the published numbers."""
    args = _parser().parse_args(argv)
    steps = QUICK_STEPS if args.quick else args.total_timesteps
    seeds = (1 if args.quick else 3) if args.seeds is None else args.seeds
    experiment = prepare(args.name, args.suite, steps)
    planned = plan(experiment.configs, seeds)
    suite = "" if args.name == "minatar" else f"_{args.suite}"
    path = args.out or Path("reproductions") / f"{args.name}{suite}{'_quick' if args.quick else ''}"
    console = Console(highlight=False, soft_wrap=True)
    total = planned.steps(range(len(planned.configs)))
    console.print(f"{args.name}: {EXPERIMENTS[args.name]}")
    console.print(f"{len(planned.groups)} programs, {len(planned.configs)} agents, {count(total)} steps")
    progress = Bar(console, total) if console.is_terminal and not args.quiet else Lines(console, total)
    results = sweep(
        experiment.configs,
        seeds,
        path,
        labels=experiment.labels,
        overwrite=args.overwrite,
        progress=progress,
        log_interval=1,
    )
    if results.manifest["status"] == "interrupted":
        console.print(f"interrupted: {path}; launch it again to go on")
        return 130
    check(results.metrics["episodes"].sum() > 0, "total_timesteps", steps, "more, so that an episode ends")
    console.print(present(args.name, results, experiment.configs, path))
    console.print(f"finished: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    about = "\n".join(f"  {name}: {text}" for name, text in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="jaxppo reproduce",
        description="Train a published comparison again and draw it beside the published numbers.\n\n" + about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", choices=EXPERIMENTS, metavar="NAME", help="which")
    add("--suite", choices=SUITES, default="gymnax", help="the tasks of table1 and figure3 (default: gymnax)")
    add("--seeds", type=int, metavar="N", help="seeds of each setting (default: 3)")
    add("--total-timesteps", type=int, metavar="N", help="steps of each agent; as many as published if left out")
    add("--quick", action="store_true", help=f"a smoke run: {QUICK_STEPS} steps and one seed")
    add("--out", type=Path, help="directory; reproductions/NAME_SUITE if left out")
    add("--overwrite", action="store_true", help="replace an existing directory")
    add("--quiet", action="store_true", help="plain lines in place of the live bar")
    return parser

"""`jaxppo reproduce`."""

import argparse
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxppo.progress import Bar, Lines
from jaxppo.reproduce import EXPERIMENTS, QUICK_STEPS, prepare
from jaxppo.reproduce.paper import SUITES

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Train a published comparison again and draw it beside the published numbers."""
    args = _parser().parse_args(argv)
    experiment = EXPERIMENTS[args.name]
    options = _options(args)
    prepared = prepare(args.name, **options)
    suite = f"_{options.get('suite', 'gymnax')}" if "suite" in experiment.options else ""
    path = args.out or Path("reproductions") / f"{args.name}{suite}{'_quick' if args.quick else ''}"
    console = Console(highlight=False, soft_wrap=True)
    summary, steps = prepared.summary(), prepared.steps()
    console.print(f"{args.name}: {experiment.about}\n{summary}")
    progress = Bar(console, steps) if console.is_terminal and not args.quiet else Lines(console, steps)
    with closing(progress):
        finished = prepared.train(path, overwrite=args.overwrite, progress=progress)
    if not finished:
        console.print(f"interrupted: {path}; launch it again to go on" + ", without --overwrite" * args.overwrite)
        return 130
    console.print(prepared.present(path))
    console.print(f"finished: {path}")
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of the experiment that were given, over those of a smoke run if it is one."""
    given = {name: getattr(args, name) for name in ("suite", "seeds", "total_timesteps", "agents")}
    quick = EXPERIMENTS[args.name].quick if args.quick else {}
    return {**quick, **{name: value for name, value in given.items() if value is not None}}


def _parser() -> argparse.ArgumentParser:
    about = "\n".join(f"  {name}: {experiment.about}" for name, experiment in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="jaxppo reproduce",
        description="Train a published comparison again and draw it beside the published numbers.\n\n" + about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("name", choices=EXPERIMENTS, metavar="NAME", help="which")
    add("--suite", choices=SUITES, help="the tasks of table1 and figure3 (default: gymnax)")
    add("--seeds", type=int, metavar="N", help="seeds of each setting, but for scaling (default: 3)")
    add("--agents", type=int, metavar="N", help="the most agents at once, for scaling (default: 64)")
    add("--total-timesteps", type=int, metavar="N", help="steps of each agent; as many as published if left out")
    add("--quick", action="store_true", help=f"a smoke run: {QUICK_STEPS} steps, and one seed or 4 agents")
    add("--out", type=Path, help="directory; one in reproductions if left out")
    add("--overwrite", action="store_true", help="replace an existing directory")
    add("--quiet", action="store_true", help="plain lines in place of the live bar")
    return parser

"""`jaxppo train`."""

import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxppo import results
from jaxppo.cli.config import settings_class
from jaxppo.cli.flags import check_seed, parse, summary
from jaxppo.directories import filling
from jaxppo.fields import check
from jaxppo.loggers import chosen
from jaxppo.progress import Bar, Lines, count
from jaxppo.run import train_run
from jaxppo.settings import to_settings

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Train one agent, evaluate it, and leave a run directory."""
    settings, flags = settings_class(argv)

    @dataclass(frozen=True)
    class Train(settings):  # type: ignore[valid-type, misc]
        """Train one agent, evaluate it, and leave a run directory; launched again, a run that was stopped goes on.

        Flags win over the TOML file, the file over the environment's preset, and the preset over the defaults shown.
        Those of the network, the learner and the objective are shown for the ones chosen.
        """

        seed: int = 0
        """Seed of everything random."""
        out: Path | None = None
        """Run directory, new or of this very run to go on with; runs/ENV_SEED_TIME if left out."""
        overwrite: bool = False
        """Replace an existing run directory."""
        log_interval: int = 1
        """Log every so many updates, and the first 2 % and the last."""
        logger: tuple[str, ...] = ()
        """Also log to tensorboard or wandb, or both."""
        quiet: bool = False
        """Plain lines in place of the live bar."""

    args = parse(Train, [*flags, *argv], "jaxppo train")

    check(args.log_interval >= 1, "log_interval", args.log_interval, "a whole number >= 1")
    check_seed(args.seed)
    loggers = chosen(args.logger)
    config = args.settings
    path = args.out or Path("runs") / f"{config.make_env().name}_{args.seed}_{datetime.now():%Y%m%d-%H%M%S-%f}"
    console = Console(highlight=False, soft_wrap=True)
    total = config.num_updates * config.batch_size
    make = partial(results.open_run, path, config, args.seed, args.log_interval, overwrite=args.overwrite)
    with filling(path, make, results.begun):
        console.print(_brief(to_settings(config)))
        console.print(f"{count(total)} steps in {config.num_updates} updates of {config.num_envs} × {config.num_steps}")
        live = console.is_terminal and not args.quiet
        progress = Bar(console, total) if live else Lines(console, total)
        with closing(progress):
            outcome = train_run(config, args.seed, path, progress, loggers=loggers, log_interval=args.log_interval)
    done = outcome.num_updates * config.batch_size
    speed = count(done / max(outcome.train_seconds, 1e-9))
    console.print(f"{outcome.status} after {done} steps in {outcome.train_seconds:.1f} s ({speed} steps/s)")
    if outcome.returns is not None:
        console.print(summary(outcome.returns, "greedy"))
    console.print(f"run directory: {path}")
    if outcome.status == "interrupted":
        console.print(f"to go on, launch it again with --out {path} and without --overwrite")
    if outcome.status == "diverged":
        print(f"jaxppo train: not finite: {outcome.lost}", file=sys.stderr)
    return {"finished": 0, "diverged": 1, "interrupted": 130}[outcome.status]


def _brief(settings: dict[str, Any]) -> str:
    """The resolved settings on a few lines."""

    def show(value: Any) -> str:
        return (
            "×".join(map(str, value))
            if isinstance(value, tuple)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )

    words = [f"{name}={show(value)}" for name, value in settings.items() if value != {}]
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 100:
            lines.append("")
        lines[-1] += ("  " if lines[-1] else "") + word
    return "\n".join(lines)

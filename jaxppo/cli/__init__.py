"""The command line: one module for each command, imported when it is given."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from jaxppo.garbage import resting

__all__ = ["main"]

COMMANDS = {
    "train": "Train one agent, evaluate it, and leave a run directory.",
    "profile": "Tell where the time of an update goes.",
    "sweep": "Train many agents: grids or samples of settings, times seeds.",
    "evaluate": "Play whole episodes with the policy of a run.",
    "render": "Draw an episode of a run's policy as a GIF.",
    "plot": "Draw a metric of one or more runs.",
    "reproduce": "Train a published comparison again and draw it beside the published numbers.",
    "report": "Write the report of a sweep: a page of tables and figures.",
    "envs": "List the environments and whether jaxppo can train on them.",
}
TRAIN = ("train", "sweep", "reproduce")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if a run diverged, 2 for bad input, 130 if interrupted."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if not argv or argv[0] not in COMMANDS:
        _overview().parse_args(argv)
        return 2
    try:
        return _run(argv[0], argv[1:])
    except KeyboardInterrupt:
        print(f"jaxppo {argv[0]}: interrupted", file=sys.stderr)
        return 130


def _run(name: str, flags: list[str]) -> int:
    """Import the command and run it."""
    first = "jax" not in sys.modules  # whoever imported it has made choices already
    with resting():  # JAX is told of each collection, and an interrupt that comes just then would be lost
        from jaxppo.cache import keep_programs
        from jaxppo.fields import ConfigError

        keep_programs()
        if first and name in TRAIN:
            from jaxppo.devices import use_cores

            use_cores()
        command = importlib.import_module(f"jaxppo.cli.{name}")
    try:
        return int(command.main(flags))
    except ConfigError as error:
        print(f"jaxppo {name}: {error}", file=sys.stderr)
        return 2


def _overview() -> argparse.ArgumentParser:
    """The top level, which answers `--help` without importing anything slow; each command parses its own flags."""
    from jaxppo import __version__

    parser = argparse.ArgumentParser(prog="jaxppo", description="PPO and its relatives, in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxppo {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    parser.epilog = "`jaxppo COMMAND --help` tells of each command's flags."
    return parser

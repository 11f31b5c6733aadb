"""The command line: `jaxppo train`, `evaluate`, `render`, `plot` and `envs`."""

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

__all__ = ["main"]

T = TypeVar("T")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 if a run diverged, 2 for bad input, 130 if interrupted."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if argv and argv[0] in COMMANDS:
        from jaxppo.fields import ConfigError

        try:
            return COMMANDS[argv[0]](argv[1:])
        except ConfigError as error:
            print(f"jaxppo {argv[0]}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"jaxppo {argv[0]}: interrupted", file=sys.stderr)
            return 130
    _overview().parse_args(argv)
    return 2


def _overview() -> argparse.ArgumentParser:
    """The top level, which answers `--help` without importing anything slow; each command parses its own flags."""
    from jaxppo import __version__

    parser = argparse.ArgumentParser(prog="jaxppo", description="PPO and its relatives, in JAX.")
    parser.add_argument("--version", action="version", version=f"jaxppo {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=(command.__doc__ or "").splitlines()[0])
    parser.epilog = "`jaxppo COMMAND --help` tells of each command's flags."
    return parser


def _train(argv: list[str]) -> int:
    """Train one agent, evaluate it, and leave a run directory."""
    from jaxppo.config import Config
    from jaxppo.presets import METHODS
    from jaxppo.settings import KINDS, from_settings

    kinds, flags = _base(argv)
    defaults = from_settings(kinds)

    @dataclass(frozen=True)
    class Train:
        """Train one agent, evaluate it, and leave a run directory.

        Flags win over the TOML file, the file over the environment's preset, and the preset over the defaults shown.
        Those of the network, the learner and the objective are shown for the ones chosen.
        """

        settings: Config = defaults
        network: Literal[tuple(KINDS["network"])] = kinds.get("network", "mlp")  # type: ignore[valid-type]
        """The actor-critic network."""
        learner: Literal[tuple(KINDS["learner"])] = kinds.get("learner", "sgd")  # type: ignore[valid-type]
        """How the parameters move."""
        objective: Literal[tuple(KINDS["objective"])] = kinds.get("objective", "clip")  # type: ignore[valid-type]
        """What SGD maximises."""
        seed: int = 0
        """Seed of everything random."""
        out: Path | None = None
        """Run directory; runs/ENV_SEED_TIME if left out."""
        overwrite: bool = False
        """Replace an existing run directory."""
        config: Path | None = None
        """TOML file of settings, named as the flags are (num_envs = 64)."""
        preset: Literal[("auto", "none", *METHODS)] = "auto"  # type: ignore[valid-type]
        """auto: settings known to learn on the environment with this learner or objective; none: do without; or a
        method."""
        log_interval: int = 1
        """Log every so many updates."""
        quiet: bool = False
        """Plain lines in place of the live bar."""

    args = _parse(Train, [*flags, *argv], "jaxppo train")
    from rich.console import Console

    from jaxppo import results
    from jaxppo.fields import check
    from jaxppo.progress import Bar, Lines, count
    from jaxppo.settings import to_settings

    check(args.log_interval >= 1, "log_interval", args.log_interval, "a whole number >= 1")
    check(0 <= args.seed < 2**32, "seed", args.seed, "a whole number >= 0 and < 2^32")
    config = args.settings
    path = args.out or Path("runs") / f"{config.make_env().name}_{args.seed}_{datetime.now():%Y%m%d-%H%M%S-%f}"
    results.create(path, overwrite=args.overwrite)

    from jaxppo.run import train_run

    console = Console(highlight=False, soft_wrap=True)
    total = config.num_updates * config.batch_size
    console.print(_brief(to_settings(config)))
    console.print(f"{count(total)} steps in {config.num_updates} updates of {config.num_envs} × {config.num_steps}")
    live = console.is_terminal and not args.quiet
    progress = Bar(console, total) if live else Lines(console, total)
    outcome = train_run(config, args.seed, path, progress, log_interval=args.log_interval)
    done = outcome.num_updates * config.batch_size
    speed = count(done / max(outcome.train_seconds, 1e-9))
    console.print(f"{outcome.status} after {done} steps in {outcome.train_seconds:.1f} s ({speed} steps/s)")
    if outcome.returns is not None:
        console.print(_summary(outcome.returns, "greedy"))
    console.print(f"run directory: {path}")
    if outcome.status == "diverged":
        print(f"jaxppo train: the gradient was not finite in the last updates of {path}/metrics.jsonl", file=sys.stderr)
    return {"finished": 0, "diverged": 1, "interrupted": 130}[outcome.status]


def _evaluate(argv: list[str]) -> int:
    """Play whole episodes with the policy of a run."""
    import tyro

    @dataclass(frozen=True)
    class Evaluate:
        """Play whole episodes with the policy of a run, with its observation normaliser frozen."""

        run: Annotated[Path, tyro.conf.Positional]
        """Run directory."""
        episodes: int = 128
        """How many episodes."""
        stochastic: bool = False
        """Sample actions; otherwise the most likely one is taken."""
        seed: int = 0
        """Seed of the environments and the samples."""

    args = _parse(Evaluate, argv, "jaxppo evaluate")
    from jaxppo.fields import check

    check(args.episodes >= 1, "episodes", args.episodes, "a whole number >= 1")
    check(0 <= args.seed < 2**32, "seed", args.seed, "a whole number >= 0 and < 2^32")
    import jax
    import numpy as np

    from jaxppo import results
    from jaxppo.policy import evaluate

    run = results.load(args.run)
    greedy = not args.stochastic
    returns = evaluate(run.config, run.policy, jax.random.key(args.seed), args.episodes, greedy=greedy)
    print(_summary(np.asarray(returns), "greedy" if greedy else "sampled"))
    return 0


def _render(argv: list[str]) -> int:
    """Draw an episode of a run's policy as a GIF."""
    import tyro

    @dataclass(frozen=True)
    class Render:
        """Play one episode with the policy of a run and draw it as a GIF."""

        run: Annotated[Path, tyro.conf.Positional]
        """Run directory."""
        out: Path | None = None
        """The picture; RUN/episode.gif if left out."""
        stochastic: bool = False
        """Sample actions; otherwise the most likely one is taken."""
        max_steps: int = 500
        """Stop after so many steps."""
        seed: int = 0
        """Seed of the environment and the samples."""

    args = _parse(Render, argv, "jaxppo render")
    from jaxppo.fields import check

    check(1 <= args.max_steps <= 10_000, "max_steps", args.max_steps, "a whole number in [1, 10000]")
    check(0 <= args.seed < 2**32, "seed", args.seed, "a whole number >= 0 and < 2^32")
    import jax

    from jaxppo import results
    from jaxppo.render import render

    run = results.load(args.run)
    out = args.out or args.run / "episode.gif"
    key = jax.random.key(args.seed)
    episode = render(run.config, run.policy, key, out, greedy=not args.stochastic, max_steps=args.max_steps)
    print(f"wrote {out}: {len(episode.states) - 1} steps, return {episode.returns[-1]:.4g}")
    return 0


def _plot(argv: list[str]) -> int:
    """Draw a metric of one or more runs."""
    import tyro

    @dataclass(frozen=True)
    class Plot:
        """Draw a metric of one or more runs against environment steps and against wall time."""

        runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
        """Run directories."""
        metric: str = "episode_return"
        """Any name in a line of metrics.jsonl."""
        out: Path = Path("curves.png")
        """The picture, PNG or SVG."""

    args = _parse(Plot, argv, "jaxppo plot")
    from jaxppo.fields import ConfigError, check, suggest
    from jaxppo.plot import write_curves
    from jaxppo.results import read_metrics

    check(len(args.runs) > 0, "runs", "", "at least one run directory")
    check(args.out.suffix in (".png", ".svg"), "out", args.out, "a file that ends in .png or .svg")
    curves = {str(path): read_metrics(path) for path in args.runs}
    for path, metrics in curves.items():
        check(bool(metrics), "runs", path, "a run with at least one logged update")
        check(args.metric in metrics, "metric", args.metric, f"a logged metric; {suggest(args.metric, metrics)}")
    try:
        write_curves(args.out, curves, args.metric)
    except OSError as error:
        raise ConfigError("out", args.out, f"a file that can be written; {error.strerror}") from error
    print(f"wrote {args.out}")
    return 0


def _envs(argv: list[str]) -> int:
    """List the environments and whether jaxppo can train on them."""

    @dataclass(frozen=True)
    class Envs:
        """List the environments, their observations and actions, and whether jaxppo can train on them."""

    _parse(Envs, argv, "jaxppo envs")
    from rich.console import Console
    from rich.table import Table

    from jaxppo import envs
    from jaxppo.fields import ConfigError
    from jaxppo.presets import PRESETS

    table = Table("environment", "observation", "action", "preset", "trains", box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for name in envs.names():
        try:
            env = envs.make(name)
        except ConfigError as error:
            table.add_row(name, "", "", "", f"no: {str(error).rsplit('; ', 1)[-1]}")
            continue
        observation = f"{env.observation.dtype.name} {list(env.observation.shape)}"
        table.add_row(name, observation, str(env.action_space(env.params)), "yes" if name in PRESETS else "", "yes")
    Console(highlight=False).print(table)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": _train,
    "evaluate": _evaluate,
    "render": _render,
    "plot": _plot,
    "envs": _envs,
}


def _parse(cls: type[T], argv: list[str], prog: str) -> T:
    """Parse flags with tyro; a value that a config refuses is raised as the `ConfigError` that it is."""
    import tyro

    from jaxppo.fields import ConfigError

    config = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, args=argv, prog=prog, config=config)
    except SystemExit as ended:
        cause: BaseException | None = ended
        while cause is not None and not isinstance(cause, ConfigError):
            cause = cause.__context__
        if cause is not None:
            raise cause from None
        sys.stderr.write(complaint.getvalue())
        raise


def _base(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """What flags are parsed on top of: the kinds chosen, and the flags for a TOML file and the preset."""
    from jaxppo.presets import preset_settings
    from jaxppo.settings import KINDS, check_names, kinds_of, owned, read_toml, to_flags

    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("env", *KINDS):
        first.add_argument(f"--{name}", default=argparse.SUPPRESS)
    first.add_argument("--config", type=Path)
    first.add_argument("--preset", default="auto")
    try:
        typed = vars(first.parse_known_args(argv)[0])
    except argparse.ArgumentError:
        return {}, []  # a flag without its value, which the real parser will tell of
    file, method = typed.pop("config"), typed.pop("preset")
    settings = {**(read_toml(file, kinds_of(typed)) if file else {}), **typed}
    settings = preset_settings(settings.get("env", "CartPole-v1"), method, settings)
    for flag, following in zip(argv, [*argv, ""][1:], strict=True):
        written, given, value = flag.partition("=")
        value = value if given else following
        name = written.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and any(name in owned(kind) for kinds in KINDS.values() for kind in kinds.values()):
            check_names({**kinds_of(settings), name: value})  # a flag of a kind that was not chosen
    return kinds_of(settings), to_flags(settings)


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


def _summary(returns: Any, how: str) -> str:
    mean, std = returns.mean(), returns.std()
    extremes = f"min {returns.min():.4g}, max {returns.max():.4g}"
    return f"{how} return over {len(returns)} episodes: {mean:.2f} ± {std:.2f} (mean ± std; {extremes})"

"""`jaxppo sweep`."""

import argparse
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path

from rich.console import Console

from jaxppo.fields import check
from jaxppo.plan import plan
from jaxppo.population import Population
from jaxppo.presets import METHODS
from jaxppo.progress import Bar, Lines, count
from jaxppo.search import Range, configs_of, parse_values, read_sweep
from jaxppo.settings import every_field
from jaxppo.sweeps import sweep

__all__ = ["main"]

ABOUT = """Train every combination of the values given, each with every seed, in as few programs as can be.

Every setting of `jaxppo train` is a flag here and takes one or more values, such as --learning-rate 1e-4 3e-4;
lists are written with commas (--hidden 64,64 256,256), parameters as --env-params gravity=9.8,length=0.5. A real
number may also be drawn from a range: --learning-rate 1e-5:1e-2:log --samples 20. A sweep that was stopped goes on
where it was when it is launched again with the same flags and the same --out."""

DEFAULTS = {
    "seeds": 1,
    "out": None,
    "overwrite": False,
    "preset": "auto",
    "samples": 1,
    "search_seed": 0,
    "log_interval": 1,
    "logger": (),
    "memory_gib": None,
    "quiet": False,
    "pbt": None,
    **{f"pbt_{name}": getattr(Population(), name) for name in ("interval", "fraction", "factor")},
}
IN_FILES = DEFAULTS.keys() - {"out", "overwrite", "quiet"}


def main(argv: list[str]) -> int:
    """Train many agents: grids or samples of settings, times seeds."""
    typed = vars(_parser().parse_args(argv))
    if len(typed.get("seeds", ())) == 1:  # how many; a list of one in a file is which
        (typed["seeds"],) = typed["seeds"]
    file = read_sweep(typed["config"], IN_FILES) if "config" in typed else {}
    given = {name: parse_values(name, value) if name in every_field() else value for name, value in typed.items()}
    search = {**file, **given}  # flags win over the file
    for name in ("pbt", "logger"):
        words = file.get(name, [])
        ok = isinstance(words, list) and all(isinstance(word, str) for word in words)
        check(ok, name, words, "a list of names, such as those of the flag")
    ranges = [name for name, values in search.items() if isinstance(values, Range)]
    how_many = f"given, as how many to draw from the range of {''.join(ranges[:1])}"
    check(not ranges or "samples" in search, "samples", "", how_many)
    own = {**DEFAULTS, **{name: search.pop(name) for name in list(search) if name not in every_field()}}
    configs = configs_of(search, own["preset"], num_samples=own["samples"], seed=own["search_seed"])
    planned = plan(configs, own["seeds"])
    population = None
    if own["pbt"] is not None:
        perturb = tuple(name.replace("-", "_") for name in own["pbt"]) or ("learning_rate",)
        shape = {name: own[f"pbt_{name}"] for name in ("interval", "fraction", "factor")}
        population = Population(perturb=perturb, **shape, seed=own["search_seed"])
    path = own["out"] or Path("sweeps") / f"{datetime.now():%Y%m%d-%H%M%S-%f}"

    console = Console(highlight=False, soft_wrap=True)
    steps = planned.steps(range(len(planned.configs)))
    programs, agents = len(planned.groups), len(planned.configs)
    console.print(
        f"{_many(programs, 'program')}, {_many(agents, 'agent')} "
        f"({_many(len(configs), 'setting')} × {_many(agents // len(configs), 'seed')}), {count(steps)} steps"
    )
    live = console.is_terminal and not own["quiet"]
    progress = Bar(console, steps) if live else Lines(console, steps)
    with closing(progress):
        results = sweep(
            configs,
            own["seeds"],
            path,
            population=population,
            loggers=own["logger"],
            log_interval=own["log_interval"],
            memory_gib=own["memory_gib"],
            overwrite=own["overwrite"],
            progress=progress,
        )
    status = results.manifest["status"]
    console.print(f"{status}: {path}")
    if status == "interrupted":
        console.print(f"to go on, launch it again with --out {path} and without --overwrite")
        return 130
    diverged = int((results.agents["status"] == "diverged").sum())
    if diverged:
        print(f"jaxppo sweep: {_many(diverged, 'agent')} of {agents} diverged", file=sys.stderr)
    return 0


def _many(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")


def _parser() -> argparse.ArgumentParser:
    """Flags of the sweep itself, and one for every setting that there is; those not given are left out."""
    parser = argparse.ArgumentParser(
        prog="jaxppo sweep",
        description=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument_group("the sweep").add_argument
    add("--seeds", nargs="+", type=int, metavar="N", help="how many (0, 1, …), or several: which")
    add("--out", type=Path, help="directory for the tables; sweeps/TIME if left out")
    add("--overwrite", action="store_true", help="replace an existing directory")
    add("--config", type=Path, help="TOML file of the same; lists are values, tables {low, high, log} ranges")
    add("--preset", choices=("auto", "none", *METHODS), help="what settings are laid over")
    add("--samples", type=int, metavar="N", help="how many samples of the settings that have a range")
    add("--search-seed", type=int, metavar="N", help="seed of the samples and of populations")
    add("--log-interval", type=int, metavar="N", help="keep every so many updates, and the first 2 %% and the last")
    add("--logger", nargs="+", metavar="NAME", help="also log each agent to tensorboard or wandb, or both")
    add("--memory-gib", type=float, metavar="GIB", help="most memory to use on each device; most of what is free")
    add("--quiet", action="store_true", help="plain lines in place of the live bar")
    add = parser.add_argument_group("population-based training").add_argument
    add("--pbt", nargs="*", metavar="SETTING", help="perturb these while training; the learning rate if none is named")
    add("--pbt-interval", type=int, metavar="N", help=f"updates between generations; {DEFAULTS['pbt_interval']}")
    add("--pbt-fraction", type=float, metavar="F", help=f"share that is replaced; {DEFAULTS['pbt_fraction']}")
    add("--pbt-factor", type=float, metavar="F", help=f"what numbers are changed by; {DEFAULTS['pbt_factor']}")
    settings = parser.add_argument_group("settings, each with one or more values")
    for name in every_field():
        settings.add_argument(f"--{name.replace('_', '-')}", nargs="*", metavar="V")
    return parser

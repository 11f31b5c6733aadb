"""`jaxppo envs`."""

from dataclasses import dataclass

import jax
from rich.console import Console
from rich.table import Table

from jaxppo import envs
from jaxppo.cli.flags import parse
from jaxppo.fields import ConfigError
from jaxppo.presets import PRESETS

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """List the environments and whether jaxppo can train on them."""

    @dataclass(frozen=True)
    class Envs:
        """List the environments, their observations and actions, and whether jaxppo can train on them."""

    parse(Envs, argv, "jaxppo envs")

    table = Table("environment", "observation", "action", "preset", "trains", box=None, header_style="bold")
    table.columns[0].no_wrap = True
    for name in envs.names():
        try:
            env = envs.make(name)
        except ConfigError as error:
            table.add_row(name, "", "", "", f"no: {str(error).rsplit('; ', 1)[-1]}")
            continue
        observation = ", ".join(f"{x.dtype.name} {list(x.shape)}" for x in jax.tree.leaves(env.observation))
        table.add_row(name, observation, str(env.action_space(env.params)), "yes" if name in PRESETS else "", "yes")
    Console(highlight=False).print(table)
    return 0

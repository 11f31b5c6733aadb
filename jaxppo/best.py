"""The best setting of each environment of a sweep, as a file that `jaxppo train --config` takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from jaxppo.fields import ConfigError
from jaxppo.files import write_whole
from jaxppo.scoring import perturbed, score_table, summarise
from jaxppo.settings import KINDS, from_settings, to_settings
from jaxppo.tables import Results

__all__ = ["best_settings", "to_toml", "write_best"]


def best_settings(results: Results) -> dict[str, dict[str, Any]]:
    """The settings with the highest mean score in each environment, as `jaxppo.settings.from_settings` takes them.

    Those with diverged agents only where there are no others. Left out are environments and networks made in Python,
    which have no settings that say everything. Of a population it is the agent with the highest score, and the numbers
    that were perturbed are those that it ended with.
    """
    found = {}
    for env, rows in summarise(results).dropna(subset="mean").groupby("env", sort=False):
        agents = results.agents[results.agents["setting"] == rows["setting"].iloc[0]]
        row = _evolved(results, str(env)) if perturbed(results) else agents.iloc[0].to_dict()
        try:
            found[str(env)] = _settings(row)
        except ConfigError:
            continue
    return found


def write_best(best: Mapping[str, Mapping[str, Any]], path: Path) -> list[Path]:
    """Write best_ENV.toml for each environment of `best_settings` into the directory `path`; the files."""
    files = []
    for env, settings in best.items():
        files.append(path / f"best_{env.replace('/', '_')}.toml")
        write_whole(files[-1], to_toml(settings).encode())
    return files


def to_toml(settings: Mapping[str, Any]) -> str:
    """Settings as a TOML document, mappings as tables at its end."""
    lines = [f"{name} = {_toml(value)}" for name, value in settings.items() if not isinstance(value, Mapping)]
    for name, table in settings.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _evolved(results: Results, env: str) -> dict[str, Any]:
    """The row of the population's best agent in the environment, with the numbers that it ended with."""
    table = score_table(results)
    agent = table[table["env"] == env].nlargest(1, "score")["agent"].iloc[0]
    row = results.agents[results.agents["agent"] == agent].iloc[0].to_dict()
    last = results.metrics[results.metrics["agent"] == agent].iloc[-1]
    numbers = last[perturbed(results)]
    annealed = not pd.isna(row.get("anneal_lr")) and row["anneal_lr"]
    if annealed and "learning_rate" in numbers:
        num_updates = row["total_timesteps"] // (row["num_envs"] * row["num_steps"])
        numbers["learning_rate"] /= 1 - (last["update"] - 1) / num_updates
    return row | {str(name): float(f"{value:.6g}") for name, value in numbers.items()}


def _settings(row: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a row of the agents' table, with the types that their defaults have.

    Raises:
        ConfigError: settings that no config has.
    """
    kinds = {name: row[name] for name in KINDS if not pd.isna(row.get(name))}
    defaults = to_settings(from_settings({**kinds, "env": row["env"]}))
    settings = {}
    for name, default in defaults.items():
        if not pd.isna(row.get(name)):
            settings[name] = _typed(row[name], default)
        elif name in row and default is not None:
            settings[name] = None
    settings = {name: value for name, value in settings.items() if value != {}}
    from_settings(settings)
    return settings


def _typed(value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        return [int(part) for part in value.split()]
    if isinstance(default, Mapping):
        return json.loads(value)
    return float(value) if default is None else type(default)(value)


def _toml(value: Any) -> str:
    if value is None:
        return '"None"'  # as `load_toml` reads it
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)

"""The directory of a sweep: tables that any data-frame tool opens.

manifest.json            what was run, with what, where, and how it ended
agents.parquet           one row per agent, with every setting of its config
metrics/00000.parquet    one row per agent and logged update, of agents that trained together
unfinished.msgpack       where the agents under way stood, until they are done
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxppo.checkpoint import UNFINISHED, read_checkpoint
from jaxppo.fields import ConfigError, check
from jaxppo.files import write_whole
from jaxppo.loop import logged
from jaxppo.plan import Plan
from jaxppo.results import continued, launched, read_manifest, write_manifest
from jaxppo.settings import to_cells

__all__ = [
    "Results",
    "agents_table",
    "begun",
    "close_sweep",
    "finished_agents",
    "load_results",
    "open_sweep",
    "write_metrics",
]


class Results(NamedTuple):
    """A sweep read from its directory.

    Attributes:
        manifest: command, versions, device, git revision, status ("running", "interrupted" or "finished").
        agents: one row per agent: `agent` its number, `setting` that of its config, `seed`, `label` if its config was
            given one, then every setting by its flat name, missing where its config has none; `status` is "finished",
            "diverged" where its last logged gradient was not finite, or "unfinished".
        metrics: one row per agent and logged update: `agent`, `update` (from 1), `env_steps`, `wall_time` (seconds of
            training, compilation apart; shared by agents that trained together), and the rest of `Metrics` by name;
            of unfinished agents, as far as their checkpoint goes.
    """

    manifest: dict[str, Any]
    agents: pd.DataFrame
    metrics: pd.DataFrame


def load_results(path: str | Path) -> Results:
    """Read the directory of a sweep, finished or not.

    Raises:
        ConfigError: not such a directory, or one that can't be read.
    """
    path = Path(path)
    check((path / "agents.parquet").is_file(), "dir", path, "the directory of a sweep, with a file agents.parquet")
    try:
        manifest = read_manifest(path)
        agents = pd.read_parquet(path / "agents.parquet")
        under_way = _under_way(path, manifest, agents)  # first, since the file goes once the tables have them
        files = sorted((path / "metrics").glob("*.parquet"))
        metrics = [pd.read_parquet(file) for file in files]
    except (OSError, ValueError) as error:
        raise ConfigError("dir", path, f"the directory of a sweep; {str(error).splitlines()[0]}") from error
    done = {agent for table in metrics for agent in table["agent"]}
    metrics += [table[~table["agent"].isin(done)] for table in under_way]
    rows = pd.concat(metrics, ignore_index=True) if metrics else pd.DataFrame({"agent": [], "update": []})
    rows = rows.sort_values(["agent", "update"], ignore_index=True)
    finite = dict(np.isfinite(rows["grad_norm"]).groupby(rows["agent"]).last()) if metrics else {}
    words = {agent: "finished" if value else "diverged" for agent, value in finite.items() if agent in done}
    status = [words.get(agent, "unfinished") for agent in agents["agent"]]
    return Results(manifest, agents.assign(status=status), rows)


def agents_table(planned: Plan, labels: Sequence[str] | None = None) -> pd.DataFrame:
    """A row for each agent, with the label of its config if there are any."""
    rows = [
        {"setting": setting, "seed": seed, **to_cells(config)}
        for config, seed, setting in zip(planned.configs, planned.seeds, planned.settings, strict=True)
    ]
    table = pd.DataFrame(rows).rename_axis("agent").reset_index()
    if labels is not None:
        table.insert(3, "label", [labels[setting] for setting in planned.settings])
    return table


def open_sweep(path: Path, agents: pd.DataFrame, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make the directory of a sweep, or go on with that of the same one, of the same agents: for `directories.filling`.

    Raises:
        ConfigError: there is something else, or a table that can't be read.
    """
    identity = agents.to_json(orient="records", double_precision=15) + json.dumps(settings)
    fingerprint = hashlib.sha256(identity.encode()).hexdigest()
    ours = "a new directory, or that of a sweep of jaxppo's"
    same = "a new directory, or one of the very same sweep to go on with; or add --overwrite"
    known = continued(path, {"agents": fingerprint}, ours, same, overwrite=overwrite)
    if known and known.get("status") == "finished" and finished_agents(path) == set(agents["agent"]):
        return  # nothing is left to do
    (path / "metrics").mkdir(parents=True, exist_ok=True)
    _write_table(path / "agents.parquet", agents)
    launched(path, known, {**settings, "agents": fingerprint})


def close_sweep(path: Path, status: str) -> None:
    """Note how the sweep ended."""
    write_manifest(path, {**read_manifest(path), "status": status})


def begun(path: Path) -> bool:
    """Whether the directory of a sweep has any metrics."""
    return (path / UNFINISHED).is_file() or any((path / "metrics").glob("*.parquet"))


def finished_agents(path: Path) -> set[int]:
    """The agents whose metrics are complete.

    Raises:
        ConfigError: a table that can't be read.
    """
    agents: set[int] = set()
    for file in (path / "metrics").glob("*.parquet"):
        try:
            agents.update(map(int, pd.read_parquet(file, columns=["agent"])["agent"].unique()))
        except (OSError, ValueError) as error:
            allowed = "a table that can be read, or no such file, and its agents are trained again"
            raise ConfigError("out", file, f"{allowed}; {str(error).splitlines()[0]}") from error
    return agents


def write_metrics(path: Path, agents: Sequence[int], metrics: Mapping[str, np.ndarray], log_interval: int) -> None:
    """Add the metrics [R, updates] of agents that are done: of those updates that are to be `logged`."""
    count = metrics["env_steps"].shape[1]
    table = _rows(agents, metrics, logged(np.arange(1, count + 1), count, log_interval))
    taken = [int(file.stem) for file in (path / "metrics").glob("*.parquet") if file.stem.isdecimal()]
    _write_table(path / "metrics" / f"{max(taken, default=-1) + 1:05}.parquet", table)


def _under_way(path: Path, manifest: Mapping[str, Any], agents: pd.DataFrame) -> list[pd.DataFrame]:
    """The metrics of the agents in the checkpoint, if there is one."""
    checkpoint = read_checkpoint(path) if "log_interval" in manifest else None  # not of an earlier version
    if checkpoint is None:
        return []
    one = agents[agents["agent"] == checkpoint.agents[0]].iloc[0]
    num_updates = one["total_timesteps"] // (one["num_envs"] * one["num_steps"])
    kept = logged(np.arange(1, checkpoint.done + 1), num_updates, manifest["log_interval"])
    return [_rows(checkpoint.agents, checkpoint.metrics, kept)]


def _rows(agents: Sequence[int], metrics: Mapping[str, np.ndarray], kept: np.ndarray) -> pd.DataFrame:
    """A row per agent and update that is kept, bool [updates], of metrics [R, updates]."""
    update = np.flatnonzero(kept) + 1
    numbers = {"agent": np.repeat(np.asarray(agents, np.int32), len(update)), "update": np.tile(update, len(agents))}
    return pd.DataFrame(numbers | {name: values[:, kept].reshape(-1) for name, values in metrics.items()})


def _write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet, whole or not at all."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    write_whole(path, buffer.getvalue())

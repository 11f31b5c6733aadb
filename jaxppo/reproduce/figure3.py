"""Figure 3 of the PPO paper: PPO beside other policy gradients on continuous control (Schulman et al. 2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxppo.config import Config
from jaxppo.files import write_whole
from jaxppo.presets import METHODS
from jaxppo.reproduce.comparison import Comparison
from jaxppo.reproduce.paper import SUITES, on_suite
from jaxppo.reproduce.scores import INTERVALS, diverged, interval, normalised, random_returns, scored
from jaxppo.tables import Results

__all__ = ["FIGURE3", "claim", "compare", "prepare"]

# The methods that are policy gradients; those on-policy with the step sizes of their presets.
FIGURE3: dict[str, dict[str, Any]] = {
    "PPO-clip": {"clip_eps": 0.2},
    "PPO, adaptive KL": {"objective": "adaptive-kl", "kl_target": 0.01},
    "A2C": {**METHODS["a2c"], "num_envs": 16, "num_steps": 8},
    "policy gradient": METHODS["policy-gradient"],
    "TRPO": {"learner": "trust-region"},
}
OURS = "PPO-clip"


def prepare(suite: str = "gymnax", seeds: int = 3, total_timesteps: int | None = None) -> Comparison:
    """Every method on every task of the suite."""
    configs = on_suite(suite, FIGURE3.values(), total_timesteps)
    return Comparison(configs, list(FIGURE3) * len(SUITES[suite]), seeds, _draw)


def compare(results: Results, random: Mapping[str, float]) -> pd.DataFrame:
    """A row for each method and environment, and for each method and "normalised": `mean`, `low` and `high`.

    Means are of the runs' last episodes; normalised ones, over all environments where some method is better than
    random, are 0 for a random policy and 1 for the best method of each.

    Raises:
        ConfigError: that is so nowhere.
    """
    agents = scored(results, random)
    scaled = normalised(agents, random)
    known = [method for method in FIGURE3 if method in scaled]
    rows = [{"method": method, "env": "normalised", **interval(scaled[method])._asdict()} for method in known]
    for (env, method), runs in agents.groupby(["env", "label"], sort=False):
        found = interval({str(env): runs["score"].to_numpy()})
        rows.append({"method": method, "env": env, **found._asdict()})
    return pd.DataFrame(rows)


def claim(table: pd.DataFrame) -> str:
    """On how many tasks PPO-clip is the best, and on how many it can't be told from the best.

    Args:
        table: from `compare`.
    """
    first, close = 0, 0
    tasks = [rows.to_dict("records") for env, rows in table.groupby("env") if env != "normalised"]
    for rows in tasks:
        best = max(rows, key=lambda row: row["mean"])
        first += best["method"] == OURS
        close += any(row["method"] == OURS != best["method"] and row["mean"] >= best["low"] for row in rows)
    return (
        f"{OURS} is the best of {len(FIGURE3)} methods on {first} of {len(tasks)} tasks, and within the 95 % interval "
        f"of the best on {close} more (the paper: better than the others on almost all of its 7)."
    )


def _draw(results: Results, configs: list[Config], path: Path) -> str:
    random = random_returns(configs)
    table = compare(results, random)
    best = table.groupby("env")["mean"].max()
    lost = [env for env in random if best.get(env, np.nan) <= random[env]]
    note = (
        f"\nNot normalised, since nothing there was better than a random policy: {', '.join(lost)}.\n" if lost else ""
    )
    text = "\n".join(filter(None, [_markdown(table), diverged(results), f"{claim(table)}\n{note}", INTERVALS]))
    write_whole(path / "figure3.md", text.encode())
    return text + f"wrote {path}/curves.png and .svg"


def _markdown(table: pd.DataFrame) -> str:
    """A row for each method, the highest normalised score first."""
    envs = list(dict.fromkeys(table["env"]))
    order = table[table["env"] == "normalised"].sort_values("mean", ascending=False)["method"]
    cells = {(row["method"], row["env"]): _cell(row) for row in table.to_dict("records")}
    lines = ["Mean return of a run's last 100 episodes, with its 95 % interval over seeds.", ""]
    lines += ["| method | " + " | ".join(envs) + " |", "|---" * (1 + len(envs)) + "|"]
    lines += [f"| {method} | " + " | ".join(cells.get((method, env), "–") for env in envs) + " |" for method in order]
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[Any, Any]) -> str:
    digits = ".2f" if row["env"] == "normalised" else ".4g"
    between = "" if np.isnan(row["low"]) else f" ({row['low']:{digits}} … {row['high']:{digits}})"
    return f"{row['mean']:{digits}}{between}"

"""Table 1 of the PPO paper: its surrogates, beside their published scores (Schulman et al. 2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxppo.config import Config
from jaxppo.figures import save
from jaxppo.files import write_whole
from jaxppo.plot import COLOURS
from jaxppo.reproduce.comparison import Comparison
from jaxppo.reproduce.paper import SUITES, on_suite
from jaxppo.reproduce.scores import INTERVALS, diverged, interval, normalised, random_returns, scored
from jaxppo.tables import Results

__all__ = ["TABLE1", "compare", "orderings", "prepare"]

# Settings and published score.
TABLE1: dict[str, tuple[dict[str, Any], float]] = {
    "no clipping or penalty": ({"objective": "unclipped"}, -0.39),
    **{f"clipping, ε = {eps:g}": ({"clip_eps": eps}, score) for eps, score in ((0.1, 0.76), (0.2, 0.82), (0.3, 0.70))},
    **{
        f"adaptive KL, d = {target:g}": ({"objective": "adaptive-kl", "kl_target": target}, score)
        for target, score in ((0.003, 0.68), (0.01, 0.74), (0.03, 0.71))
    },
    **{
        f"fixed KL, β = {coef:g}": ({"objective": "fixed-kl", "kl_coef": coef}, score)
        for coef, score in ((0.3, 0.62), (1.0, 0.71), (3.0, 0.72), (10.0, 0.69))
    },
}


def prepare(suite: str = "gymnax", seeds: int = 3, total_timesteps: int | None = None) -> Comparison:
    """Every setting on every task of the suite."""
    configs = on_suite(suite, (settings for settings, _ in TABLE1.values()), total_timesteps)
    return Comparison(configs, list(TABLE1) * len(SUITES[suite]), seeds, _draw)


def compare(results: Results, random: Mapping[str, float]) -> pd.DataFrame:
    """A row for each setting: published and measured normalised score, its 95 % interval, and that of each environment.

    Raises:
        ConfigError: no setting is better than random in any environment.
    """
    scaled = normalised(scored(results, random), random)
    table = []
    for label, (_, published) in TABLE1.items():
        mean, low, high = interval(scaled[label])
        row: dict[str, Any] = {"setting": label, "published": published, "measured": mean, "low": low, "high": high}
        table.append({**row, **{env: float(runs.mean()) for env, runs in scaled[label].items()}})
    return pd.DataFrame(table)


def orderings(table: pd.DataFrame) -> list[str]:
    """Which of the paper's orderings the measured scores show."""
    score = table.set_index("setting")["measured"]
    none = score["no clipping or penalty"]
    best = {kind: score[score.index.str.startswith(kind)].max() for kind in ("clipping", "adaptive KL", "fixed KL")}
    claims = {
        "clipping with ε = 0.2 is the best of all": score.idxmax() == "clipping, ε = 0.2",
        "the best clipping is above the best adaptive KL": best["clipping"] > best["adaptive KL"],
        "the best adaptive KL is above the best fixed KL": best["adaptive KL"] > best["fixed KL"],
        "every restraint is above none": bool((score.drop("no clipping or penalty") > none).all()),
    }
    return [f"{'holds' if held else 'does not hold'}: {claim}" for claim, held in claims.items()]


def _draw(results: Results, configs: list[Config], path: Path) -> str:
    table = compare(results, random_returns(configs))
    lines = [_markdown(table), *filter(None, [diverged(results)]), INTERVALS]
    write_whole(path / "table1.md", "\n".join(lines).encode())
    save(_bars(table), path / "table1")
    lost = [env for env in results.agents["env"].unique() if env not in table]
    note = [f"left out, since nothing there was better than a random policy: {', '.join(lost)}"] if lost else []
    return "\n".join([*lines, *orderings(table), *note])


def _markdown(table: pd.DataFrame) -> str:
    envs = [str(name) for name in table if name not in ("setting", "published", "measured", "low", "high")]
    lines = ["| setting | published | measured | 95 % interval | " + " | ".join(envs) + " |"]
    lines.append("|---" * (4 + len(envs)) + "|")
    for row in table.to_dict("records"):
        known = "1 seed" if np.isnan(row["low"]) else f"{row['low']:.2f} … {row['high']:.2f}"
        cells = [known, *(f"{row[env]:.2f}" for env in envs)]
        lines.append(
            f"| {row['setting']} | {row['published']:.2f} | {row['measured']:.2f} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines) + "\n"


def _bars(table: pd.DataFrame) -> Figure:
    """Measured beside published scores."""
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axis = figure.subplots()
    place = -np.arange(len(table))
    error = np.abs(np.stack([table["measured"] - table["low"], table["high"] - table["measured"]]))
    known = not np.isnan(error).any()
    axis.barh(place + 0.2, table["published"], 0.38, color=COLOURS[5], label="PPO paper, 7 MuJoCo tasks")
    label = "measured, with 95 % interval" if known else "measured, 1 seed"
    axis.barh(place - 0.2, table["measured"], 0.38, xerr=error if known else None, color=COLOURS[0], label=label)
    axis.set_yticks(place, table["setting"])
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("normalised score: 0 random policy, 1 best setting of each environment")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    return figure

"""PPO-clip on the MinAtar games, beside the levels that others report."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxppo.config import Config
from jaxppo.files import write_whole
from jaxppo.presets import preset
from jaxppo.reproduce.comparison import Comparison
from jaxppo.reproduce.scores import INTERVALS, diverged, interval, scored
from jaxppo.tables import Results

__all__ = ["MINATAR", "compare", "prepare"]

# Mean return by environment steps, off the plots of others. Seaquest is left out, since gymnax steps it slowly.
MINATAR = {
    "Asterix-MinAtar": "15 to 20 by 1e7 (gymnax-blines, pgx)",
    "Breakout-MinAtar": "8 by 1e6, 35 to 50 by 1e7 (PureJaxRL, pgx)",
    "Freeway-MinAtar": "55 to 63 by 1e7 (gymnax-blines, pgx)",
    "SpaceInvaders-MinAtar": "58 by 1e6, 130 to 150 by 1e7 (gymnax-blines, pgx)",
}


def prepare(seeds: int = 3, total_timesteps: int | None = None) -> Comparison:
    """Each game with its preset."""
    steps: dict[str, Any] = {} if total_timesteps is None else {"total_timesteps": total_timesteps}
    return Comparison([preset(game, **steps) for game in MINATAR], ["PPO-clip"] * len(MINATAR), seeds, _draw)


def compare(results: Results) -> pd.DataFrame:
    """A row for each game: `steps`, what its runs scored (`mean`, `low`, `high`, `worst`, `best`), and `published`.

    A random policy scores next to nothing in these games, so that a run that diverged has 0.
    """
    table = []
    steps = results.metrics.groupby("agent")["env_steps"].max()
    for game, runs in scored(results, dict.fromkeys(MINATAR, 0.0)).groupby("env", sort=False):
        scores = runs["score"].to_numpy()
        found = interval({str(game): scores})._asdict()
        spread = {"worst": scores.min(), "best": scores.max(), "published": MINATAR[str(game)]}
        table.append({"game": game, "steps": int(steps[runs["agent"]].max()), **found, **spread})
    return pd.DataFrame(table)


def _draw(results: Results, configs: list[Config], path: Path) -> str:
    text = "\n".join(filter(None, [_markdown(compare(results)), diverged(results), INTERVALS]))
    write_whole(path / "minatar.md", text.encode())
    return text + f"\nwrote {path}/curves.png and .svg"


def _markdown(table: pd.DataFrame) -> str:
    lines = ["Mean return of a run's last 100 episodes.", ""]
    lines += ["| game | steps | mean | 95 % interval | worst … best seed | published |", "|---|---|---|---|---|---|"]
    for row in table.to_dict("records"):
        known = "1 seed" if np.isnan(row["low"]) else f"{row['low']:.4g} … {row['high']:.4g}"
        spread = f"{row['worst']:.4g} … {row['best']:.4g}"
        lines.append(
            f"| {row['game']} | {row['steps']:,} | {row['mean']:.4g} | {known} | {spread} | {row['published']} |"
        )
    return "\n".join(lines) + "\n"

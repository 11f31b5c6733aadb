"""Scores of a sweep's agents, what was swept, and summaries by setting."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from jaxppo import stats
from jaxppo.fields import check
from jaxppo.settings import KINDS
from jaxppo.tables import Results

__all__ = [
    "aggregate",
    "labels",
    "perturbed",
    "random_scores",
    "ranked",
    "score_table",
    "scores",
    "shared_settings",
    "summarise",
    "swept",
]

NOT_SETTINGS = (
    "agent",
    "setting",
    "seed",
    "label",
    "status",
    "env",
)  # columns of the agents' table that are no swept fields
AGGREGATES = {
    "IQM": stats.iqm,
    "mean": stats.mean,
    "median": stats.median,
    "optimality gap": stats.optimality_gap,
}


def scores(results: Results, fraction: float = 0.1) -> pd.Series:
    """Each agent's mean episode return over the last tenth of its updates, by agent.

    Every logged update in which an episode ended counts the same; NaN for an agent without such an update there, and
    for one that diverged, whose returns may still be finite: those of an action that is always the same.

    Raises:
        ConfigError: no agent has a score, or a bad fraction.
    """
    check(0 < fraction <= 1, "fraction", fraction, "a number > 0 and <= 1")
    metrics = _returns(results)
    last = results.metrics.groupby("agent")["update"].max().reindex(metrics["agent"]).to_numpy()
    tail = metrics["update"] > last - np.maximum(1, np.floor(fraction * last))
    means = metrics[tail].groupby("agent")["episode_return"].mean().reindex(results.agents["agent"])
    means[(results.agents["status"] == "diverged").to_numpy()] = np.nan
    check(bool(means.notna().any()), "metrics", "no return", "those of an agent whose last updates ended an episode")
    return means.rename("score")


def random_scores(results: Results, fraction: float = 0.02) -> pd.Series:
    """What a random policy scores in each environment, as the first updates tell.

    The mean return over the first 2 % of an agent's updates, which reach at least to its first episode's end, averaged
    over all agents in the environment that ended one.
    """
    metrics = _returns(results)
    last = results.metrics.groupby("agent")["update"].max().reindex(metrics["agent"]).to_numpy()
    first = metrics.groupby("agent")["update"].transform("min")
    head = metrics["update"] <= np.maximum(first, np.floor(fraction * last))
    means = metrics[head].groupby("agent")["episode_return"].mean().rename("score").reset_index()
    return means.merge(results.agents[["agent", "env"]], on="agent").groupby("env")["score"].mean()


def swept(agents: pd.DataFrame) -> list[str]:
    """The settings that were varied within some environment, but for the environment itself.

    A kind of network, learner or objective brings settings and defaults of its own; these count only if they vary among
    agents of the same kinds. A missing value is a value, such as no limit.
    """
    kinds = [name for name in KINDS if name in agents]
    others = [str(name) for name in agents if name not in (*NOT_SETTINGS, *kinds)]

    def varies(name: str, within: list[str]) -> bool:
        return bool(agents.groupby(within, dropna=False)[name].nunique(dropna=False).max() > 1)

    chosen = [name for name in kinds if varies(name, ["env"])]
    return [*chosen, *(name for name in others if varies(name, ["env", *kinds]))]


def perturbed(results: Results) -> list[str]:
    """The settings that a population changed while it trained; none if the agents were none."""
    population = results.manifest.get("population") or {}
    return list(population.get("perturb", ()))


def labels(agents: pd.DataFrame) -> pd.Series:
    """A text for each agent that tells its setting from the others of its environment, such as `"gamma=0.9"`.

    Agents in different environments with the same swept settings have the same label; "" if nothing was swept. Labels
    that configs were given win.
    """
    if "label" in agents:
        return agents["label"]
    kinds = [name for name in KINDS if name in agents]
    parts = []
    for name in swept(agents):
        words = name + "=" + texts(agents[name])
        known = agents.groupby(kinds, dropna=False)[name].transform("count")
        parts.append(words.where(known > 0, ""))  # a setting that agents of these kinds have not
    joined = [", ".join(filter(None, words)) for words in zip(*parts, strict=True)] if parts else ""
    return pd.Series(joined, index=agents.index, name="label", dtype=object)


def texts(values: pd.Series) -> pd.Series:
    """Settings as short texts, with as few digits as tell them apart."""
    for digits in (3, 6, 17):
        shown = values.map(lambda value, digits=digits: _text(value, digits), na_action=None)
        if shown.nunique() == values.nunique(dropna=False):
            break
    return shown


def score_table(results: Results) -> pd.DataFrame:
    """A row for each agent with a score: `agent`, `setting`, `seed`, `env`, `label`, `lost`, `score` and `normalised`.

    `lost` says whether other agents of its setting diverged. Normalised scores are 0 for a random policy and 1 for the
    mean score of the environment's best setting, as in table 1 of Schulman et al. 2017 (§6.1); NaN where no setting is
    better than random. The best is one that lost no agent, if there are any.
    """
    diverged = results.agents["status"] == "diverged"
    table = results.agents[["agent", "setting", "seed", "env"]].assign(
        label=labels(results.agents),
        lost=diverged.groupby(results.agents["setting"]).transform("any"),
        score=scores(results).to_numpy(),
    )
    table = table[table["score"].notna()].reset_index(drop=True)
    means = table.groupby(["env", "lost", "setting"])["score"].mean().groupby(["env", "lost"]).max()
    best = means.groupby("env").first().reindex(table["env"]).to_numpy()  # False, of what was not lost, comes first
    random = random_scores(results).reindex(table["env"]).to_numpy()
    learned = np.where(best > random, best - random, np.nan)
    return table.assign(normalised=(table["score"] - random) / learned)


def summarise(results: Results) -> pd.DataFrame:
    """A row for each setting that has scores or diverged agents, the best of each environment first.

    Settings with diverged agents come after those without, since means are of the agents that are left.

    Columns: `env`, `setting`, the swept settings, `seeds` (with a score), `diverged` (agents that did), `mean`, `low`
    and `high` (95 % bootstrap interval of the mean; NaN for one seed), `iqm`, `worst`, `best`, `normalised` (mean),
    `env_steps`, and `train_seconds` of the program that the agents were part of.
    """
    fields = swept(results.agents)
    table = results.agents[["agent", "setting", "env", *fields]].assign(diverged=results.agents["status"] == "diverged")
    table = table.merge(score_table(results)[["agent", "score", "normalised"]], on="agent", how="left")
    table = table[table["score"].notna() | table["diverged"]]
    ends = results.metrics.groupby("agent")[["env_steps", "wall_time"]].max().reset_index()
    table = table.merge(ends, on="agent")
    rows = []
    for (env, setting), group in table.groupby(["env", "setting"], sort=False):
        values = group["score"].dropna().to_numpy()
        interval = stats.estimate(stats.mean, [values]) if len(values) > 1 else None
        rows.append(
            {
                "env": env,
                "setting": setting,
                **{name: group[name].iloc[0] for name in fields},
                "seeds": len(values),
                "diverged": int(group["diverged"].sum()),
                "mean": group["score"].mean(),
                "low": float(interval.low) if interval else np.nan,
                "high": float(interval.high) if interval else np.nan,
                "iqm": float(stats.iqm([values])) if len(values) else np.nan,
                "worst": group["score"].min(),
                "best": group["score"].max(),
                "normalised": group["normalised"].mean(),
                "env_steps": int(group["env_steps"].max()),
                "train_seconds": group["wall_time"].max(),
            }
        )
    order = {env: place for place, env in enumerate(dict.fromkeys(results.agents["env"]))}
    frame = pd.DataFrame(rows)
    frame = frame.assign(place=frame["env"].map(order), lost=frame["diverged"] > 0)
    frame = frame.sort_values(["place", "lost", "mean"], ascending=[True, True, False])
    return frame.drop(columns=["place", "lost"]).reset_index(drop=True)


def shared_settings(table: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Normalised scores by label and environment, of labels with scores in every environment that has a scale.

    Args:
        table: from `score_table`.
    """
    table = table[table["normalised"].notna()]
    envs = table["env"].nunique()
    found = {
        str(label): {str(env): runs["normalised"].to_numpy() for env, runs in group.groupby("env")}
        for label, group in table.groupby("label", sort=False)
    }
    return {label: by_env for label, by_env in found.items() if len(by_env) == envs}


def ranked(table: pd.DataFrame, values: Mapping[str, float]) -> list[str]:
    """The labels that have values, the highest first; those that lost an agent anywhere after the others.

    Args:
        table: from `score_table`.
        values: by label.
    """
    lost = set(table.loc[table["lost"], "label"])
    return sorted(values, key=lambda label: (label in lost, -values[label]))


def aggregate(table: pd.DataFrame) -> dict[str, dict[str, stats.Estimate]]:
    """Aggregates of normalised scores over all environments, by label and name, `ranked` by IQM.

    Intervals are NaN for settings with a single seed somewhere.

    Args:
        table: from `score_table`.
    """
    rows = {}
    for label, by_env in shared_settings(table).items():
        repeated = min(map(len, by_env.values())) > 1
        rows[label] = {
            name: stats.estimate(statistic, by_env)
            if repeated
            else stats.Estimate(statistic(by_env), np.array(np.nan), np.array(np.nan))
            for name, statistic in AGGREGATES.items()
        }
    iqms = {label: float(row["IQM"].value) for label, row in rows.items()}
    return {label: rows[label] for label in ranked(table, iqms)}


def _returns(results: Results) -> pd.DataFrame:
    """The logged updates in which an episode ended, up to that in which an agent diverged."""
    metrics = results.metrics
    check("episode_return" in metrics, "metrics", "no updates", "those of at least one agent")
    return metrics[np.isfinite(metrics["episode_return"]) & np.isfinite(metrics["grad_norm"])]


def _text(value: Any, digits: int) -> str:
    if isinstance(value, list):
        return str(value)
    if pd.isna(value):
        return "none"
    if isinstance(value, str) and value.startswith("{"):
        return " ".join(f"{name} {_text(each, digits)}" for name, each in json.loads(value).items()) or "none"
    if isinstance(value, bool | np.bool_ | str):
        return str(value)
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e7 else f"{value:.{digits}g}"

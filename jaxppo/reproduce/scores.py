"""Scores as the PPO paper has them: mean returns of a run's last episodes, scaled in each environment."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxppo import stats
from jaxppo.config import Config
from jaxppo.fields import check
from jaxppo.policy import evaluate
from jaxppo.tables import Results
from jaxppo.training import init

__all__ = ["INTERVALS", "Interval", "diverged", "interval", "last_mean", "normalised", "random_returns", "scored"]

# Measured with normal scores, 4000 times: 0.75 of 3 seeds, 0.83 of 5, 0.90 of 10.
INTERVALS = (
    "Intervals are 95 % bootstrap percentile intervals over seeds, which are too narrow where these are few: of 3 "
    "seeds in one environment they are the range, and hold the true mean in three cases of four; of 5, in five of "
    "six.\n"
)
LAST_EPISODES = 100  # of a run, whose mean return is its score (Schulman et al. 2017, section 6.1)


class Interval(NamedTuple):
    """A mean and its 95 % bootstrap interval, NaN where a task has one run."""

    mean: float
    low: float
    high: float


def last_mean(returns: np.ndarray, episodes: np.ndarray, count: int = LAST_EPISODES) -> float:
    """Mean return of a run's last `count` episodes, as nearly as its updates tell them apart; NaN if there were none.

    Args:
        returns: [updates], the mean return of the episodes that ended in each.
        episodes: [updates], their number.
        count: how many.
    """
    ended = episodes > 0
    if not ended.any():
        return np.nan
    returns, episodes = returns[ended][::-1], episodes[ended][::-1]
    last = np.cumsum(episodes) - episodes < count
    return float(np.average(returns[last], weights=episodes[last]))


def scored(results: Results, random: Mapping[str, float]) -> pd.DataFrame:
    """The agents that ended an episode, each with the mean return of its last ones as `score`.

    A run that diverged has the score of a random policy, so that no mean leaves it out.

    Args:
        results: of a sweep.
        random: mean return of a random policy by environment.
    """
    scores = {
        int(str(agent)): last_mean(rows["episode_return"].to_numpy(float), rows["episodes"].to_numpy(float))
        for agent, rows in results.metrics.groupby("agent")
    }
    agents = results.agents.assign(score=results.agents["agent"].map(scores))
    agents["score"] = agents["score"].where(agents["status"] != "diverged", agents["env"].map(random))
    return agents[agents["score"].notna()]


def diverged(results: Results) -> str:
    """A line on how many runs of each label diverged, empty if none did."""
    lost = results.agents.loc[results.agents["status"] == "diverged", "label"].value_counts(sort=False)
    runs = ", ".join(f"{label} ({count})" for label, count in lost.items())
    return f"Runs that diverged, and count as a random policy: {runs}.\n" if runs else ""


def random_returns(configs: list[Config], episodes: int = 128) -> dict[str, float]:
    """Mean return of the policy before training, which is nearly uniform or N(0, 1), in each environment."""
    first = {config.make_env().name: config for config in reversed(configs)}
    key_init, key_evaluate = jax.random.split(jax.random.key(0))
    return {
        env: float(evaluate(config, init(config, key_init), key_evaluate, episodes, greedy=False).mean())
        for env, config in first.items()
    }


def normalised(agents: pd.DataFrame, random: Mapping[str, float]) -> dict[str, dict[str, np.ndarray]]:
    """Scores of runs by label and environment, 0 for a random policy and 1 for the best label of each environment.

    As in Schulman et al. 2017, section 6.1. Environments where no label is better than random are left out.

    Args:
        agents: from `scored`.
        random: mean return of a random policy by environment.

    Raises:
        ConfigError: that is so in all of them.
    """
    scaled: dict[str, dict[str, np.ndarray]] = {}
    for env, rows in agents.groupby("env", sort=False):
        scale = rows.groupby("label")["score"].mean().max() - random[str(env)]
        if scale <= 0:
            continue
        for label, runs in rows.groupby("label"):
            scores = (runs["score"].to_numpy() - random[str(env)]) / scale
            scaled.setdefault(str(label), {})[str(env)] = scores
    some = "enough for some setting to learn more than a random policy knows"
    check(bool(scaled), "total_timesteps", "too few", some)
    return scaled


def interval(by_env: Mapping[str, np.ndarray]) -> Interval:
    """Mean over environments of the mean over each one's runs."""
    mean = float(stats.mean(by_env))
    if min(map(len, by_env.values())) < 2:
        return Interval(mean, np.nan, np.nan)
    found = stats.estimate(stats.mean, by_env)
    return Interval(mean, float(found.low), float(found.high))

"""Published comparisons, trained again and put beside the published numbers.

Each is a sweep whose configs have labels: `prepare` makes it, `present` draws what came out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxppo import stats
from jaxppo.config import Config
from jaxppo.fields import check
from jaxppo.figures import learning_curves, save
from jaxppo.files import write_whole
from jaxppo.plot import COLOURS
from jaxppo.policy import evaluate
from jaxppo.presets import METHODS, preset
from jaxppo.settings import from_settings
from jaxppo.tables import Results
from jaxppo.training import init

__all__ = ["EXPERIMENTS", "SUITES", "Experiment", "prepare", "present"]

EXPERIMENTS = {
    "table1": "the surrogates of PPO: clipping, adaptive and fixed KL penalties, and none (PPO paper, table 1)",
    "figure3": "clip, adaptive KL, A2C, policy gradient and TRPO on the same tasks (after the PPO paper's figure 3)",
    "minatar": "learning curves of PPO-clip on the MinAtar games",
}

SUITES = {
    "gymnax": (
        "Pendulum-v1",
        "MountainCarContinuous-v0",
        "Reacher-misc",
        "Swimmer-misc",
        "PointRobot-misc",
    ),
    # The PPO paper's seven tasks, section 6.1.
    "brax": tuple(
        f"brax/{name}"
        for name in (
            "halfcheetah",
            "hopper",
            "inverted_double_pendulum",
            "inverted_pendulum",
            "reacher",
            "swimmer",
            "walker2d",
        )
    ),
}

# Schulman et al. 2017, table 3: 2048 steps, here of 8 environments side by side in place of one; two tanh layers of 64
# for the policy and for the value, no entropy bonus, no annealing. Normalisation and the gradient's limit as in the
# authors' code (Huang et al. 2022).
PAPER: dict[str, Any] = {
    "total_timesteps": 1_000_000,
    "num_envs": 8,
    "num_steps": 256,
    "num_epochs": 10,
    "num_minibatches": 32,
    "learning_rate": 3e-4,
    "anneal_lr": False,
    "ent_coef": 0.0,
    "vf_clip_eps": None,
    "normalize_obs": True,
    "normalize_reward": True,
}

# Settings and published score, Schulman et al. 2017, table 1.
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

LAST_EPISODES = 100  # of a run, whose mean return is its score (section 6.1)


class Experiment(NamedTuple):
    """A sweep to run.

    Attributes:
        configs: what to train.
        labels: what to call each of them.
    """

    configs: list[Config]
    labels: list[str]


def prepare(name: str, suite: str = "gymnax", total_timesteps: int | None = None) -> Experiment:
    """The configs of an experiment.

    Args:
        name: a key of `EXPERIMENTS`.
        suite: a key of `SUITES`: the tasks of `table1` and `figure3`.
        total_timesteps: how long to train each agent; None for as long as published.

    Raises:
        ConfigError: an unknown name or suite, or too few steps.
    """
    check(name in EXPERIMENTS, "name", name, f"one of {', '.join(EXPERIMENTS)}")
    check(suite in SUITES, "suite", suite, f"one of {', '.join(SUITES)}")
    steps: dict[str, Any] = {} if total_timesteps is None else {"total_timesteps": total_timesteps}
    if name == "minatar":
        games = [f"{game}-MinAtar" for game in ("Asterix", "Breakout", "Freeway", "SpaceInvaders")]
        return Experiment([preset(game, **steps) for game in games], ["PPO-clip"] * len(games))
    rows = {label: settings for label, (settings, _) in TABLE1.items()} if name == "table1" else _methods()
    pairs = [(env, label) for env in SUITES[suite] for label in rows]
    return Experiment([_config({"env": env, **rows[label], **steps}) for env, label in pairs], [e[1] for e in pairs])


def present(name: str, results: Results, configs: list[Config], path: Path) -> str:
    """Write the figures of a finished experiment into `path`, and for `table1` the table; what to print about it."""
    save(learning_curves(results).figure, path / "curves")
    if name != "table1":
        return f"wrote {path}/curves.png and .svg"
    table = table1(results, random_returns(configs))
    write_whole(path / "table1.md", _markdown(table).encode())
    save(_bars(table), path / "table1")
    lost = [env for env in results.agents["env"].unique() if env not in table]
    note = [f"left out, since nothing there was better than a random policy: {', '.join(lost)}"] if lost else []
    return "\n".join([_markdown(table), *orderings(table), *note])


def random_returns(configs: list[Config], episodes: int = 128) -> dict[str, float]:
    """Mean return of the policy before training, which is nearly uniform or N(0, 1), in each environment."""
    first = {config.make_env().name: config for config in reversed(configs)}
    key = jax.random.key(0)
    return {
        env: float(evaluate(config, init(config, key), key, episodes, greedy=False).mean())
        for env, config in first.items()
    }


def last_returns(results: Results, count: int = LAST_EPISODES) -> pd.Series:
    """Each agent's mean return over its last `count` episodes, as nearly as updates tell them apart, by agent."""

    def last(rows: pd.DataFrame) -> float:
        rows = rows[rows["episodes"] > 0].iloc[::-1]
        before = rows["episodes"].cumsum() - rows["episodes"]
        rows = rows[before < count]
        return float(np.average(rows["episode_return"], weights=rows["episodes"])) if len(rows) else np.nan

    return pd.Series({int(str(agent)): last(rows) for agent, rows in results.metrics.groupby("agent")}, name="score")


def table1(results: Results, random: Mapping[str, float]) -> pd.DataFrame:
    """A row for each setting of table 1: published and measured score, and its 95 % interval over runs.

    Scores are shifted and scaled in each environment so that a random policy has 0 and the best setting 1, then
    averaged over environments (Schulman et al. 2017, section 6.1). Environments where no setting is better than random
    are left out.

    Raises:
        ConfigError: that is so in all of them.
    """
    agents = results.agents.assign(score=results.agents["agent"].map(last_returns(results)))
    agents = agents[agents["score"].notna()]
    scaled: dict[str, dict[str, np.ndarray]] = {}
    for env, rows in agents.groupby("env"):
        best = rows.groupby("label")["score"].mean().max()
        scale = best - random[str(env)]
        if scale <= 0:
            continue
        for label, runs in rows.groupby("label"):
            scores = (runs["score"].to_numpy() - random[str(env)]) / scale
            scaled.setdefault(str(label), {})[str(env)] = scores
    check(
        bool(scaled), "total_timesteps", "too few", "enough for some setting to learn more than a random policy knows"
    )
    table = []
    for label, (_, published) in TABLE1.items():
        by_env = scaled[label]
        low, high = np.nan, np.nan
        if min(map(len, by_env.values())) > 1:
            interval = stats.estimate(stats.mean, by_env)
            low, high = float(interval.low), float(interval.high)
        row: dict[str, Any] = {"setting": label, "published": published, "measured": float(stats.mean(by_env))}
        table.append({**row, "low": low, "high": high, **{env: float(runs.mean()) for env, runs in by_env.items()}})
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


def _methods() -> dict[str, dict[str, Any]]:
    """The methods of figure 3 that are policy gradients; those on-policy with the step sizes of their presets."""
    on_policy = {name: METHODS[name] for name in ("a2c", "policy-gradient")}
    return {
        "PPO-clip": {"clip_eps": 0.2},
        "PPO, adaptive KL": {"objective": "adaptive-kl", "kl_target": 0.01},
        "A2C": {**on_policy["a2c"], "num_envs": 16, "num_steps": 8},
        "policy gradient": on_policy["policy-gradient"],
        "TRPO": {"learner": "trust-region"},
    }


def _config(settings: dict[str, Any]) -> Config:
    """The paper's settings, and then these."""
    if settings.get("learner") == "trust-region":
        kept = {name: PAPER[name] for name in PAPER if name not in SGD_ONLY}
        return from_settings({**kept, **settings})
    return from_settings({**PAPER, **settings})


SGD_ONLY = {"num_epochs", "num_minibatches", "learning_rate", "anneal_lr", "ent_coef", "vf_clip_eps"}


def _markdown(table: pd.DataFrame) -> str:
    envs = [str(name) for name in table if name not in ("setting", "published", "measured", "low", "high")]
    lines = ["| setting | published | measured | 95 % interval | " + " | ".join(envs) + " |"]
    lines.append("|---" * (4 + len(envs)) + "|")
    for row in table.to_dict("records"):
        interval = "1 seed" if np.isnan(row["low"]) else f"{row['low']:.2f} … {row['high']:.2f}"
        cells = [interval, *(f"{row[env]:.2f}" for env in envs)]
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

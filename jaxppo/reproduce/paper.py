"""The PPO paper's tasks, those that stand in for them, and its settings (Schulman et al. 2017)."""

from collections.abc import Iterable, Mapping
from typing import Any

from jaxppo.config import Config
from jaxppo.fields import check
from jaxppo.settings import from_settings

__all__ = ["SUITES", "on_suite"]

SUITES = {
    "gymnax": (
        "Pendulum-v1",
        "MountainCarContinuous-v0",
        "Reacher-misc",
        "Swimmer-misc",
        "PointRobot-misc",
    ),
    # The paper's seven tasks, section 6.1.
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

# Table 3: 2048 steps, here of 8 environments side by side in place of one; two tanh layers of 64 for the policy and for
# the value, no entropy bonus, no annealing. Normalisation and the gradient's limit as in the authors' code (Huang et
# al. 2022).
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
SGD_ONLY = {"num_epochs", "num_minibatches", "learning_rate", "anneal_lr", "ent_coef", "vf_clip_eps"}


def on_suite(suite: str, rows: Iterable[Mapping[str, Any]], total_timesteps: int | None) -> list[Config]:
    """A config for each task and row of settings, laid over the paper's: all rows on the first task, and so on.

    Args:
        suite: a key of `SUITES`.
        rows: settings.
        total_timesteps: how long to train each agent; None for as long as published.

    Raises:
        ConfigError: an unknown suite, or too few steps.
    """
    check(suite in SUITES, "suite", suite, f"one of {', '.join(SUITES)}")
    steps = {} if total_timesteps is None else {"total_timesteps": total_timesteps}
    rows = list(rows)
    return [_config({"env": env, **row, **steps}) for env in SUITES[suite] for row in rows]


def _config(settings: dict[str, Any]) -> Config:
    trust_region = settings.get("learner") == "trust-region"
    paper = {name: value for name, value in PAPER.items() if not (trust_region and name in SGD_ONLY)}
    return from_settings({**paper, **settings})

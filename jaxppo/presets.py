"""Settings that learn, by environment; each says where its numbers come from.

Whatever a preset leaves out is the default of `Config`.
"""

from typing import Any

from jaxppo.config import Config
from jaxppo.settings import from_settings

__all__ = ["PRESETS", "preset"]

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults are CleanRL's settings for classic control (Huang et al. 2022).
    "CartPole-v1": {},
    # Five settings tried over 5 seeds; scaled rewards and the higher step size reached −83 in half the steps.
    "Acrobot-v1": {
        "num_envs": 16,
        "gae_lambda": 0.94,
        "learning_rate": 1e-3,
        "ent_coef": 0.0,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    # rl-zoo's discount, step size and epochs for Pendulum; more environments, and normalisation as for MuJoCo.
    "Pendulum-v1": {
        "total_timesteps": 1_000_000,
        "num_envs": 16,
        "num_steps": 128,
        "gamma": 0.9,
        "learning_rate": 1e-3,
        "num_epochs": 10,
        "num_minibatches": 16,
        "ent_coef": 0.0,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    # The defaults, with more environments and a step size to match 100,000 steps.
    "Catch-bsuite": {"total_timesteps": 100_000, "num_envs": 16, "num_steps": 32, "learning_rate": 2.5e-3},
    # PureJaxRL's settings for MinAtar.
    "Breakout-MinAtar": {
        "total_timesteps": 1_000_000,
        "num_envs": 64,
        "num_steps": 128,
        "num_minibatches": 8,
        "learning_rate": 5e-3,
        "activation": "relu",
    },
}


def preset(env: str, **settings: Any) -> Config:
    """The config for `env` with its preset, or the defaults if it has none, and then `settings`.

    Example:
        >>> config = jaxppo.preset("Pendulum-v1", total_timesteps=200_000, clip_eps=0.1)

    Raises:
        ConfigError: as for `Config`.
    """
    return from_settings({"env": env, **PRESETS.get(env, {}), **settings})

"""Settings that learn, by environment; each says where its numbers come from.

Whatever a preset leaves out is the default of `Config`.
"""

from typing import Any

from jaxppo.config import Config
from jaxppo.settings import from_settings

__all__ = ["PRESETS", "preset"]

PRESETS: dict[str, dict[str, Any]] = {
    # The defaults: CleanRL's settings for classic control (Huang et al. 2022).
    "CartPole-v1": {},
    # rl-zoo's settings for Acrobot: normalised observations and 16 environments.
    "Acrobot-v1": {"num_envs": 16, "normalize_obs": True, "gae_lambda": 0.94, "ent_coef": 0.0},
    # PPO paper, table 3, with more environments, the lower discount and higher step size that rl-zoo uses for Pendulum.
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

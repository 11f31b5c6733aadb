"""Settings that learn, by environment and by method; each says where its numbers come from.

Whatever a preset leaves out is the default of `Config`.
"""

from collections.abc import Mapping
from typing import Any

from jaxppo.config import Config
from jaxppo.fields import check
from jaxppo.settings import KINDS, applicable, from_settings, kinds_of

__all__ = ["METHODS", "PRESETS", "preset", "preset_settings"]

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


ONCE = {"num_epochs": 1, "num_minibatches": 1}

METHODS: dict[str, dict[str, Any]] = {
    "clip": {},
    "adaptive-kl": {"objective": "adaptive-kl"},
    "fixed-kl": {"objective": "fixed-kl"},
    "unclipped": {"objective": "unclipped"},
    # Five settings tried for the three on CartPole, over 5 seeds; 3e-3 is faster but less steady.
    "policy-gradient": {"objective": "policy-gradient", **ONCE, "learning_rate": 1e-3},
    # Segments of 5 steps in 16 environments as in OpenAI baselines; with Adam, GAE and normalised advantages in place
    # of RMSProp and n-step returns (Mnih et al. 2016).
    "a2c": {"objective": "policy-gradient", **ONCE, "num_envs": 16, "num_steps": 5, "learning_rate": 1e-3},
    # λ = 1: Monte Carlo returns with a learned baseline (Williams 1992), which stands in beyond the end of a segment.
    "reinforce": {"objective": "policy-gradient", **ONCE, "gae_lambda": 1.0, "learning_rate": 1e-3},
    "trpo": {"learner": "trust-region"},
}

# What a method needs on an environment beyond both presets.
BY_METHOD: dict[tuple[str, str], dict[str, Any]] = {
    # Out of four settings tried over 15 seeds; with λ = 0.95 one seed in five is lost.
    ("CartPole-v1", "policy-gradient"): {"total_timesteps": 1_000_000, "gae_lambda": 0.99},
    ("CartPole-v1", "a2c"): {"total_timesteps": 1_000_000},
    ("CartPole-v1", "reinforce"): {"total_timesteps": 1_000_000},
    ("Pendulum-v1", "trpo"): {"vf_minibatches": 16},
}


def preset_settings(env: str, method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The flat settings of a preset, and then `settings`.

    Args:
        env: name of an environment; one without a preset gets the method's settings only.
        method: a key of `METHODS`; "auto" for the one that `settings` choose by their learner or objective; "none" for
            `settings` alone.
        settings: what was asked for on top.

    Raises:
        ConfigError: an unknown method, or an unknown kind in the settings.
    """
    check(method in ("auto", "none", *METHODS), "preset", method, f"auto, none, {', '.join(METHODS)}")
    if method == "none":
        return dict(settings)
    applicable(settings)  # refuses unknown kinds
    if method == "auto":
        trust_region = settings.get("learner") == "trust-region"
        method = "trpo" if trust_region else settings.get("objective", next(iter(KINDS["objective"])))
    else:
        kinds = {"learner": "sgd", "objective": "clip", **METHODS[method]}
        for name in {"learner", "objective"} & settings.keys():
            check(
                settings[name] == kinds[name], name, settings[name], f"{kinds[name]} or left out with preset {method}"
            )
    known = {
        **PRESETS.get(env, {}),
        **METHODS[method],
        **BY_METHOD.get((env, method), {}),
    }
    names = applicable({**kinds_of(known), **kinds_of(settings)})
    return {**{name: value for name, value in known.items() if name in names}, **settings}


def preset(env: str, method: str = "auto", **settings: Any) -> Config:
    """The config for `env` with its preset for `method`, or the defaults if it has none, and then `settings`.

    Settings are flat: `learner` and `objective` are names of kinds, as on the command line.

    Example:
        >>> config = jaxppo.preset("Pendulum-v1", total_timesteps=200_000, clip_eps=0.1)
        >>> config = jaxppo.preset("Pendulum-v1", "trpo", max_kl=0.02)

    Raises:
        ConfigError: as for `Config`, or an unknown method.
    """
    return from_settings({"env": env, **preset_settings(env, method, settings)})

"""The benchmark cases as plain data for every trainer: peers run in environments of their own.

The settings are those in which jaxppo and rejax compute the same (docs/performance.md, "Equal learning"): rejax clips
elements of a gradient and not its norm, so nothing is clipped; its Adam has optax's epsilon, its weights start as LeCun
normal ones, and it takes a truncation for a termination.
"""

import math

COMMON = {
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "vf_clip_eps": 0.2,
    "learning_rate": 2.5e-4,
    "num_epochs": 4,
    "num_minibatches": 4,
    "ent_coef": 0.01,
    "vf_coef": 0.5,
    "max_grad_norm": math.inf,
    "adam_eps": 1e-8,
    "orthogonal": False,
    "truncation_is_terminal": True,
    "hidden": (64, 64),
    "activation": "tanh",
    "box_policy": "gaussian",
    "state_dependent_std": False,
    "log_std_init": 0.0,
    "num_agents": 1,
}

CASES = {
    "A": {**COMMON, "env": "CartPole-v1", "num_envs": 4, "num_steps": 128, "total_timesteps": 500_000},
    "B": {**COMMON, "env": "CartPole-v1", "num_envs": 2048, "num_steps": 32, "total_timesteps": 1_310_720},
    "C": {
        **COMMON,
        "env": "Breakout-MinAtar",
        "num_envs": 64,
        "num_steps": 128,
        "num_minibatches": 8,
        "total_timesteps": 327_680,
    },
    "D": {
        **COMMON,
        "env": "CartPole-v1",
        "num_envs": 4,
        "num_steps": 128,
        "total_timesteps": 65_536,
        "num_agents": 16,
    },
    "E": {**COMMON, "env": "Pendulum-v1", "num_envs": 64, "num_steps": 64, "ent_coef": 0.0, "total_timesteps": 819_200},
    "F": {
        **COMMON,
        "env": "brax/inverted_pendulum",
        "learning_rate": 1e-3,
        "num_envs": 256,
        "num_steps": 16,
        "ent_coef": 0.0,
        "truncation_is_terminal": False,  # Brax tells them apart
        "box_policy": "tanh",  # the only one of jaxppo's that Brax's PPO has too
        "state_dependent_std": True,
        "log_std_init": math.log(math.log(2) + 1e-3),  # Brax's at outputs of 0
        "total_timesteps": 327_680,
    },
}

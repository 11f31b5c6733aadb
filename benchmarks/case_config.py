"""The benchmark cases as configs of jaxppo."""

import math

from cases import CASES

import jaxppo


def case_config(name: str, total_timesteps: int | None = None) -> jaxppo.Config:
    """The config of a case, with its own number of steps unless told otherwise."""
    case = CASES[name]
    return jaxppo.Config(
        env=case["env"],
        num_envs=case["num_envs"],
        num_steps=case["num_steps"],
        total_timesteps=total_timesteps or case["total_timesteps"],
        gamma=case["gamma"],
        gae_lambda=case["gae_lambda"],
        truncation_is_terminal=case["truncation_is_terminal"],
        network=jaxppo.MLP(
            hidden=case["hidden"],
            activation=case["activation"],
            box_policy=case["box_policy"],
            state_dependent_std=case["state_dependent_std"],
            log_std_init=case["log_std_init"],
            orthogonal=case["orthogonal"],
        ),
        learner=jaxppo.SGD(
            objective=jaxppo.Clip(clip_eps=case["clip_eps"]),
            anneal_lr=False,
            learning_rate=case["learning_rate"],
            num_epochs=case["num_epochs"],
            num_minibatches=case["num_minibatches"],
            ent_coef=case["ent_coef"],
            vf_coef=case["vf_coef"],
            vf_clip_eps=case["vf_clip_eps"],
            max_grad_norm=None if case["max_grad_norm"] == math.inf else case["max_grad_norm"],
            adam_eps=case["adam_eps"],
        ),
    )

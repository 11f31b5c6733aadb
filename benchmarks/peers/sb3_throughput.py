"""One benchmark case on Stable-Baselines3 or on SBX, its JAX port; prints one JSON line like throughput.py.

Both step Python environments one after the other, as is their default, at a rate that does not change during training.
So one run of SECONDS is timed in place of several whole ones, after a first update that warms up and compiles, and the
return is what was reached in that time.

Not the same as jaxppo: gymnasium's and MinAtar's own environments (as in gymnax, without sticky actions and for 1000
steps at most), truncations told from terminations, layers that start as in PyTorch, and Adam's epsilon is 1e-5; SBX
clips no values and gives actor and critic an optimiser each.
"""

import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium
import minatar.gym
import numpy as np
import record
import sbx
import stable_baselines3
import torch
from cases import CASES
from flax import linen
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

SECONDS = 25.0
QUICK_SECONDS = 5.0


def main() -> None:
    parser = record.parser("One benchmark case on Stable-Baselines3 or SBX.")
    parser.add_argument("--trainer", choices=("sb3", "sbx"), required=True)
    args = parser.parse_args()
    case = CASES[args.case]
    minatar.gym.register_envs()
    envs, eval_envs = (make_vec_env(partial(make, case["env"]), n, seed=n) for n in (case["num_envs"], 16))
    model = make_model(args.trainer, case, envs)
    clock = Clock(QUICK_SECONDS if args.quick else SECONDS)
    began_at = time.time()
    model.learn(total_timesteps=10**9, callback=clock)
    peak_mib = record.peak_mib()
    first, timed = clock.at[1] - clock.at[0], clock.at[-1] - clock.at[1]
    updates = len(clock.at) - 2
    returns, _ = evaluate_policy(model, eval_envs, n_eval_episodes=128, deterministic=False)
    print(
        record.line(
            args.trainer,
            args.case,
            steps=clock.steps,
            timed_steps=updates * case["num_envs"] * case["num_steps"],
            seconds=[timed],
            began_at=began_at,
            compile_s=first - timed / updates if args.trainer == "sbx" else None,
            peak_mib=peak_mib,
            sampled_returns=[float(returns)],
            curve=record.curve([at - clock.at[1] for at in clock.at[2:]], clock.returns[2:]),
            packages={
                "sb3": ("stable-baselines3", "torch", "gymnasium"),
                "sbx": ("sbx-rl", "stable-baselines3", "jax", "gymnasium"),
            }[args.trainer],
            device="cpu",
        )
    )


def make(name):
    """The environment of gymnasium of the same name as gymnax's."""
    if name == "Breakout-MinAtar":
        env = gymnasium.make("MinAtar/Breakout-v1", max_episode_steps=1000, sticky_action_prob=0.0)
        return gymnasium.wrappers.DtypeObservation(env, np.float32)
    return gymnasium.make(name)


def make_model(trainer, case, envs):
    """PPO with the settings of the case."""
    constructor = {"sb3": stable_baselines3.PPO, "sbx": sbx.PPO}[trainer]
    activation = {"sb3": torch.nn.Tanh, "sbx": linen.tanh}[trainer]
    layers = list(case["hidden"])
    return constructor(
        "MlpPolicy",
        envs,
        learning_rate=case["learning_rate"],
        n_steps=case["num_steps"],
        batch_size=case["num_envs"] * case["num_steps"] // case["num_minibatches"],
        n_epochs=case["num_epochs"],
        gamma=case["gamma"],
        gae_lambda=case["gae_lambda"],
        clip_range=case["clip_eps"],
        clip_range_vf=case["vf_clip_eps"],
        ent_coef=case["ent_coef"],
        vf_coef=case["vf_coef"] / 2,  # of the mean squared error, where jaxppo takes half of it
        max_grad_norm=case["max_grad_norm"],
        policy_kwargs={
            "net_arch": {"pi": layers, "vf": layers},
            "activation_fn": activation,
            "ortho_init": case["orthogonal"],
        },
        seed=0,
        device="cpu",
    )


class Clock(BaseCallback):
    """Notes when each update is over, and ends training once `limit` seconds have passed since the first one."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit
        self.at, self.returns, self.steps = [], [], 0

    def _on_rollout_start(self):
        self.at.append(time.perf_counter())
        episodes = [each["r"] for each in self.model.ep_info_buffer]
        self.returns.append(float(np.mean(episodes)) if episodes else float("nan"))
        self.steps = self.num_timesteps

    def _on_step(self):
        return len(self.at) < 3 or self.at[-1] - self.at[1] < self.limit


if __name__ == "__main__":
    main()

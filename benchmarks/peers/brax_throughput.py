"""One benchmark case on Brax's own PPO, in its own virtual environment; prints one JSON line like throughput.py.

Brax trains in epochs, each a call of one compiled program, with an evaluation of 128 episodes after each. The first
epoch compiles, with this jax the second one compiles once more, and the `--repeats` after them are the warm runs; the
seconds are Brax's own, without the evaluations. Agents of other seeds, `--repeats` with the first, are trained for the
returns alone.

Not the same as jaxppo: weights start as LeCun uniform ones and not as normal ones, whole stretches of `num_steps` are
shuffled instead of single steps, and an ended episode starts again from its environment's first state instead of a new
one.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import record
from brax import envs
from brax.training.agents.ppo import networks, train
from cases import CASES
from jax.experimental.compilation_cache.compilation_cache import reset_cache

COMPILING = 2  # epochs


def main() -> None:
    args = record.parser("One benchmark case on Brax's PPO.").parse_args()
    case = CASES[args.case]
    batch = case["num_envs"] * case["num_steps"]
    epochs = COMPILING + args.repeats
    steps = -(-record.whole_updates(case, args.quick) // epochs) * epochs * batch
    began_at = time.time()
    progress = trained(case, steps, epochs, seed=0)
    walltimes = [float(metrics["training/walltime"]) for metrics in progress[1:]]
    times = [after - before for before, after in zip([0.0, *walltimes], walltimes, strict=False)]
    compiling, warm = times[:COMPILING], times[COMPILING:]
    epoch_s = statistics.median(warm)
    peak_mib = record.peak_mib()
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)  # all of them compile the same
        reset_cache()
        ends = [progress, *(trained(case, steps, 1, seed) for seed in range(1, args.repeats))]
    print(
        record.line(
            "brax",
            args.case,
            steps=steps,
            timed_steps=steps // epochs,
            seconds=warm,
            began_at=began_at,
            compile_s=sum(compiling) - COMPILING * epoch_s,
            peak_mib=peak_mib,
            sampled_returns=[float(each[-1]["eval/episode_reward"]) for each in ends],
            curve=record.curve(
                [epoch * epoch_s for epoch in range(1, 1 + epochs)],
                [float(metrics["eval/episode_reward"]) for metrics in progress[1:]],
            ),
            packages=("brax", "jax"),
            device=jax.devices()[0].device_kind,
        )
    )


def trained(case: dict[str, Any], steps: int, epochs: int, seed: int) -> list[dict[str, Any]]:
    """Train an agent, and what Brax reports of it before the first epoch and after each."""
    progress: list[dict[str, Any]] = []
    train.train(
        environment=envs.get_environment(case["env"].removeprefix("brax/"), backend="spring"),  # as jaxppo has it
        num_timesteps=steps,
        num_evals=1 + epochs,
        num_eval_envs=128,
        seed=seed,
        progress_fn=lambda _, metrics: progress.append(metrics),
        episode_length=1000,
        num_envs=case["num_envs"],
        unroll_length=case["num_steps"],
        num_minibatches=case["num_minibatches"],
        batch_size=case["num_envs"] // case["num_minibatches"],  # in stretches of num_steps
        num_updates_per_batch=case["num_epochs"],
        learning_rate=case["learning_rate"],
        discounting=case["gamma"],
        gae_lambda=case["gae_lambda"],
        clipping_epsilon=case["clip_eps"],
        clipping_epsilon_value=case["vf_clip_eps"],
        entropy_cost=case["ent_coef"],
        vf_loss_coefficient=case["vf_coef"],
        max_grad_norm=case["max_grad_norm"],
        network_factory=partial(
            networks.make_ppo_networks,
            policy_hidden_layer_sizes=case["hidden"],
            value_hidden_layer_sizes=case["hidden"],
            activation=getattr(jax.numpy, case["activation"]),
        ),
    )
    return progress


if __name__ == "__main__":
    main()

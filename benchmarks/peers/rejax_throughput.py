"""One benchmark case on rejax, in its own virtual environment; prints one JSON line like throughput.py.

Not the same as jaxppo: rejax clips each element of the gradient where jaxppo clips its norm, which makes a difference
where the case has a limit, and steps actor and critic with an optimiser each.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import numpy as np
import record
import rejax
from cases import CASES
from rejax.evaluate import evaluate

EVALUATIONS = 16  # points of the learning curve


def main() -> None:
    args = record.parser("One benchmark case on rejax.").parse_args()
    case = CASES[args.case]
    agents, batch = case["num_agents"], case["num_envs"] * case["num_steps"]
    updates = record.whole_updates(case, args.quick)
    silent = make(case, updates, updates).replace(eval_callback=lambda algo, state, key: ())

    def batched(seed):
        key = jax.random.PRNGKey(seed)
        return key if agents == 1 else jax.random.split(key, agents)

    def over_agents(function):
        return jax.jit(function if agents == 1 else jax.vmap(function))

    began_at, began = time.time(), time.perf_counter()
    compiled = over_agents(lambda key: silent.train(rng=key)[0]).lower(batched(0)).compile()
    compile_s = time.perf_counter() - began
    seconds, states = record.timed(lambda seed: jax.block_until_ready(compiled(batched(seed))), args.repeats)
    peak_mib = record.peak_mib()
    # The curve is of a training run of its own, whose evaluations would otherwise count in the time.
    every = max(1, updates // EVALUATIONS)
    observed = make(case, updates // every * every, every)
    curve = over_agents(lambda key: observed.train(rng=key)[1][1])(batched(args.repeats))  # [agents,] evaluations, 128
    curve = np.asarray(curve).reshape(agents, updates // every, -1).mean(axis=(0, 2))
    share = np.arange(1, len(curve) + 1) * every / updates

    @over_agents
    def returns(given):
        state, key = given
        return evaluate(silent.make_act(state), key, silent.env, silent.env_params, 128, 1000)[1]

    ends = [(state, batched(record.EVALUATION + i)) for i, state in enumerate(states)]

    print(
        record.line(
            "rejax",
            args.case,
            steps=updates * batch * agents,
            timed_steps=updates * batch * agents,
            seconds=seconds,
            began_at=began_at,
            compile_s=compile_s,
            peak_mib=peak_mib,
            sampled_returns=np.concatenate([np.atleast_2d(returns(end)).mean(axis=1) for end in ends]).tolist(),
            curve=record.curve((share * statistics.median(seconds)).tolist(), curve.tolist()),
            packages=("rejax", "jax"),
            device=jax.devices()[0].device_kind,
        )
    )


def make(case, updates, evaluate_every):
    """The PPO of rejax for so many updates, evaluated each `evaluate_every` of them."""
    batch = case["num_envs"] * case["num_steps"]
    return rejax.PPO.create(
        env=case["env"],
        total_timesteps=updates * batch,
        eval_freq=evaluate_every * batch,
        skip_initial_evaluation=True,
        agent_kwargs={"hidden_layer_sizes": case["hidden"], "activation": case["activation"]},
        **{
            name: case[name]
            for name in (
                "num_envs",
                "num_steps",
                "num_epochs",
                "num_minibatches",
                "gamma",
                "gae_lambda",
                "clip_eps",
                "learning_rate",
                "ent_coef",
                "vf_coef",
                "max_grad_norm",
            )
        },
    )


if __name__ == "__main__":
    main()

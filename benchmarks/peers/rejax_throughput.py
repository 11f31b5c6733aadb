"""One benchmark case on rejax, in its own virtual environment; prints one JSON line like throughput.py."""

import argparse
import json
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import rejax
from cases import CASES
from rejax.evaluate import evaluate


def main() -> None:
    parser = argparse.ArgumentParser(description="One benchmark case on rejax.")
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    case = CASES[args.case]
    batch = case["num_envs"] * case["num_steps"]
    steps = case["total_timesteps"] // (10 if args.quick else 1) // batch * batch
    algo = rejax.PPO.create(
        env=case["env"],
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        max_grad_norm=case["max_grad_norm"],
        agent_kwargs={"hidden_layer_sizes": case["hidden"], "activation": case["activation"]},
        **{
            k: case[k]
            for k in case
            if k not in ("env", "total_timesteps", "max_grad_norm", "hidden", "activation", "num_agents")
        },
    ).replace(eval_callback=lambda algo, state, key: ())  # no evaluation inside the timed program
    agents = case["num_agents"]

    def train(key):
        return algo.train(rng=key)[0]

    def batched(seed):
        key = jax.random.PRNGKey(seed)
        return key if agents == 1 else jax.random.split(key, agents)

    began = time.perf_counter()
    compiled = jax.jit(train if agents == 1 else jax.vmap(train)).lower(batched(0)).compile()
    compile_s = time.perf_counter() - began
    state = jax.block_until_ready(compiled(batched(0)))
    times = []
    for seed in range(1, args.repeats + 1):
        key = batched(seed)
        began = time.perf_counter()
        state = jax.block_until_ready(compiled(key))
        times.append(time.perf_counter() - began)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def returns(state):
        act = algo.make_act(state)
        return evaluate(act, jax.random.PRNGKey(99), algo.env, algo.env_params, 128, 1000)[1]

    evaluation = returns(state) if agents == 1 else jax.vmap(returns)(state)
    total = steps * agents
    print(
        json.dumps(
            {
                "trainer": "rejax",
                "case": args.case,
                "env": case["env"],
                "steps": total,
                "steps_per_s": round(total / statistics.median(times)),
                "seconds": [round(t, 4) for t in times],
                "compile_s": round(compile_s, 2),
                "peak_mib": round(peak_kib / 1024),
                "sampled_return": round(float(evaluation.mean()), 2),
                "versions": {"rejax": "0.1.3", "jax": jax.__version__},
                "device": jax.devices()[0].device_kind,
            }
        )
    )


if __name__ == "__main__":
    main()

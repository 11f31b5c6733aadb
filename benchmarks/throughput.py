"""Training throughput of jaxppo: one JSON line per case.

    python benchmarks/throughput.py [--cases A B …] [--repeats 5] [--quick] [--out FILE]

Each case runs in a process of its own, so that its peak memory is its own. Compilation is timed apart; `steps_per_s` is
environment steps over all agents, divided by the median time of a whole warm training run.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from cases import CASES


def main() -> None:
    parser = argparse.ArgumentParser(description="Training throughput of jaxppo, one JSON line per case.")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="which cases (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="warm runs per case, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="a tenth of the steps and 3 repeats")
    parser.add_argument("--out", type=Path, help="append the lines to this file as well")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, 3 if args.quick else args.repeats, args.quick)))
        return
    for case in args.cases:
        command = [sys.executable, __file__, "--case", case, "--repeats", str(args.repeats)]
        line = subprocess.run(command + ["--quick"] * args.quick, check=True, capture_output=True, text=True).stdout
        print(line, end="", flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(line)


def measure(name: str, repeats: int, quick: bool) -> dict[str, Any]:
    """Compile and time one case in this process."""
    import jax

    import jaxppo

    case = CASES[name]
    config = jaxppo.Config(
        env=case["env"],
        num_envs=case["num_envs"],
        num_steps=case["num_steps"],
        total_timesteps=case["total_timesteps"] // (10 if quick else 1),
        gamma=case["gamma"],
        gae_lambda=case["gae_lambda"],
        network=jaxppo.MLP(hidden=case["hidden"], activation=case["activation"]),
        learner=jaxppo.SGD(
            objective=jaxppo.Clip(clip_eps=case["clip_eps"]),
            anneal_lr=False,
            **{
                k: case[k]
                for k in ("learning_rate", "num_epochs", "num_minibatches", "ent_coef", "vf_coef", "max_grad_norm")
            },
        ),
    )
    agents = case["num_agents"]

    def train(config: jaxppo.Config, key: jax.Array) -> jaxppo.Result:
        return jaxppo.train(config, key)

    def batched(key: jax.Array) -> jax.Array:
        return key if agents == 1 else jax.random.split(key, agents)

    program = jax.jit(train if agents == 1 else jax.vmap(train, in_axes=(None, 0)))
    began = time.perf_counter()
    compiled = program.lower(config, batched(jax.random.key(0))).compile()
    compile_s = time.perf_counter() - began
    result = jax.block_until_ready(compiled(config, batched(jax.random.key(0))))
    times = []
    for seed in range(1, repeats + 1):
        key = batched(jax.random.key(seed))
        began = time.perf_counter()
        result = jax.block_until_ready(compiled(config, key))
        times.append(time.perf_counter() - began)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sampled = partial(jaxppo.evaluate, greedy=False)
    evaluation = sampled if agents == 1 else jax.vmap(sampled, in_axes=(None, 0, 0))
    returns = evaluation(config, result.state, batched(jax.random.key(99)))
    steps = config.num_updates * config.batch_size * agents
    return {
        "trainer": "jaxppo",
        "case": name,
        "env": case["env"],
        "steps": steps,
        "steps_per_s": round(steps / statistics.median(times)),
        "seconds": [round(t, 4) for t in times],
        "compile_s": round(compile_s, 2),
        "peak_mib": round(peak_kib / 1024),
        "sampled_return": round(float(returns.mean()), 2),
        "versions": {"jaxppo": jaxppo.__version__, "jax": jax.__version__},
        "device": jax.devices()[0].device_kind,
    }


if __name__ == "__main__":
    main()

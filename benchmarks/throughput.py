"""Training throughput of jaxppo.

    python benchmarks/throughput.py [--cases A B …] [--repeats 5] [--quick] [--out benchmarks/results/NAME]

The same as compare.py with jaxppo alone. Each case runs in a process of its own, this script with
`--case`, so that its peak memory is its own. Compilation is timed apart; `steps_per_s` is environment steps over all
agents, divided by the median time of a whole warm training run.
"""

import statistics
import sys
import time
from functools import partial

import record
from cases import CASES


def main() -> None:
    if "--case" in sys.argv:
        args = record.parser("One benchmark case on jaxppo.").parse_args()
        print(measure(args.case, args.repeats, args.quick))
    else:
        import compare

        compare.main(["--trainers", "jaxppo", *sys.argv[1:]])


def measure(name: str, repeats: int, quick: bool) -> str:
    """Compile and time one case in this process."""
    import jax
    import numpy as np
    from case_config import case_config

    import jaxppo
    from jaxppo.compilation import compiler_options

    case = CASES[name]
    agents = case["num_agents"]
    if agents > 1:
        jaxppo.use_cores()
    config = case_config(name, record.whole_updates(case, quick) * case["num_envs"] * case["num_steps"])

    def train(config: jaxppo.Config, key: jax.Array) -> jaxppo.Result:
        return jaxppo.train(config, key)

    def batched(seed: int) -> jax.Array:
        key = jax.random.key(seed)
        return key if agents == 1 else jax.random.split(key, agents)

    program = jax.jit(train if agents == 1 else jaxppo.train_agents, compiler_options=compiler_options())
    began = time.perf_counter()
    compiled = program.lower(config, batched(0)).compile()
    compile_s = time.perf_counter() - began
    seconds, result = record.timed(lambda seed: jax.block_until_ready(compiled(config, batched(seed))), repeats)
    peak_mib = record.peak_mib()
    sampled = partial(jaxppo.evaluate, greedy=False)
    evaluation = sampled if agents == 1 else jax.vmap(sampled, in_axes=(None, 0, 0))
    steps = config.num_updates * config.batch_size * agents
    returns = np.asarray(result.metrics.episode_return).reshape(agents, -1).mean(axis=0)
    return record.line(
        "jaxppo",
        name,
        steps=steps,
        timed_steps=steps,
        seconds=seconds,
        compile_s=compile_s,
        peak_mib=peak_mib,
        sampled_return=float(evaluation(config, result.state, batched(99)).mean()),
        curve=record.curve(
            np.linspace(0, statistics.median(seconds), config.num_updates + 1)[1:].tolist(), returns.tolist()
        ),
        packages=("jaxppo", "jax"),
        device=jax.devices()[0].device_kind,
    )


if __name__ == "__main__":
    main()

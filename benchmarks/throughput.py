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
    jaxppo.use_cores()
    config = case_config(name, record.whole_updates(case, quick) * case["num_envs"] * case["num_steps"])

    def keys(seed: int) -> jax.Array:
        return jax.random.split(jax.random.key(seed), agents)

    program = jax.jit(jaxppo.train_agents, compiler_options=compiler_options(config))
    began_at, began = time.time(), time.perf_counter()
    compiled = program.lower(config, keys(0)).compile()
    compile_s = time.perf_counter() - began
    seconds, results = record.timed(lambda seed: jax.block_until_ready(compiled(config, keys(seed))), repeats)
    peak_mib = record.peak_mib()
    sampled = jax.jit(jax.vmap(partial(jaxppo.evaluate, greedy=False), in_axes=(None, 0, 0)))
    sampled_returns = [
        sampled(config, result.state, keys(record.EVALUATION + i)).mean(axis=1) for i, result in enumerate(results)
    ]
    steps = config.num_updates * config.batch_size * agents
    returns = np.asarray(results[-1].metrics.episode_return).reshape(agents, -1).mean(axis=0)
    return record.line(
        "jaxppo",
        name,
        steps=steps,
        timed_steps=steps,
        seconds=seconds,
        began_at=began_at,
        compile_s=compile_s,
        peak_mib=peak_mib,
        sampled_returns=np.concatenate(sampled_returns).tolist(),
        curve=record.curve(
            np.linspace(0, statistics.median(seconds), config.num_updates + 1)[1:].tolist(), returns.tolist()
        ),
        packages=("jaxppo", "jax"),
        device=jax.devices()[0].device_kind,
    )


if __name__ == "__main__":
    main()

"""Train 16 agents at once, 300 times over, and fail if any run stalls.

    python scripts/hang_check.py [--runs 300] [--agents 16] [--timeout 60] [--cores]

XLA's CPU backend in jaxlib 0.10.0 to 0.10.2 can deadlock on vmapped training loops, which is why jaxppo does without
them. A stalled run is told from a slow one by a watchdog, which prints where every thread is and ends the process.
"""

import argparse
import faulthandler
import time

import jax
import jaxlib

import jaxppo


def main() -> None:
    parser = argparse.ArgumentParser(description="Train many agents at once, many times, and fail if a run stalls.")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--timesteps", type=int, default=10_240, help="environment steps of each agent in each run")
    parser.add_argument("--timeout", type=float, default=60, help="seconds after which a run counts as stalled")
    parser.add_argument("--cores", action="store_true", help="agents over the cores of the CPU, not under vmap")
    args = parser.parse_args()
    if args.cores:
        jaxppo.use_cores()
    config = jaxppo.Config(total_timesteps=args.timesteps)
    train = jaxppo.train_agents if args.cores else jax.vmap(jaxppo.train, in_axes=(None, 0))
    began = time.perf_counter()
    slowest = 0.0
    for run in range(args.runs):
        # The first run compiles, which can take long without being stalled.
        faulthandler.dump_traceback_later(args.timeout * (5 if run == 0 else 1), exit=True)
        started = time.perf_counter()
        jax.block_until_ready(train(config, jax.random.split(jax.random.key(run), args.agents)))
        if run > 0:
            slowest = max(slowest, time.perf_counter() - started)
        faulthandler.cancel_dump_traceback_later()
    seconds = time.perf_counter() - began
    print(f"jax {jax.__version__}, jaxlib {jaxlib.__version__}: no stall in {args.runs} runs of {args.agents} agents;")
    print(f"{seconds:.0f} s in all, the slowest run {slowest:.2f} s")


if __name__ == "__main__":
    main()

"""`jaxppo evaluate`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from jaxppo import results
from jaxppo.cli.flags import check_seed, parse, summary
from jaxppo.fields import check
from jaxppo.policy import evaluate

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Play whole episodes with the policy of a run."""

    @dataclass(frozen=True)
    class Evaluate:
        """Play whole episodes with the policy of a run, with its observation normaliser frozen."""

        run: Annotated[Path, tyro.conf.Positional]
        """Run directory."""
        episodes: int = 128
        """How many episodes."""
        stochastic: bool = False
        """Sample actions; otherwise the most likely one is taken."""
        seed: int = 0
        """Seed of the environments and the samples."""

    args = parse(Evaluate, argv, "jaxppo evaluate")

    check(args.episodes >= 1, "episodes", args.episodes, "a whole number >= 1")
    check_seed(args.seed)

    run = results.load_run(args.run)
    greedy = not args.stochastic
    returns = evaluate(run.config, run.policy, jax.random.key(args.seed), args.episodes, greedy=greedy)
    print(summary(np.asarray(returns), "greedy" if greedy else "sampled"))
    return 0

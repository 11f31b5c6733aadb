"""`jaxppo render`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import tyro

from jaxppo import results
from jaxppo.cli.flags import check_seed, parse
from jaxppo.fields import check
from jaxppo.render import render

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Draw an episode of a run's policy as a GIF."""

    @dataclass(frozen=True)
    class Render:
        """Play one episode with the policy of a run and draw it as a GIF."""

        run: Annotated[Path, tyro.conf.Positional]
        """Run directory."""
        out: Path | None = None
        """The picture; RUN/episode.gif if left out."""
        stochastic: bool = False
        """Sample actions; otherwise the most likely one is taken."""
        max_steps: int = 500
        """Stop after so many steps."""
        seed: int = 0
        """Seed of the environment and the samples."""

    args = parse(Render, argv, "jaxppo render")

    check(1 <= args.max_steps <= 10_000, "max_steps", args.max_steps, "a whole number in [1, 10000]")
    check_seed(args.seed)

    run = results.load_run(args.run)
    out = args.out or args.run / "episode.gif"
    key = jax.random.key(args.seed)
    episode = render(run.config, run.policy, key, out, greedy=not args.stochastic, max_steps=args.max_steps)
    print(f"wrote {out}: {len(episode.states) - 1} steps, return {episode.returns[-1]:.4g}")
    return 0

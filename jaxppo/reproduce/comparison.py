"""A published comparison as a sweep: configs that have labels, and what is made of their results."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxppo.config import Config
from jaxppo.fields import check
from jaxppo.figures import learning_curves, save
from jaxppo.plan import plan
from jaxppo.progress import Progress, count
from jaxppo.sweeps import sweep
from jaxppo.tables import Results, load_results

__all__ = ["Comparison"]


class Comparison(NamedTuple):
    """A sweep to run.

    Attributes:
        configs: what to train.
        labels: what to call each of them.
        seeds: how many agents of each.
        draw: `(results, configs, path)`: writes what it makes of the results, beside their learning curves, into `path`
            and returns what to print about it.
    """

    configs: list[Config]
    labels: list[str]
    seeds: int
    draw: Callable[[Results, list[Config], Path], str]

    def summary(self) -> str:
        planned = plan(self.configs, self.seeds)
        return f"{len(planned.groups)} programs, {len(planned.configs)} agents, {count(self.steps())} steps"

    def steps(self) -> int:
        planned = plan(self.configs, self.seeds)
        return planned.steps(range(len(planned.configs)))

    def train(self, path: Path, *, overwrite: bool, progress: Progress) -> bool:
        results = sweep(
            self.configs, self.seeds, path, labels=self.labels, overwrite=overwrite, progress=progress, log_interval=1
        )
        return bool(results.manifest["status"] == "finished")

    def present(self, path: Path) -> str:
        results = load_results(path)
        ended = results.metrics["episodes"].sum() > 0
        check(ended, "total_timesteps", self.configs[0].total_timesteps, "more, so that an episode ends")
        save(learning_curves(results).figure, path / "curves")
        return self.draw(results, self.configs, path)

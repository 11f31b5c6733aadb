"""Sweeps: many agents, trained as few compiled programs and kept in tables.

Agents whose configs differ in numbers only share a program and train side by side, as many at once as fit in memory.
"""

import tempfile
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxppo import tables
from jaxppo.checkpoint import CHECKPOINT_SECONDS, UNFINISHED, Checkpoint, read_checkpoint, start, write_checkpoint
from jaxppo.config import Config
from jaxppo.directories import filling
from jaxppo.fields import check, is_real, is_whole
from jaxppo.loggers import Streams, chosen, streams
from jaxppo.loop import Program, Training, compile_program, interruption, joined
from jaxppo.memory import MEMORY_SHARE, free_bytes
from jaxppo.plan import Plan, plan
from jaxppo.population import Evolution, Population
from jaxppo.progress import Progress, Silent
from jaxppo.settings import to_cells

__all__ = ["sweep"]


def sweep(
    configs: Config | Sequence[Config],
    seeds: int | Iterable[int] = 1,
    out: str | Path | None = None,
    *,
    labels: Sequence[str] | None = None,
    population: Population | None = None,
    loggers: str | Iterable[str] = (),
    log_interval: int = 1,
    memory_gib: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tables.Results:
    """Train every config with every seed, and keep tables of the agents and of their metrics.

    The agent of a config and a seed is the one that `jaxppo train` makes of them, up to rounding. An interrupt (SIGINT
    or SIGTERM) ends the sweep after the current chunk of updates; launched again with the same `out`, it goes on there.

    Args:
        configs: one or more, without stacked leaves, all different.
        seeds: how many (0, 1, …), or which.
        out: directory for the tables; None to keep no files.
        labels: what to call each config in tables and figures; None for what tells it from the others.
        population: train the agents of each program as a population; see `Population`.
        loggers: "tensorboard", "wandb" or both: a stream of its metrics for each agent, in `out`, beside the tables.
        log_interval: keep every so many updates, and the first 2 % and the last.
        memory_gib: the most to use on each device, in GiB; None for most of what is free.
        overwrite: replace a directory that is there.
        progress: told of what happens.

    Returns:
        The tables, as `jaxppo.load_results(out)` reads them.

    Raises:
        ConfigError: bad input, as for `plan`; a logger that is unknown or not installed; an `out` that is not of the
            very same sweep, with the same population and log interval, or that another process works in; not even one
            agent fits.
    """
    check(is_whole(log_interval), "log_interval", log_interval, "a whole number >= 1")
    positive = memory_gib is None or (is_real(memory_gib) and 0 < memory_gib < float("inf"))
    check(positive, "memory_gib", memory_gib, "a finite number > 0 or None")
    names = chosen(loggers)
    check(not names or out is not None, "out", out, "a directory, where there are loggers")
    planned = plan(configs, seeds)
    if labels is not None:
        _check_labels(planned, labels)
    if population is not None:
        for group in planned.groups:
            population.check([planned.configs[agent] for agent in group])
    directory: AbstractContextManager[Any] = tempfile.TemporaryDirectory() if out is None else nullcontext(out)
    with directory as name, interruption() as interrupted:
        path = Path(name)
        settings = {"population": population and population.settings(), "log_interval": int(log_interval)}
        agents = tables.agents_table(planned, labels)
        make = partial(tables.open_sweep, path, agents, settings, overwrite=overwrite)
        budget = None if memory_gib is None else int(memory_gib * 2**30)
        with filling(path, make, tables.begun):
            work = _Sweep(planned, path, population, names, log_interval, budget, progress or Silent(), interrupted)
            tables.close_sweep(path, work.run())
            return tables.load_results(path)


def _check_labels(planned: Plan, labels: Sequence[str]) -> None:
    """Raise `ConfigError` unless there is one for each config, different from others of the same environment."""
    envs = {number: config.make_env().name for number, config in zip(planned.settings, planned.configs, strict=True)}
    check(len(labels) == len(envs), "labels", f"{len(labels)} of them", f"one for each config, {len(envs)}")
    seen: set[tuple[str, str]] = set()
    for number, label in enumerate(labels):
        check((envs[number], label) not in seen, "labels", label, "another for each config of an environment")
        seen.add((envs[number], label))


class _Sweep:
    """A sweep under way."""

    def __init__(
        self,
        planned: Plan,
        path: Path,
        population: Population | None,
        loggers: Sequence[str],
        log_interval: int,
        budget: int | None,
        progress: Progress,
        interrupted: list[int],
    ):
        self.plan = planned
        self.path = path
        self.population = population
        self.loggers = loggers
        self.log_interval = log_interval
        self.budget = budget
        self.progress = progress
        self.interrupted = interrupted
        self.steps = 0  # of agents that are done

    def run(self) -> str:
        """Train what is not finished yet."""
        finished = tables.finished_agents(self.path)
        self.steps = self.plan.steps(finished)
        checkpoint = read_checkpoint(self.path)
        for group in self.plan.groups:
            todo = [agent for agent in group if agent not in finished]
            program = None
            if checkpoint is not None and set(checkpoint.agents) <= set(todo):
                program = self._compile(checkpoint.agents, checkpoint.num_agents)
                self._train(program, checkpoint.agents, checkpoint)
                todo = [agent for agent in todo if agent not in checkpoint.agents]
            while todo and not self.interrupted:
                program = program or self._fit(todo)
                try:
                    self._train(program, todo[: program.agents.num_agents])
                    todo = todo[program.agents.num_agents :]
                except jax.errors.JaxRuntimeError as error:
                    if "RESOURCE_EXHAUSTED" not in str(error) or program.agents.num_agents == 1:
                        raise
                    self.budget, program = program.peak_bytes // 2, None
            if self.interrupted:
                break
        self.progress.close()
        return "finished" if len(tables.finished_agents(self.path)) == len(self.plan.configs) else "interrupted"

    def _fit(self, agents: list[int]) -> Program:
        """A program for all agents at once, or for shares of equal size that fit in memory."""
        count = len(agents)
        while True:
            program = self._compile(agents, count)
            budget = int(MEMORY_SHARE * free_bytes()) if self.budget is None else self.budget
            if program.peak_bytes <= budget:
                return program
            allowed = f"at least {program.peak_bytes / 2**30:.3g}, which one agent takes"
            check(count > 1, "memory_gib", float(f"{budget / 2**30:.3g}"), allowed)
            fitting = min(count - 1, max(1, count * budget // program.peak_bytes))
            shares = -(-len(agents) // fitting)
            count = -(-len(agents) // shares)

    def _compile(self, agents: list[int], count: int) -> Program:
        """A program for `count` of these agents at a time."""
        config = self.plan.configs[agents[0]]
        program = compile_program(config, count)
        many = "1 agent" if count == 1 else f"{count} agents at once"
        self.progress.note(
            f"{config.make_env().name}: {many}, compiled in {program.compile_seconds:.1f} s, "
            f"{program.peak_bytes / 2**20:.0f} MiB"
        )
        return program

    def _train(self, program: Program, agents: list[int], checkpoint: Checkpoint | None = None) -> None:
        """Train agents to their end, or until an interrupt, and write what there is then."""
        configs, seeds = zip(*((self.plan.configs[agent], self.plan.seeds[agent]) for agent in agents), strict=True)
        training = start(program, configs, seeds, checkpoint)
        kept = [] if checkpoint is None else [checkpoint.metrics]
        with self._open(agents) as opened:
            for metrics in kept:
                opened.log(metrics)
            self._advance(training, agents, kept, opened)
            if training.done == configs[0].num_updates:
                tables.write_metrics(self.path, agents, joined(kept), self.log_interval)
                (self.path / UNFINISHED).unlink(missing_ok=True)
                self.steps += self.plan.steps(agents)
            elif kept:
                write_checkpoint(self.path, agents, training, joined(kept))

    def _advance(
        self, training: Training, agents: list[int], kept: list[dict[str, np.ndarray]], opened: Streams
    ) -> None:
        """Train agents to their end, or until an interrupt; their metrics are added to `kept`."""
        num_updates, steps = self.plan.configs[agents[0]].num_updates, self.plan.steps(agents)
        evolution = None if self.population is None else Evolution(self.population, agents, kept)
        saved = training.seconds
        while training.done < num_updates and not self.interrupted:
            if evolution and evolution.due(training.done):  # here, so that checkpoints come before it
                evolution.step(training, kept)
            until = evolution.next(training.done, num_updates) if evolution else num_updates
            metrics = training.advance(until)
            kept.append({name: values[: len(agents)] for name, values in metrics.items()})
            if evolution:
                kept[-1] = evolution.columns(training, kept[-1])
            opened.log(kept[-1])
            done = self.steps + steps * training.done // num_updates
            self.progress.advance(done, training.rate * steps / num_updates, kept[-1])
            if training.seconds - saved > CHECKPOINT_SECONDS:
                write_checkpoint(self.path, agents, training, joined(kept))
                saved = training.seconds

    def _open(self, agents: list[int]) -> AbstractContextManager[Streams]:
        """A stream for each of these agents in every logger."""
        configs, seeds = self.plan.configs, self.plan.seeds
        settings = {f"agent_{i:05}": {**to_cells(configs[i]), "seed": seeds[i]} for i in agents}
        return streams(self.loggers, self.path, settings, configs[agents[0]].num_updates, self.log_interval)

"""Wall time of training 1, 2, 4, … agents at once, after the plot that PureJaxRL is known for (Lu et al. 2022)."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil

from jaxppo.cache import without_kept_programs
from jaxppo.config import Config
from jaxppo.devices import fill
from jaxppo.directories import filling
from jaxppo.fields import check, is_whole
from jaxppo.figures import save
from jaxppo.files import write_whole
from jaxppo.loop import Program, Training, agent_keys, begin, compile_program, interruption, stack
from jaxppo.memory import MEMORY_SHARE, free_bytes
from jaxppo.presets import preset
from jaxppo.progress import Progress, count
from jaxppo.reproduce.points import Point, add_point, close_points, open_points, read_points
from jaxppo.reproduce.scaling_report import draw, markdown
from jaxppo.reproduce.scores import last_mean
from jaxppo.results import read_manifest
from jaxppo.settings import to_settings

__all__ = ["Scaling", "prepare"]

FEWEST = 8  # agents that are trained for a point: few at once are trained several times


class Scaling(NamedTuple):
    """Points to measure.

    Attributes:
        config: what every agent is trained with; they differ in their seeds.
        agents: how many at once, for each point.
    """

    config: Config
    agents: list[int]

    def summary(self) -> str:
        numbers = ", ".join(map(str, self.agents))
        return f"{numbers} agents at once, {count(self.steps())} steps"

    def steps(self) -> int:
        return sum(_steps(self.config, agents) for agents in self.agents)

    def train(self, path: Path, *, overwrite: bool, progress: Progress) -> bool:
        make = partial(open_points, path, self._measured(), overwrite=overwrite)
        with filling(path, make, lambda path: bool(read_points(path))):
            return self._train(path, progress)

    def _train(self, path: Path, progress: Progress) -> bool:
        """Measure what is lacking; whether nothing is then."""
        known = {point.agents for point in read_points(path)}
        done, stopped = 0, False
        with interruption() as interrupted, without_kept_programs():
            for agents in self.agents:
                if agents not in known:
                    program = _compile(self.config, agents, progress)
                    if program.peak_bytes > MEMORY_SHARE * free_bytes():
                        progress.note("that is more memory than is free: no more agents")
                        break
                    point = _measure(self.config, program, done, progress, interrupted)
                    if point is None:
                        stopped = True
                        break
                    add_point(path, point)
                done += _steps(self.config, agents)
        progress.close()
        close_points(path, "interrupted" if stopped else "finished")
        return not stopped

    def present(self, path: Path) -> str:
        points, measured = read_points(path), read_manifest(path)["measured"]
        check(bool(points), "agents", self.agents[-1], "so few that one of them fits in memory")
        text = markdown(points, measured)
        write_whole(path / "scaling.md", text.encode())
        save(draw(points, measured), path / "scaling")
        return f"{text}\nwrote {path}/scaling.png and .svg"

    def _measured(self) -> dict[str, Any]:
        settings = {name: list(v) if isinstance(v, tuple) else v for name, v in to_settings(self.config).items()}
        return {"settings": settings, "device": _device_name()}


def prepare(agents: int = 64, total_timesteps: int | None = None) -> Scaling:
    """PureJaxRL's settings on CartPole, which are those of our preset, for every power of two up to `agents`."""
    check(is_whole(agents), "agents", agents, "a whole number >= 1")
    steps: dict[str, Any] = {} if total_timesteps is None else {"total_timesteps": total_timesteps}
    return Scaling(preset("CartPole-v1", **steps), [2**power for power in range(int(agents).bit_length())])


def _measure(config: Config, program: Program, done: int, progress: Progress, interrupted: list[int]) -> Point | None:
    """Train the program's agents as often as `_runs` says; None after an interrupt.

    Args:
        config: of every agent.
        program: compiled.
        done: steps before these.
        progress: told of what happens.
        interrupted: not empty after an interrupt.
    """
    agents = program.agents.num_agents
    steps = agents * config.num_updates * config.batch_size
    _start(config, program, range(agents)).advance(1)  # a program's first call takes longer
    seconds, scores = [], []
    for run in range(_runs(agents)):
        training = _start(config, program, range(run * agents, (run + 1) * agents))
        found = _train(config, training, done + run * steps, progress, interrupted)
        if found is None:
            return None
        scores += found
        seconds.append(training.seconds)
    took = float(np.median(seconds))
    return Point(
        agents=agents,
        runs=len(seconds),
        compile_seconds=program.compile_seconds,
        seconds=took,
        steps_per_second=steps / took,
        peak_bytes=program.peak_bytes * len(program.agents.devices),
        episode_return=float(np.mean(scores)),
        worst=min(scores),
        best=max(scores),
    )


def _train(
    config: Config, training: Training, done: int, progress: Progress, interrupted: list[int]
) -> list[float] | None:
    """Train agents to their end: the mean return of each one's last episodes; None after an interrupt."""
    steps = training.num_agents * config.batch_size  # of an update
    chunks = []
    while training.done < config.num_updates:
        if interrupted:
            return None
        metrics = training.advance(config.num_updates)
        chunks.append((metrics["episode_return"], metrics["episodes"]))
        progress.advance(done + training.done * steps, training.rate * steps, metrics)
    returns, episodes = (np.concatenate(parts, axis=1) for parts in zip(*chunks, strict=True))
    return [last_mean(*agent) for agent in zip(returns, episodes, strict=True)]


def _compile(config: Config, agents: int, progress: Progress) -> Program:
    program = compile_program(config, agents, _devices(agents))
    many = "1 agent" if agents == 1 else f"{agents} agents at once"
    megabytes = program.peak_bytes / 2**20
    progress.note(f"{many}: compiled in {program.compile_seconds:.1f} s, {megabytes:.3g} MiB")
    return program


def _start(config: Config, program: Program, seeds: Iterable[int]) -> Training:
    """The agents of these seeds at their beginning."""
    keys = jnp.stack([agent_keys(seed)[0] for seed in seeds])
    configs = fill(stack([config]), program.agents.num_agents)
    return Training(program, configs, begin(program.agents, configs, keys))


def _runs(agents: int) -> int:
    return max(1, FEWEST // agents)


def _steps(config: Config, agents: int) -> int:
    """Environment steps of a point."""
    return _runs(agents) * agents * config.num_updates * config.batch_size


def _devices(agents: int) -> tuple[jax.Device, ...]:
    """The cores of a CPU, as many as share so many agents evenly; of other devices one, however many there are."""
    devices = jax.local_devices()
    most = len(devices) if devices[0].platform == "cpu" else 1
    return tuple(devices[: max(count for count in range(1, most + 1) if agents % count == 0)])


def _device_name() -> str:
    device = jax.local_devices()[0]
    return f"CPU with {psutil.cpu_count()} cores" if device.platform == "cpu" else str(device.device_kind)

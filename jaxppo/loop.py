"""The host loop around the compiled program: agents side by side, in chunks of updates.

A run and a sweep train alike: a run has one agent. Agents share everything that is static in their configs; they differ
in leaves and keys, which are stacked along a first axis, R agents long, and spread over devices (`jaxppo.devices`),
which may also train a single agent together.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.compilation import compiler_options, uncollected
from jaxppo.config import Config, canonical
from jaxppo.devices import Spread, fill, spread
from jaxppo.fields import check
from jaxppo.training import init_step, update_step, with_all_envs, with_own_envs
from jaxppo.types import Metrics, TrainState

__all__ = [
    "Program",
    "Training",
    "agent_keys",
    "begin",
    "compile_program",
    "interruption",
    "joined",
    "logged",
    "rows",
    "shapes",
    "stack",
]

CHUNK_SECONDS = 0.7  # how long the compiled program runs between two looks at the outside world
CHUNK_UPDATES = 1024  # the most updates in a chunk: the size of the buffer for their metrics


class Program(NamedTuple):
    """What trains R agents, compiled.

    Attributes:
        advance: `(num_updates, configs [R], states [R]) -> (states [R], metrics [R, CHUNK_UPDATES])`; takes the states
            over.
        agents: how they are spread over the devices.
        compile_seconds: time to compile.
        peak_bytes: memory of a device that a call takes: arguments, results and what it needs in between.
        metrics: their names.
    """

    advance: Callable[[jax.Array, Config, TrainState], tuple[TrainState, Metrics]]
    agents: Spread
    compile_seconds: float
    peak_bytes: int
    metrics: tuple[str, ...]


class Training:
    """Agents under way: what they are, where they stand, and for how long they have trained.

    Attributes:
        configs: their configs, leaves [R].
        states: where they stand, leaves [R, …].
        done: updates done.
        seconds: time spent in the compiled program.
        rate: updates per second, of late.
        num_agents: R.
    """

    def __init__(self, program: Program, configs: Config, states: TrainState, done: int = 0, seconds: float = 0.0):
        self.configs = configs
        self.states = states
        self.done = done
        self.seconds = seconds
        self.rate = 0.0
        self.num_agents = program.agents.num_agents
        self._program = program
        self._chunk = 1

    def advance(self, until: int) -> dict[str, np.ndarray]:
        """Train for about `CHUNK_SECONDS`, not beyond update `until`; the metrics [R, updates done now] by name."""
        chunk = min(self._chunk, until - self.done, CHUNK_UPDATES)
        began = time.perf_counter()
        agents = jax.device_put((self.configs, self.states), self._program.agents.placement)
        self.states, buffer = self._program.advance(jnp.int32(chunk), *agents)
        metrics = {name: values[:, :chunk] for name, values in jax.device_get(buffer).named().items()}
        took = time.perf_counter() - began
        share = self.seconds + took * np.arange(1, chunk + 1) / chunk  # spread evenly over the updates of a chunk
        metrics["wall_time"] = np.broadcast_to(share, (self.num_agents, chunk))
        self.done, self.seconds = self.done + chunk, self.seconds + took
        self.rate = chunk / took
        self._chunk = max(1, round(self.rate * CHUNK_SECONDS))
        return metrics

    def finite(self) -> np.ndarray:
        """Of each agent, whether all its parameters are finite numbers: bool [R]."""
        leaves = jax.tree.leaves(jax.device_get(self.states.policy.params))
        return np.all([np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1) for leaf in leaves], axis=0)


def agent_keys(seed: int) -> tuple[jax.Array, jax.Array]:
    """The keys that an agent is trained and evaluated with."""
    key_train, key_evaluate = jax.random.split(jax.random.key(seed))
    return key_train, key_evaluate


def stack(configs: Sequence[Config]) -> Config:
    """Configs of the same static part as one whose leaves are [R]."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(canonical, configs))


def begin(agents: Spread, configs: Config, keys: jax.Array) -> TrainState:
    """The states [R, …] of agents before their first update; consumes `keys` [R]."""
    in_step = agents._replace(lanes=agents.each)
    return _compiled(_init, in_step, *compiler_options().items())(None, configs, keys)


def shapes(configs: Config, num_agents: int) -> TrainState:
    """What `begin` gives, without the values."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), num_agents))
    return jax.eval_shape(jax.vmap(init_step), configs, keys)


def compile_program(config: Config, num_agents: int, devices: tuple[jax.Device, ...] | None = None) -> Program:
    """Compile the training of agents like `config`, how many and where as `jaxppo.devices.spread` says.

    Raises:
        ConfigError: JAX is not to compile anything.
    """
    settings: Any = jax.config
    check(not settings.jax_disable_jit, "jax_disable_jit", True, "False here; jaxppo.train, init and update go without")
    began = time.perf_counter()
    agents = spread(config, num_agents, devices)
    configs = jax.eval_shape(lambda: fill(stack([config]), agents.num_agents))
    states = shapes(configs, agents.num_agents)
    advance = _compiled(_chunk, agents, *compiler_options(config).items())
    lowered = advance.lower(jnp.int32(1), configs, states)
    metrics = tuple(lowered.out_info[1].named())
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    peak_bytes = sum(getattr(memory, size, 0) for size in sizes) - getattr(memory, "alias_size_in_bytes", 0)
    return Program(compiled, agents, time.perf_counter() - began, peak_bytes, metrics)


def rows(metrics: Mapping[str, np.ndarray], agent: int) -> list[dict[str, Any]]:
    """A row per update of one of the agents that the metrics [R, updates] are of."""
    columns = {name: values[agent].tolist() for name, values in metrics.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def joined(chunks: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The metrics [R, updates] of one chunk after the other."""
    return {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in chunks[-1]}


def logged(updates: np.ndarray, num_updates: int, log_interval: int) -> np.ndarray:
    """Which updates, counted from 1, are kept: every `log_interval`-th, the first 2 %, at least one, and the last."""
    return (updates % log_interval == 0) | (updates <= max(1, num_updates // 50)) | (updates == num_updates)


@contextmanager
def interruption() -> Iterator[list[int]]:
    """A list that fills with the first SIGINT or SIGTERM received; a second one acts as it always does."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _init(_: None, config: Config, key: jax.Array) -> TrainState:
    return with_all_envs(config, init_step(config, key))


def _chunk(num_updates: jax.Array, config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """`num_updates` updates of one agent, at most `CHUNK_UPDATES`, and their metrics in a buffer of that size."""
    state = with_own_envs(state)
    shapes = jax.eval_shape(update_step, config, state)[1]
    buffer = jax.tree.map(lambda leaf: jnp.zeros((CHUNK_UPDATES, *leaf.shape), leaf.dtype), shapes)

    def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = update_step(config, carry[0])
        return state, jax.tree.map(lambda old, new: old.at[i].set(new), carry[1], metrics)

    state, buffer = jax.lax.fori_loop(0, num_updates, body, (state, buffer))
    return with_all_envs(config, state), buffer


@cache
def _compiled(function: Callable[[Any, Any, Any], Any], agents: Spread, *options: tuple[str, Any]) -> Any:
    """`function(shared, …)` of one agent, compiled for all of them.

    The states that `_chunk` is given are taken over.
    """
    return jax.jit(
        wraps(function)(uncollected()(agents.over(function))),
        donate_argnums=2 if function is _chunk else (),
        in_shardings=(agents.everywhere, agents.placement, agents.placement),
        out_shardings=agents.placement,
        compiler_options=dict(options),
    )

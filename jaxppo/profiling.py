"""Where the time of an update goes, and how far that is from what the machine can do.

The parts of an update are compiled and timed one by one on real data, in loops like the training loop's, and so is the
whole. What is left of the whole when the parts are subtracted is told too: it is what they cost, or save, each other,
for XLA lays out and schedules a part anew in each program.
"""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxppo import kernels
from jaxppo.compilation import compiler_options
from jaxppo.config import Config, canonical
from jaxppo.fields import check
from jaxppo.flops import Work, count_work
from jaxppo.keys import typed_key
from jaxppo.learners import SGD
from jaxppo.learners.minibatches import minibatch_rows, to_samples
from jaxppo.machine import Limits, loop_of, measure_limits, product_seconds, time_compiled
from jaxppo.training import collect_segment, draw_segment, init_step, learning_batch, update_step
from jaxppo.types import Batch, TrainState

__all__ = ["PartProfile", "Profile", "profile_update"]

RUN_SECONDS = 0.2  # how long one timed run takes

Step = Callable[[Config, Any, Any], tuple[Any, Any]]


class PartProfile(NamedTuple):
    """A part of an update.

    Attributes:
        name: what it does.
        seconds: of it in an update.
        flops: operations in products that it must do, see `jaxppo.flops`; NaN if that is not known.
        num_bytes: bytes that it must read and write: each input and each result, once for every time that it runs.
        peak_seconds: what it would take at the machine's highest rates: the operations or the bytes, whichever is more.
        shapes_seconds: likewise at the rates that the machine reaches in products of the same shapes, one after the
            other, and in copies of as many bytes.
    """

    name: str
    seconds: float
    flops: float
    num_bytes: int
    peak_seconds: float
    shapes_seconds: float


class Profile(NamedTuple):
    """How an update spends its time.

    Attributes:
        env_steps: of an update, over all agents.
        lower_seconds: to trace a loop of updates and hand it to XLA.
        compile_seconds: to compile it.
        seconds: an update.
        parts: in the order in which they run.
        memory: bytes of the compiled loop of updates by use; empty where the backend doesn't tell.
        limits: what the machine can do.
    """

    env_steps: int
    lower_seconds: float
    compile_seconds: float
    seconds: float
    parts: tuple[PartProfile, ...]
    memory: dict[str, int]
    limits: Limits

    @property
    def other_seconds(self) -> float:
        """The update less its parts; negative where they run faster together than alone."""
        return self.seconds - sum(part.seconds for part in self.parts)


class _Timed(NamedTuple):
    """What came of timing a step."""

    seconds: float
    work: Work
    link: Any
    outputs: Any


class _Timer(NamedTuple):
    """Times steps `(config, data, link) -> (link, outputs)`, the link being what ties a repetition to the last.

    With several agents, data, link and outputs have a leading axis for them.
    """

    config: Config
    agents: int
    repeats: int

    def batched(self, step: Step) -> Step:
        return step if self.agents == 1 else jax.vmap(step, in_axes=(None, 0, 0))

    def lower(self, step: Step, data: Any, link: Any) -> tuple[Any, Any]:
        """The loop, lowered, and the carry that it begins with: results are kept in it, so that all are computed."""
        each = self.batched(step)
        shapes = jax.eval_shape(each, self.config, data, link)[1]
        carry = (link, jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes))
        loop = loop_of(lambda read, at: each(read[0], read[1], at[0]))
        program = jax.jit(loop, compiler_options=compiler_options(self.config))
        return program.lower(jnp.int32(1), (self.config, data), carry), carry

    def time(self, compiled: Any, data: Any, carry: Any) -> tuple[float, tuple[Any, Any]]:
        """Median of seconds per repetition, and link and outputs of one."""
        times, after = time_compiled(compiled, (self.config, data), carry, self.repeats, RUN_SECONDS)
        return statistics.median(times), after

    def part(self, step: Step, data: Any, link: Any) -> _Timed:
        lowered, carry = self.lower(step, data, link)
        seconds, after = self.time(lowered.compile(), data, carry)
        with kernels.left_to_xla():
            # A function that JAX has not traced yet.
            work = count_work(lambda *args: self.batched(step)(*args), self.config, data, link)
        return _Timed(seconds, work, *after)


def profile_update(config: Config, key: jax.Array, *, agents: int = 1, repeats: int = 5) -> Profile:
    """Time an update and its parts, warm. Consumes `key`.

    Args:
        config: what to train and how.
        key: for the agents and for what they do.
        agents: agents trained side by side, by `jax.vmap` over keys.
        repeats: timed runs of each program, of which the median counts.

    Raises:
        ConfigError: `agents` or `repeats` below 1.
    """
    check(agents >= 1, "agents", agents, "a whole number >= 1")
    check(repeats >= 1, "repeats", repeats, "a whole number >= 1")
    key = typed_key(key)
    timer = _Timer(canonical(config), agents, repeats)
    limits = measure_limits()
    keys = key if agents == 1 else jax.random.split(key, agents)
    state = jax.jit(timer.batched(lambda config, _, key: (init_step(config, key), None)))(timer.config, (), keys)[0]

    began = time.perf_counter()
    lowered, carry = timer.lower(_update, (), state)
    lower_seconds = time.perf_counter() - began
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - began - lower_seconds
    seconds, (state, _) = timer.time(compiled, (), carry)

    return Profile(
        env_steps=config.batch_size * agents,
        lower_seconds=lower_seconds,
        compile_seconds=compile_seconds,
        seconds=seconds,
        parts=tuple(_parts(timer, limits, state)),
        memory=_memory(compiled),
        limits=limits,
    )


def _parts(timer: _Timer, limits: Limits, state: TrainState) -> list[PartProfile]:
    """Every part of an update from `state` on."""
    params, zero = state.policy.params, jnp.zeros_like(state.num_updates, jnp.float32)
    collected = timer.part(_collect, state, (state.loop, state.key))
    loop, (trajectory, _) = collected.link[0], collected.outputs
    seen = (trajectory.reward, trajectory.value, trajectory.terminated, trajectory.truncated, loop.obs)
    estimated = timer.part(_estimate, (state, loop, trajectory, zero), (params, trajectory.reward))
    batch = estimated.outputs
    return [
        _part("collection", collected, limits, _nbytes(params, loop, loop, trajectory), 1),
        _part("advantages", estimated, limits, _nbytes(params, seen, batch.advantage, batch.target), 1),
        *_learning_parts(timer, limits, state, batch, zero),
    ]


def _learning_parts(
    timer: _Timer, limits: Limits, state: TrainState, batch: Batch, zero: jax.Array
) -> list[PartProfile]:
    """The parts of an update of SGD, or any other learner as one."""
    params, learner = state.policy.params, timer.config.learner
    if not isinstance(learner, SGD):
        learned = timer.part(_learn, batch, (state.learner, params, state.key))
        return [_part("learner", learned, limits, _nbytes(batch, params, params), 1)]
    shuffled = timer.part(_shuffle, batch, state.key)
    minibatches = shuffled.outputs
    rows = 4 * batch.value.size  # an int32 each
    vector = timer.batched(lambda _, params, none: (ravel_pytree(params)[0], none))(timer.config, params, zero)[0]
    derived = timer.part(_differentiate, (params, minibatches, state.learner.objective, zero), (vector, vector))
    gradient = derived.link[1]
    descended = timer.part(_descend, zero, (vector, state.learner.opt_state, gradient))
    steps = learner.num_epochs * learner.num_minibatches
    moments = state.learner.opt_state
    return [
        _part(
            "shuffling", shuffled, limits, 2 * (_nbytes(minibatches) + rows) * learner.num_epochs, learner.num_epochs
        ),
        _part(
            "gradient", derived, limits, learner.num_epochs * _nbytes(minibatches) + steps * 2 * _nbytes(vector), steps
        ),
        _part("optimiser", descended, limits, steps * _nbytes(vector, moments, gradient, vector, moments), steps),
    ]


def _part(name: str, timed: _Timed, limits: Limits, num_bytes: int, calls: int) -> PartProfile:
    flops, products = timed.work
    alone = sum(times * product_seconds(product) for product, times in products.items())
    rest = flops - sum(times * product.flops for product, times in products.items())
    fastest = max(limits.bytes_per_second.values())
    return PartProfile(
        name=name,
        seconds=timed.seconds,
        flops=flops,
        num_bytes=num_bytes,
        peak_seconds=_longer(flops / limits.flops_per_second, num_bytes / fastest),
        shapes_seconds=_longer(alone + rest / limits.flops_per_second, num_bytes / limits.copy_rate(num_bytes / calls)),
    )


def _longer(seconds: float, others: float) -> float:
    """The larger of two; NaN if the first is."""
    return seconds if math.isnan(seconds) else max(seconds, others)


# The parts, each `(config, data, link) -> (link, outputs)`. A factor of zero that the compiler doesn't know makes a
# repetition depend on the last where nothing else does, or it would be done once for all.


def _update(config: Config, data: Any, state: TrainState) -> Any:
    del data
    return update_step(config, state)


def _collect(config: Config, state: TrainState, link: Any) -> Any:
    loop, key = link
    state = state.replace(loop=loop, key=key)
    (key, _), draws = draw_segment(config, state)
    loop, *outputs = collect_segment(config, state, draws)
    return (loop, key), tuple(outputs)


def _estimate(config: Config, data: Any, link: Any) -> Any:
    state, loop, trajectory, zero = data
    params, reward = link
    state = state.replace(policy=state.policy.replace(params=params))
    batch, _, _ = learning_batch(config, state, loop, trajectory._replace(reward=reward))
    params = jax.tree.map(lambda x: x + zero * batch.advantage[0, 0], params)
    return (params, reward + zero * batch.advantage), batch


def _shuffle(config: Config, batch: Batch, key: jax.Array) -> Any:
    learner: Any = config.learner
    samples = to_samples(config.make_network(), batch)
    key, key_rows = jax.random.split(key)
    rows = minibatch_rows(
        key_rows, samples.value.shape[0], learner.num_epochs, learner.num_minibatches, shuffle=learner.shuffle
    )
    first = learner.minibatches(samples, rows[0])
    return key, jax.lax.fori_loop(1, learner.num_epochs, lambda i, _: learner.minibatches(samples, rows[i]), first)


def _differentiate(config: Config, data: Any, link: Any) -> Any:
    params, minibatches, aux, zero = data
    learner: Any = config.learner
    network, unravel = config.make_network(), ravel_pytree(params)[1]
    objective = learner.objective.scheduled(zero)

    def step(at: Any, minibatch: Any) -> Any:
        gradient, metrics = learner.gradient(network, unravel, objective, aux, at[0], minibatch)
        return (at[0] - zero * gradient, gradient), metrics

    return jax.lax.scan(lambda at, _: jax.lax.scan(step, at, minibatches), link, length=learner.num_epochs)


def _descend(config: Config, zero: jax.Array, link: Any) -> Any:
    learner: Any = config.learner

    def step(at: Any, _: None) -> Any:
        vector, opt_state, gradient = at
        vector, opt_state = learner.descend(vector, opt_state, gradient, learner.learning_rate)
        return (vector, opt_state, gradient + zero * vector), None

    return jax.lax.scan(step, link, length=learner.num_epochs * learner.num_minibatches)


def _learn(config: Config, batch: Batch, link: Any) -> Any:
    state, params, key = link
    key, key_learn = jax.random.split(key)
    start = jnp.float32(0)
    state, params, metrics = config.learner.update(config.make_network(), state, params, batch, key_learn, start)
    return (state, params, key), metrics


def _nbytes(*trees: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))


def _memory(compiled: Any) -> dict[str, int]:
    found = compiled.memory_analysis()
    names = {
        "arguments": "argument_size_in_bytes",
        "results": "output_size_in_bytes",
        "temporaries": "temp_size_in_bytes",
    }
    return {use: getattr(found, name) for use, name in names.items()} if found else {}

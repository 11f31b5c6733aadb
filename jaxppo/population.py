"""Population-based training: agents that do badly go on from those that do well, with numbers a little changed."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.config import Config
from jaxppo.devices import fill
from jaxppo.fields import check, hyperparameters, number, plain, suggest, whole
from jaxppo.loop import Training
from jaxppo.rollout import cleared
from jaxppo.types import TrainState

__all__ = ["Evolution", "Population", "evolve"]


@hyperparameters
class Population:
    """How a population evolves (Jaderberg et al. 2017, "Population Based Training of Neural Networks", §4.1).

    Every `interval` updates the worst agents of a program ("exploit" by truncation selection) take over parameters,
    normalisers, optimiser and all numbers of agents among the best, and ("explore") multiply or divide some of them by
    `factor`. They keep keys of their own, and their environments unless these hold what is not a finite number. Agents
    that don't fit in memory at once form a population for each share that does.
    """

    perturb: tuple[str, ...] = plain(
        default=("learning_rate",),
        ok=lambda v: isinstance(v, tuple) and len(v) > 0 and all(isinstance(name, str) for name in v),
        allowed="a tuple of names of numeric settings",
    )
    """The numbers that are changed. One with a finite upper limit, such as gamma, is changed in its distance to it."""
    interval: int = whole(default=20, minimum=1)
    """Updates between two generations."""
    fraction: float = number(default=0.25, above=0, high=0.5)
    """Share of the agents that are replaced, and of those that replace them."""
    factor: float = number(default=1.25, above=1)
    """What a number is multiplied or divided by."""
    seed: int = whole(default=0, minimum=0)
    """Seed of who follows whom, and of the changes."""

    def check(self, configs: Sequence[Config]) -> None:
        """Raise `ConfigError` if such agents, which share a program, can't be a population."""
        known = {name: limits for name, _, limits in _numbers(configs[0])}
        for name in self.perturb:
            allowed = f"a number in the config that training goes by; {suggest(name, known)}"
            check(name in known, "perturb", name, allowed)
            fixed = {0.0, np.inf} if np.isinf(known[name][1]) else {known[name][1]}
            values = {float(value) for config in configs for own, value, _ in _numbers(config) if own == name}
            allowed = f"one that some agent has at another value than {min(values):g}, which no factor changes"
            check(not values <= fixed, "perturb", name, allowed)
        check(len(configs) >= 2, "population", len(configs), "at least two agents that share a program")

    def settings(self) -> dict[str, Any]:
        """As plain values."""
        values = dataclasses.asdict(self)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}


def evolve(
    population: Population, key: jax.Array, configs: Config, states: TrainState, scores: jax.Array
) -> tuple[Config, TrainState, jax.Array]:
    """The next generation. Consumes `key`.

    Args:
        population: how.
        key: PRNG key.
        configs: leaves [R].
        states: leaves [R, …].
        scores: float [R], the higher the better; NaN is the worst, and so are agents with parameters that are not
            finite, whatever they score.

    Returns:
        Configs and states, and whom each agent goes on from: int32 [R], itself unless replaced by a better one.
    """
    num_agents = scores.shape[0]
    count = jnp.clip(jnp.floor(population.fraction * num_agents), 1, num_agents // 2).astype(jnp.int32)
    scores = jnp.where(jnp.isnan(scores) | ~_finite(states.policy.params), -jnp.inf, scores)
    rank = jnp.argsort(jnp.argsort(scores))  # 0 is the worst
    key_parents, key_changes = jax.random.split(key)
    best_first = jnp.argsort(-scores)
    chosen = best_first[jax.random.randint(key_parents, (num_agents,), 0, count)]
    replaced = (rank < count) & (scores < scores[chosen])
    parents = jnp.where(replaced, chosen, jnp.arange(num_agents)).astype(jnp.int32)

    policy, reward_moments, learner = jax.tree.map(
        lambda x: x[parents], (states.policy, states.reward_moments, states.learner)
    )
    homes = jnp.where(_finite(jax.vmap(cleared)(states.loop)), jnp.arange(num_agents), parents)
    loop = jax.tree.map(lambda x: x[homes], states.loop)._replace(reset_key=states.loop.reset_key)
    states = states.replace(policy=policy, reward_moments=reward_moments, learner=learner, loop=loop)
    limits = {name: limits for name, _, limits in _numbers(configs)}

    def inherit(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path[-1:], simple=True)
        leaf = leaf[parents]
        if name not in population.perturb:
            return leaf
        up = jax.random.bernoulli(jax.random.fold_in(key_changes, population.perturb.index(name)), shape=leaf.shape)
        factor = jnp.where(up, population.factor, 1 / population.factor).astype(leaf.dtype)
        low, high = limits[name]
        changed = leaf * factor if np.isinf(high) else high - (high - leaf) * factor
        return jnp.where(replaced, jnp.clip(changed, low, high), leaf)

    return jax.tree_util.tree_map_with_path(inherit, configs), states, parents


class Evolution:
    """The generations of agents that train together.

    Args:
        population: how they evolve.
        agents: their numbers.
        kept: metrics so far, of agents that trained before.
    """

    def __init__(self, population: Population, agents: Sequence[int], kept: Sequence[Mapping[str, np.ndarray]]):
        self._population = population
        self._agents = np.asarray(agents)
        self._parents = kept[-1]["parent"][:, -1] if kept else self._agents

    def next(self, done: int, num_updates: int) -> int:
        """The update after which the next generation begins, or the last."""
        return min(num_updates, (done // self._population.interval + 1) * self._population.interval)

    def due(self, done: int) -> bool:
        """Whether the next generation begins after this update."""
        return done > 0 and done % self._population.interval == 0

    def columns(self, training: Training, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Metrics [R, updates], with whom each agent went on from, and the numbers that are perturbed."""
        shape = metrics["env_steps"].shape
        numbers = {name: np.asarray(value)[: shape[0]] for name, value, _ in _numbers(training.configs)}
        own = {"parent": self._parents} | {name: numbers[name] for name in self._population.perturb}
        columns = {name: np.broadcast_to(values[:, None], shape) for name, values in own.items()}
        return {**columns, **metrics}  # an annealed number is shown as it is

    def step(self, training: Training, kept: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Begin the next generation, judged by the metrics of the last one."""
        interval = self._population.interval
        returns, episodes = (
            np.concatenate([chunk[name] for chunk in kept[-interval:]], axis=1)[:, -interval:]
            for name in ("episode_return", "episodes")
        )
        count = episodes.sum(axis=1)
        total = np.sum(np.where(episodes > 0, returns * episodes, 0), axis=1)
        scores = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        num_agents = len(self._agents)
        own = jax.tree.map(lambda x: x[:num_agents], (training.configs, training.states))
        key = jax.random.fold_in(jax.random.key(self._population.seed), training.done)
        *evolved, parents = jax.jit(evolve)(self._population, key, *own, jnp.asarray(scores, jnp.float32))
        training.configs, training.states = fill(evolved, training.num_agents)
        self._parents = self._agents[np.asarray(parents)]


def _finite(tree: Any) -> jax.Array:
    """Of each agent, whether all floats in leaves [R, …] are finite numbers: bool [R]."""
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(x).reshape(len(x), -1).all(axis=1) for x in floats]).all(axis=0)


def _numbers(node: Any) -> Iterator[tuple[str, Any, tuple[float, float]]]:
    """The numbers in a config that training goes by: name, value, and the range that it must stay in."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if "limits" in field.metadata and value is not None and not field.metadata["initial"]:
            yield field.name, value, field.metadata["limits"]
        elif dataclasses.is_dataclass(value) and not field.metadata["static"]:
            yield from _numbers(value)

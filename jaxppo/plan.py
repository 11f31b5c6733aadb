"""What a sweep is made of: agents, grouped by the program that trains them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxppo.config import Config, canonical
from jaxppo.fields import check, is_whole

__all__ = ["Plan", "plan"]


class Plan(NamedTuple):
    """Agents, and which of them share a program.

    Attributes:
        configs: of each agent.
        seeds: of each agent.
        settings: number of the config of each agent, agents that differ in their seed having the same.
        groups: the agents of each program.
    """

    configs: list[Config]
    seeds: list[int]
    settings: list[int]
    groups: list[list[int]]

    def steps(self, agents: Iterable[int]) -> int:
        """Environment steps of these agents together."""
        return sum(self.configs[agent].num_updates * self.configs[agent].batch_size for agent in agents)


def plan(configs: Config | Sequence[Config], seeds: int | Iterable[int]) -> Plan:
    """Every config with every seed, grouped by what can be compiled together.

    Args:
        configs: one or more, without stacked leaves, all different.
        seeds: how many (0, 1, …), or which.

    Raises:
        ConfigError: no config, the same one twice, one with a stacked leaf; no seed, one twice, or a bad one.
    """
    configs = [configs] if isinstance(configs, Config) else list(configs)
    check(bool(configs), "configs", configs, "at least one config")
    for config in configs:
        check(isinstance(config, Config), "configs", type(config).__name__, "of jaxppo.Config")
    identities = [_identity(config) for config in configs]
    first: dict[Any, int] = {}
    for number, identity in enumerate(identities):
        other = first.setdefault(identity, number)
        check(other == number, "configs", f"number {number}", f"different from number {other}, which is the same")
    numbers = _seeds(seeds)
    groups: dict[Any, list[int]] = {}
    for number, (static, _) in enumerate(identities):
        groups.setdefault(static, []).extend(range(number * len(numbers), (number + 1) * len(numbers)))
    return Plan(
        [config for config in configs for _ in numbers],
        numbers * len(configs),
        [number for number in range(len(configs)) for _ in numbers],
        list(groups.values()),
    )


def _identity(config: Config) -> tuple[Any, Any]:
    """What a program is compiled for, and the numbers that it is given."""
    leaves, structure = jax.tree.flatten(canonical(config))
    arrays = [np.asarray(leaf) for leaf in leaves]
    return (structure, tuple((a.shape, a.dtype) for a in arrays)), tuple(a.tobytes() for a in arrays)


def _seeds(seeds: Any) -> list[int]:
    several = isinstance(seeds, Iterable) and not isinstance(seeds, str)
    check(several or is_whole(seeds), "seeds", seeds, "how many, at least 1, or which")
    numbers = list(seeds) if several else list(range(seeds))
    check(bool(numbers), "seeds", numbers, "at least one seed")
    for i, seed in enumerate(numbers):
        check(is_whole(seed, 0) and bool(seed < 2**32), "seeds", seed, "whole numbers >= 0 and < 2^32")
        check(seed not in numbers[:i], "seeds", seed, "given once each")
    return [int(seed) for seed in numbers]

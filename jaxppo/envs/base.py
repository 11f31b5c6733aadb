"""The environment protocol: two pure functions without auto-reset, and what a network must know of their spaces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

__all__ = ["Box", "Discrete", "Env", "TimeStep"]


class Discrete(NamedTuple):
    """Actions 0, 1, …, n − 1, as int32 scalars."""

    n: int

    def __str__(self) -> str:
        return f"Discrete({self.n})"


class Box(NamedTuple):
    """Float32 actions of `shape`, between `low` and `high` (scalars or arrays that broadcast to `shape`)."""

    low: Any
    high: Any
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"Box {list(self.shape)} in [{np.min(self.low):.3g}, {np.max(self.high):.3g}]"


class TimeStep(NamedTuple):
    """What one transition of one environment yields, before any reset.

    Attributes:
        obs: the observation after the transition, also when the episode ended with it.
        reward: float32 [].
        terminated: bool []. The episode is over and the value of what follows is 0.
        truncated: bool []. The episode was cut short but what follows has a value. If both are true it terminated.
    """

    obs: Any
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array


@dataclass(frozen=True, eq=False)
class Env:
    """An environment as a bundle of pure functions; compared by identity, so make each one once.

    Attributes:
        name: what to call it.
        params: its default parameters, a pytree; constants of the compiled program unless overridden by arrays.
        observation: shape and dtype of one observation.
        reset: `(key, params) -> (state, obs)`.
        step: `(key, state, action, params) -> (state, TimeStep)`. It does not reset, and its state keeps its dtypes.
        action_space: `params -> Discrete | Box`.
        max_steps: `params -> int | None`, the fewest steps after a reset at which it can truncate; None if not known.
    """

    name: str
    params: Any
    observation: jax.ShapeDtypeStruct
    reset: Callable[[jax.Array, Any], tuple[Any, Any]]
    step: Callable[[jax.Array, Any, jax.Array, Any], tuple[Any, TimeStep]]
    action_space: Callable[[Any], Discrete | Box]
    max_steps: Callable[[Any], int | None]

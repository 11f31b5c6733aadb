"""The environment protocol: two pure functions without auto-reset, and what a network must know of their spaces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "MASK",
    "Box",
    "Discrete",
    "Env",
    "MultiDiscrete",
    "Space",
    "TimeStep",
    "join_mask",
    "some_action",
    "split_mask",
    "strong",
]

MASK = "action_mask"


class Discrete(NamedTuple):
    """Actions 0, 1, …, n − 1, as int32 scalars."""

    n: int

    def __str__(self) -> str:
        return f"Discrete({self.n})"


class MultiDiscrete(NamedTuple):
    """Several choices at once, as int32 [K]: the k-th is 0, 1, …, sizes[k] − 1."""

    sizes: tuple[int, ...]

    def __str__(self) -> str:
        return f"MultiDiscrete({', '.join(map(str, self.sizes))})"


class Box(NamedTuple):
    """Float32 actions of `shape`, between `low` and `high` (scalars or arrays that broadcast to `shape`)."""

    low: Any
    high: Any
    shape: tuple[int, ...]

    def __str__(self) -> str:
        low, high = np.asarray(self.low), np.asarray(self.high)  # a jax array's own min would be traced within a jit
        return f"Box {list(self.shape)} in [{np.min(low):.3g}, {np.max(high):.3g}]"


Space = Discrete | MultiDiscrete | Box


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
        observation: shapes and dtypes of one observation, a pytree of `jax.ShapeDtypeStruct`. In a dict, the key
            "action_mask" is for a bool array that is False where an action must not be taken.
        reset: `(key, params) -> (state, obs)`.
        step: `(key, state, action, params) -> (state, TimeStep)`. It does not reset, and its state keeps its dtypes.
        action_space: `params -> Discrete | MultiDiscrete | Box`.
        max_steps: `params -> int | inf | None`, the fewest steps after a reset at which it can truncate; None if not
            known.
        draw: `(states, returns, params, path)`, which writes a GIF with a frame for each state and the return so far;
            None if it can't be drawn.
        truthful: `(reset, step)` if their observations are one array of zeros and ones. An environment made of this one
            with another of the two is not taken for such. What is always zero is looked for in their jaxprs.
    """

    name: str
    params: Any
    observation: Any
    reset: Callable[[jax.Array, Any], tuple[Any, Any]]
    step: Callable[[jax.Array, Any, jax.Array, Any], tuple[Any, TimeStep]]
    action_space: Callable[[Any], Space]
    max_steps: Callable[[Any], float | None]
    draw: Callable[[Sequence[Any], Sequence[float], Any, Path], None] | None = None
    truthful: tuple[Callable[..., Any], ...] = ()

    @property
    def truths(self) -> bool:
        """Whether an observation is one array of zeros and ones, which a segment may keep as bools."""
        return self.truthful == (self.reset, self.step)


def some_action(space: Space) -> jax.Array:
    """One that the space has: zeros, though a Box may be without them."""
    if isinstance(space, Box):
        return jnp.zeros(space.shape, jnp.float32)
    return jnp.zeros(() if isinstance(space, Discrete) else len(space.sizes), jnp.int32)


def split_mask(obs: Any) -> tuple[Any, Any]:
    """What there is to see in an observation, and its action mask; None if it has none."""
    if not isinstance(obs, Mapping) or MASK not in obs:
        return obs, None
    return {name: part for name, part in obs.items() if name != MASK}, obs[MASK]


def join_mask(seen: Any, mask: Any) -> Any:
    """The observation of the two, as `split_mask` takes it apart; what is no dict comes under the key "obs"."""
    if mask is None:
        return seen
    return {**(seen if isinstance(seen, Mapping) else {"obs": seen}), MASK: mask}


def strong(x: Any) -> jax.Array:
    """Strip weak types, which would make the update compile a second time."""
    return jnp.asarray(x, jnp.asarray(x).dtype)

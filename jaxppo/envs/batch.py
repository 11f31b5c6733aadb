"""N copies of an environment as one, with its parameters bound: one setting for all, or some of them one for each."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import backend, together
from jaxppo.envs.base import Env, Space, TimeStep
from jaxppo.envs.places import by_choice
from jaxppo.fields import check

__all__ = ["EnvBatch", "batch"]


class EnvBatch(NamedTuple):
    """Pure functions over N environments.

    Attributes:
        reset: `keys [N] -> (states, observations)`.
        step: `(keys [N], states, actions [N, …], act) -> (states, TimeStep)`, where `act(action, space)` says what an
            environment gets of an action.
        max_steps: the fewest steps after a reset at which one of them can truncate, inf if none can; None if not known.
        alike: whether all have the same parameters, so that the functions take any number of them.
    """

    reset: Callable[[jax.Array], tuple[Any, Any]]
    step: Callable[[jax.Array, Any, jax.Array, Callable[[jax.Array, Space], jax.Array]], tuple[Any, TimeStep]]
    max_steps: float | None
    alike: bool

    def most_truncations(self, num_steps: int) -> int:
        """How often one of them can truncate within so many steps."""
        if self.max_steps is None:
            return num_steps
        return math.ceil(num_steps / max(self.max_steps, 1))


def batch(env: Env, params: Any, num_envs: int, num_settings: int) -> EnvBatch:
    """This device's share of `num_envs` copies of `env`; all of them, unless devices train an agent together.

    Args:
        env: the environment.
        params: its parameters; leaves with an axis [num_settings] in front hold one setting for each environment, which
            are gone through again from the first if there are more environments.
        num_envs: N.
        num_settings: how many settings such leaves must hold.

    Raises:
        jaxppo.ConfigError: a leaf of another shape than that of the default, with or without such an axis.
    """
    each, axes = _spread(env, params, num_envs, num_settings)
    # On a CPU a scatter is a few writes, and less than a choice.
    written = by_choice if backend.launches_count() else lambda function: function

    def vmapped(function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(*inputs, params)` of inputs [N, …]; parameters that all share stay constants of the program."""

        def one(params: Any, *inputs: Any) -> Any:
            # Parameters stay what they are, of which a shape may depend on some.
            return written(lambda *inputs: function(*inputs, params))(*inputs)

        if axes is None:
            return jax.vmap(partial(one, params))
        return lambda *inputs: jax.vmap(one, in_axes=(axes, *[0] * len(inputs)))(each, *inputs)

    def step(keys: jax.Array, states: Any, actions: Any, act: Any) -> tuple[Any, TimeStep]:
        def one(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, TimeStep]:
            return env.step(key, state, act(action, env.action_space(params)), params)

        return vmapped(one)(keys, states, actions)

    return EnvBatch(vmapped(env.reset), step, env.max_steps(params), axes is None)


def _spread(env: Env, params: Any, num_envs: int, num_settings: int) -> tuple[Any, Any]:
    """A setting for each environment where there are several, and the axes to vmap over; None if there are none."""

    def several(path: Any, leaf: Any, default: Any) -> bool:
        shape, expected = jnp.shape(leaf), jnp.shape(default)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        one = f"an array of {expected}" if expected else "one number"
        each = f"{one}, or one for each of num_envs={num_settings}; for an agent each, jax.vmap over batch_axes"
        found = f"{name} of shape {shape}" if shape else f"{name}, a number"
        check(shape in (expected, (num_settings, *expected)), "env_params", found, each)
        return len(shape) > len(expected)

    mapped = jax.tree_util.tree_map_with_path(several, params, env.params)
    if not any(jax.tree.leaves(mapped)):
        return params, None
    order = together.share_envs(np.arange(num_envs) % num_settings)
    each = jax.tree.map(lambda leaf, is_mapped: jnp.asarray(leaf)[order] if is_mapped else leaf, params, mapped)
    return each, jax.tree.map(lambda is_mapped: 0 if is_mapped else None, mapped)

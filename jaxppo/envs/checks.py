"""What an environment of a user's own must be like, found out by tracing it once, before anything is compiled."""

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Discrete, Env, MultiDiscrete, TimeStep, some_action
from jaxppo.fields import ConfigError, is_whole

__all__ = ["check_env"]

_checked: WeakSet[Env] = WeakSet()


def check_env(env: Env) -> None:
    """Raise `jaxppo.ConfigError` unless the functions of `env` do what `Env` says, with its default parameters."""
    if env in _checked:
        return
    for name in ("reset", "step", "action_space", "max_steps"):
        if not callable(getattr(env, name)):
            raise _refusal(env, f"whose {name} is a function, not {getattr(env, name)}")
    _check_observation(env)
    space = _called(env, "action_space", lambda: env.action_space(env.params))
    _check_space(env, space)
    limit = _called(env, "max_steps", lambda: env.max_steps(env.params))
    if not (limit is None or (isinstance(limit, int | float | np.number) and limit >= 1)):
        raise _refusal(env, f"whose max_steps gives a number >= 1 or None, not {limit!r}")
    key = jax.random.key(0)
    state, obs = _pair(env, "reset", "(state, obs)", lambda: env.reset(key, env.params))
    _check_alike(env, "reset gives obs", obs, env.observation)
    after, timestep = _pair(
        env, "step", "(state, TimeStep)", lambda state: env.step(key, state, some_action(space), env.params), state
    )
    if not isinstance(timestep, TimeStep):
        raise _refusal(env, f"whose step gives (state, TimeStep), not {type(timestep).__name__}")
    _check_alike(env, "step gives state", after, state)
    _check_alike(env, "step gives obs", timestep.obs, env.observation)
    reward = timestep.reward
    if reward.shape or not jnp.issubdtype(reward.dtype, jnp.number):
        raise _refusal(env, f"whose step gives reward float32[], not {_text(reward)}")
    for name in ("terminated", "truncated"):
        if (end := getattr(timestep, name)).shape or end.dtype != jnp.bool_:
            raise _refusal(env, f"whose step gives {name} bool[], not {_text(end)}")
    _checked.add(env)


def _refusal(env: Env, allowed: str) -> ConfigError:
    return ConfigError("env", env.name, f"one {allowed}")


def _check_observation(env: Env) -> None:
    parts = jax.tree.leaves(env.observation)
    if not parts or not all(isinstance(part, jax.ShapeDtypeStruct) for part in parts):
        raise _refusal(env, f"whose observation is made of jax.ShapeDtypeStruct, not {env.observation}")
    for part in parts:
        numbers = part.dtype == jnp.bool_ or jnp.issubdtype(part.dtype, jnp.number)
        if not numbers or math.prod(part.shape) == 0:
            raise _refusal(env, f"that shows numbers, not {_text(part)}")


def _check_space(env: Env, space: Any) -> None:
    if isinstance(space, Discrete | MultiDiscrete):
        sizes = (space.n,) if isinstance(space, Discrete) else space.sizes
        if not (isinstance(sizes, tuple) and sizes and all(map(is_whole, sizes))):
            raise _refusal(env, f"with actions, not {space}")
    elif not isinstance(space, Box):
        raise _refusal(env, f"whose action_space gives Discrete, MultiDiscrete or Box, not {space}")
    elif not isinstance(space.shape, tuple) or not all(map(is_whole, space.shape)):
        raise _refusal(env, f"whose actions have a shape, not {space.shape}")
    elif not any(isinstance(bound, jax.core.Tracer) for bound in (space.low, space.high)):
        low, high = np.asarray(space.low), np.asarray(space.high)
        if not (_fits(low, space.shape) and _fits(high, space.shape) and np.all(low <= high)):
            raise _refusal(env, f"whose actions {list(space.shape)} go from low to high, not from {low} to {high}")


def _fits(bound: np.ndarray, shape: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(bound.shape, shape) == shape
    except ValueError:
        return False


def _called(env: Env, name: str, function: Callable[[], Any]) -> Any:
    """What one of the functions gives."""
    try:
        return function()
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise _refusal(env, f"whose {name} can be traced by JAX; {reason}") from error


def _pair(env: Env, name: str, gives: str, function: Callable[..., Any], *inputs: Any) -> tuple[Any, Any]:
    """Shapes and dtypes of the two results of one of the functions."""
    results = _called(env, name, lambda: jax.eval_shape(function, *inputs))
    if not isinstance(results, tuple) or len(results) != 2:
        raise _refusal(env, f"whose {name} gives {gives}, not {type(results).__name__}")
    first, second = results
    return first, second


def _check_alike(env: Env, what: str, found: Any, wanted: Any) -> None:
    """Compare structures, shapes, and dtypes that are not weak; a user's own nodes are not looked into otherwise."""
    structures: list[Any] = [jax.tree.structure(wanted), jax.tree.structure(found)]
    if structures[0] != structures[1]:
        raise _refusal(env, f"whose {what} {structures[0]}, not {structures[1]}")
    for (path, leaf), like in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        weak = any(getattr(each, "weak_type", False) for each in (leaf, like))  # which JAX promotes
        if leaf.shape != like.shape or (not weak and _text(leaf) != _text(like)):
            name = jax.tree_util.keystr(path)
            raise _refusal(env, f"whose {what}{name} {_text(like)}, not {_text(leaf)}")


def _text(leaf: Any) -> str:
    dtype = leaf.dtype
    if not jnp.issubdtype(dtype, jax.dtypes.extended):
        dtype = jax.dtypes.canonicalize_dtype(dtype)  # as declared where doubles are off
    return f"{dtype}{list(leaf.shape)}"

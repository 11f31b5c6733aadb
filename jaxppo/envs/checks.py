"""What an environment of a user's own must be like, found out by tracing it once, before anything is compiled."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Discrete, Env, MultiDiscrete, TimeStep, some_action
from jaxppo.fields import ConfigError

__all__ = ["check_env"]


@functools.cache
def check_env(env: Env) -> None:
    """Raise `jaxppo.ConfigError` unless the functions of `env` do what `Env` says, with its default parameters."""
    for name in ("reset", "step", "action_space", "max_steps"):
        _check(env, callable(getattr(env, name)), f"one whose {name} is a function, not {getattr(env, name)}")
    parts = jax.tree.leaves(env.observation)
    shapes = bool(parts) and all(isinstance(part, jax.ShapeDtypeStruct) for part in parts)
    _check(env, shapes, f"one whose observation is made of jax.ShapeDtypeStruct, not {env.observation}")
    space = env.action_space(env.params)
    _check_space(env, space)
    key = jax.random.key(0)
    state, obs = _traced(env, "reset", "(state, obs)", lambda: env.reset(key, env.params))
    _check_alike(env, "reset gives", "obs", obs, env.observation)
    after, timestep = _traced(
        env, "step", "(state, TimeStep)", lambda state: env.step(key, state, some_action(space), env.params), state
    )
    _check(
        env, isinstance(timestep, TimeStep), f"one whose step gives (state, TimeStep), not {type(timestep).__name__}"
    )
    _check_alike(env, "step gives", "state", after, state)
    _check_alike(env, "step gives", "obs", timestep.obs, env.observation)
    like = TimeStep(env.observation, *(jnp.zeros((), dtype) for dtype in (jnp.float32, bool, bool)))
    for name in TimeStep._fields[1:]:
        _check_alike(env, "step gives", name, getattr(timestep, name), getattr(like, name))


def _check(env: Env, condition: bool, allowed: str) -> None:
    if not condition:
        raise ConfigError("env", env.name, allowed)


def _check_space(env: Env, space: Any) -> None:
    kinds = isinstance(space, Discrete | MultiDiscrete | Box)
    _check(env, kinds, f"one whose action_space gives Discrete, MultiDiscrete or Box, not {space}")
    if isinstance(space, Box):
        some = math.prod(space.shape) > 0 and bool(np.all(np.asarray(space.low) <= np.asarray(space.high)))
        _check(env, some, f"one with actions, of at least one number from low to high, not {space}")
    else:
        sizes = (space.n,) if isinstance(space, Discrete) else space.sizes
        _check(env, bool(sizes) and all(size >= 1 for size in sizes), f"one with actions, not {space}")


def _traced(env: Env, name: str, gives: str, function: Callable[..., Any], *inputs: Any) -> tuple[Any, Any]:
    """Shapes and dtypes of the two results of a function of the environment."""
    try:
        results = jax.eval_shape(function, *inputs)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ConfigError("env", env.name, f"one whose {name} can be traced by JAX; {reason}") from error
    pair = isinstance(results, tuple) and len(results) == 2
    _check(env, pair, f"one whose {name} gives {gives}, not {_describe(results)}")
    first, second = results
    return first, second


def _check_alike(env: Env, who: str, name: str, found: Any, wanted: Any) -> None:
    found, wanted = _describe(found), _describe(wanted)
    _check(env, found == wanted, f"one whose {who} {name} {wanted}, not {found}")


def _describe(tree: Any) -> str:
    """A pytree with the dtype and shape of each leaf in its place."""
    described = jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
    return str(described).replace("'", "")

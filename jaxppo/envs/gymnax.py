"""gymnax environments (1.0 or later) behind the protocol of `jaxppo.envs.base`."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.envs.base import Box, Discrete, Env, TimeStep
from jaxppo.fields import ConfigError, suggest
from jaxppo.interop import default_promotion

__all__ = ["from_gymnax", "make", "names"]


def names() -> list[str]:
    """Every name that gymnax can make, those given to `gymnax.register` included."""
    import gymnax

    return list(gymnax.registered_envs)


@functools.cache
def make(name: str) -> Env:
    """Make the environment that gymnax registers under `name`; the same object each time.

    Raises:
        ConfigError: the name is unknown, or the environment can't be constructed or trained.
    """
    import gymnax

    if name not in gymnax.registered_envs:
        raise ConfigError("env", name, f"an environment that gymnax knows; {suggest(name, names())}")
    try:
        with default_promotion():
            env, _ = gymnax.make(name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError("env", name, f"an environment that can be constructed here; {reason}") from error
    return from_gymnax(env, name)


@functools.cache
def from_gymnax(env: Any, name: str | None = None) -> Env:
    """Adapt a gymnax `Environment` object.

    Integer observations of a Discrete space become one-hot vectors, for `jaxppo.act` and `jaxppo.value` too; other
    observations keep their shape and dtype.

    Raises:
        ConfigError: an observation or action space that jaxppo cannot train on.
    """
    from gymnax.environments import environment, spaces

    name = name or env.name
    with default_promotion():
        params = env.default_params
        obs_space = env.observation_space(params)
    one_hot = obs_space.n if isinstance(obs_space, spaces.Discrete) else None

    def observe(obs: Any) -> jax.Array:
        return jax.nn.one_hot(obs, one_hot, dtype=jnp.float32) if one_hot else _strong(obs)

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        with default_promotion():
            obs, state = env.reset_env(key, params)
            return jax.tree.map(_strong, state), observe(obs)

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, TimeStep]:
        with default_promotion():
            obs, after, reward, terminated, _ = env.step_env(key, state, action, params)
            truncated = env.is_truncated(after, params)
            timestep = TimeStep(
                obs=observe(obs).astype(observation.dtype),
                reward=jnp.asarray(reward, jnp.float32).reshape(()),
                terminated=jnp.asarray(terminated, bool).reshape(()),
                truncated=jnp.asarray(truncated, bool).reshape(()),
            )
            return jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), after, state), timestep

    def action_space(params: Any) -> Discrete | Box:
        with default_promotion():
            space = env.action_space(params)
        if isinstance(space, spaces.Discrete):
            return Discrete(int(space.n))
        return Box(space.low, space.high, tuple(space.shape))

    def max_steps(params: Any) -> int | None:
        limit = getattr(params, "max_steps_in_episode", None)
        known = type(env).is_truncated is environment.Environment.is_truncated
        return math.ceil(limit) if known and isinstance(limit, int | float | np.number) else None

    if not isinstance(obs_space, spaces.Discrete | spaces.Box):
        raise ConfigError("env", name, f"one with Box or Discrete observations, not {type(obs_space).__name__}")
    with default_promotion():
        kind = type(env.action_space(params))
    if not issubclass(kind, spaces.Discrete | spaces.Box):
        raise ConfigError("env", name, f"one with Discrete or Box actions, not {kind.__name__}")
    # The shape and dtype come from a traced reset, because declared spaces are not always what an environment returns.
    _, observation = jax.eval_shape(lambda: reset(jax.random.key(0), params))
    return Env(name, params, observation, reset, step, action_space, max_steps)


def _strong(x: Any) -> jax.Array:
    """Strip weak types, which would make the update compile a second time."""
    return jnp.asarray(x, jnp.asarray(x).dtype)

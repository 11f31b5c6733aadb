"""Environments made of others: stacked frames, the last action and reward as inputs, time limits that are real ends.

Each function gives the same object for the same arguments, so that nothing compiles twice.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxppo.envs.base import Box, Discrete, Env, Space, TimeStep, join_mask, split_mask

__all__ = ["observe_last", "stack_frames", "truncation_is_terminal"]


class Wrapped(NamedTuple):
    """The state of an environment and what the wrapper remembers."""

    inner: Any
    memory: Any


@functools.cache
def stack_frames(env: Env, num_frames: int) -> Env:
    """Observations hold the last `num_frames` ones, oldest first, along the last axis; the first one fills up.

    Scalars become vectors [num_frames]. An action mask stays as it is.
    """

    def begin(obs: Any) -> tuple[Any, Any]:
        frame, mask = split_mask(obs)
        frames = jax.tree.map(lambda x: jnp.repeat(x[None], num_frames, axis=0), frame)
        return frames, join_mask(jax.tree.map(_along_last_axis, frames), mask)

    def go_on(frames: Any, obs: Any, action: Any, reward: Any) -> tuple[Any, Any]:
        frame, mask = split_mask(obs)
        frames = jax.tree.map(lambda old, new: jnp.concatenate([old[1:], new[None]]), frames, frame)
        return frames, join_mask(jax.tree.map(_along_last_axis, frames), mask)

    return _remembering(env, begin, go_on)


@functools.cache
def observe_last(env: Env) -> Env:
    """Observations become `{"obs", "last_action", "last_reward"}`, with zeros at the start of an episode.

    Actions are as the environment got them, Discrete ones one-hot. An action mask moves to the key "action_mask" of the
    new observation.
    """
    space = env.action_space(env.params)

    def begin(obs: Any) -> tuple[Any, Any]:
        action = jnp.zeros(space.shape if isinstance(space, Box) else _one_hot_size(space), jnp.float32)
        return (), observe(obs, action, jnp.zeros((), jnp.float32))

    def go_on(memory: Any, obs: Any, action: jax.Array, reward: jax.Array) -> tuple[Any, Any]:
        return memory, observe(obs, encode_action(action, space), reward)

    def observe(obs: Any, action: jax.Array, reward: jax.Array) -> Any:
        seen, mask = split_mask(obs)
        return join_mask({"obs": seen, "last_action": action, "last_reward": reward}, mask)

    return _remembering(env, begin, go_on)


@functools.cache
def truncation_is_terminal(env: Env) -> Env:
    """Time limits end an episode for good: what follows them has no value."""

    def step(key: jax.Array, state: Any, action: jax.Array, params: Any) -> tuple[Any, TimeStep]:
        state, timestep = env.step(key, state, action, params)
        over = timestep.terminated | timestep.truncated
        return state, timestep._replace(terminated=over, truncated=jnp.zeros_like(over))

    truthful = (env.reset, step) if env.truths else ()
    return dataclasses.replace(env, step=step, max_steps=lambda params: math.inf, truthful=truthful)


def encode_action(action: jax.Array, space: Space) -> jax.Array:
    """An action as a float32 vector: one-hot if it is a choice, one after the other if there are several."""
    if isinstance(space, Box):
        return action.astype(jnp.float32)
    if isinstance(space, Discrete):
        return jax.nn.one_hot(action, space.n, dtype=jnp.float32)
    parts = [jax.nn.one_hot(action[k], size, dtype=jnp.float32) for k, size in enumerate(space.sizes)]
    return jnp.concatenate(parts)


def _remembering(env: Env, begin: Callable[[Any], Any], go_on: Callable[[Any, Any, Any, Any], Any]) -> Env:
    """`begin(obs)` and `go_on(memory, obs, action, reward)` give the memory and the observation to show."""

    def reset(key: jax.Array, params: Any) -> tuple[Any, Any]:
        inner, obs = env.reset(key, params)
        memory, obs = begin(obs)
        return Wrapped(inner, memory), obs

    def step(key: jax.Array, state: Wrapped, action: jax.Array, params: Any) -> tuple[Any, TimeStep]:
        inner, timestep = env.step(key, state.inner, action, params)
        memory, obs = go_on(state.memory, timestep.obs, action, timestep.reward)
        return Wrapped(inner, memory), timestep._replace(obs=obs)

    observation = jax.eval_shape(lambda obs: begin(obs)[1], env.observation)
    draw = env.draw and (lambda states, *rest: env.draw([state.inner for state in states], *rest))  # type: ignore[misc]
    truthful = (reset, step) if env.truths and isinstance(observation, jax.ShapeDtypeStruct) else ()
    return dataclasses.replace(env, reset=reset, step=step, observation=observation, draw=draw, truthful=truthful)


def _along_last_axis(frames: jax.Array) -> jax.Array:
    """[K, …, C] -> […, K·C]; [K] stays."""
    return frames if frames.ndim == 1 else jnp.concatenate(list(frames), axis=-1)


def _one_hot_size(space: Any) -> tuple[int]:
    return (space.n,) if isinstance(space, Discrete) else (sum(space.sizes),)

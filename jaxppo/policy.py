"""Using what was trained: act, value and evaluate, with the training normaliser, frozen."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxppo.config import Config, canonical
from jaxppo.distributions import Distribution
from jaxppo.fields import check
from jaxppo.normalize import normalize
from jaxppo.rollout import env_action, start
from jaxppo.training import build
from jaxppo.types import Policy, TrainState

__all__ = ["act", "evaluate", "value"]


def act(
    config: Config, state: TrainState | Policy, obs: jax.Array, key: jax.Array | None = None, greedy: bool = False
) -> jax.Array:
    """Actions for observations [B, …], as the environment takes them: int32 [B], or float32 [B, …] within the bounds.

    Args:
        config: the config that `state` was trained with.
        state: a train state, or the policy of one.
        obs: [B, …] as the environment gives them; they are normalised here if the config says so.
        key: PRNG key to sample with, consumed; not needed if greedy.
        greedy: take the mode instead of a sample.

    Raises:
        ValueError: no key for a sampled action, or observations of another shape than the environment's.
    """
    if key is None and not greedy:
        raise ValueError("key=None: must be a PRNG key unless greedy=True")
    _check_obs(config, obs)
    return _act(canonical(config), _policy(state), obs, key, greedy)


def value(config: Config, state: TrainState | Policy, obs: jax.Array) -> jax.Array:
    """The critic's values [B] of observations [B, …], which are normalised here if the config says so.

    Values are in units of the rewards that the critic was trained on: scaled ones under `normalize_reward`.

    Raises:
        ValueError: observations of another shape than the environment's.
    """
    _check_obs(config, obs)
    return _value(canonical(config), _policy(state), obs)


def evaluate(
    config: Config,
    state: TrainState | Policy,
    key: jax.Array,
    num_episodes: int = 128,
    greedy: bool = True,
    max_steps: int = 27_000,
) -> jax.Array:
    """Undiscounted returns of whole episodes, played side by side in fresh environments: float [num_episodes].

    Args:
        config: the config that `state` was trained with.
        state: a train state, or the policy of one.
        key: PRNG key, consumed.
        num_episodes: how many; static.
        greedy: take the mode of the policy instead of a sample; static.
        max_steps: an episode still running after so many steps counts what it has earned; for environments that have no
            time limit of their own.

    Raises:
        ConfigError: `num_episodes` or `max_steps` below 1.
    """
    check(num_episodes >= 1, "num_episodes", num_episodes, "a whole number >= 1")
    check(max_steps >= 1, "max_steps", max_steps, "a whole number >= 1")
    return _evaluate(canonical(config), _policy(state), key, num_episodes, greedy, jnp.int32(max_steps))


def _policy(state: TrainState | Policy) -> Policy:
    return state.policy if isinstance(state, TrainState) else state


def _check_obs(config: Config, obs: Any) -> None:
    expected = config.make_env().observation.shape
    if jnp.shape(obs)[1:] != expected or jnp.ndim(obs) == 0:
        raise ValueError(f"obs of shape {jnp.shape(obs)}: must be (B, {', '.join(map(str, expected))})")


def _see(config: Config, policy: Policy, obs: jax.Array) -> jax.Array:
    return obs if policy.obs_moments is None else normalize(policy.obs_moments, obs, config.obs_clip)


def _choose(distribution: Distribution, key: jax.Array | None, greedy: bool) -> jax.Array:
    return distribution.mode() if greedy or key is None else distribution.sample(key)


@partial(jax.jit, static_argnames="greedy")
def _act(config: Config, policy: Policy, obs: jax.Array, key: jax.Array | None, greedy: bool) -> jax.Array:
    env, env_params, _ = build(config)
    return env_action(_choose(_outputs(config, policy, obs)[0], key, greedy), env.action_space(env_params))


@jax.jit
def _value(config: Config, policy: Policy, obs: jax.Array) -> jax.Array:
    return _outputs(config, policy, obs)[1]


def _outputs(config: Config, policy: Policy, obs: jax.Array) -> tuple[Distribution, jax.Array]:
    """Distribution and value [B] of observations that each begin an episode."""
    _, _, network = build(config)
    batch = obs.shape[0]
    carry = network.initial_carry(batch)
    return network.apply(policy.params, carry, _see(config, policy, obs), jnp.ones(batch, bool))[1:]


@partial(jax.jit, static_argnames=("num_episodes", "greedy"))
def _evaluate(
    config: Config, policy: Policy, key: jax.Array, num_episodes: int, greedy: bool, max_steps: jax.Array
) -> jax.Array:
    env, env_params, network = build(config)
    space = env.action_space(env_params)
    key, key_start = jax.random.split(key)
    loop = start(env, env_params, network, key_start, num_episodes)

    def running(carry: tuple[Any, ...]) -> jax.Array:
        return jnp.any(carry[-1]) & (carry[0] < max_steps)

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        steps, key, env_state, obs, reset, net_carry, returns, alive = carry
        key, key_action, key_step = jax.random.split(key, 3)
        net_carry, distribution, _ = network.apply(policy.params, net_carry, _see(config, policy, obs), reset)
        action = env_action(_choose(distribution, key_action, greedy), space)
        env_state, timestep = jax.vmap(lambda k, s, a: env.step(k, s, a, env_params))(
            jax.random.split(key_step, num_episodes), env_state, action
        )
        returns = returns + jnp.where(alive, timestep.reward, 0.0)
        alive = alive & ~(timestep.terminated | timestep.truncated)
        return steps + 1, key, env_state, timestep.obs, jnp.zeros_like(reset), net_carry, returns, alive

    alive = jnp.ones(num_episodes, bool)
    carry = (jnp.int32(0), key, loop.env_state, loop.obs, loop.reset, loop.carry, loop.episode_return, alive)
    return jax.lax.while_loop(running, step, carry)[-2]

"""Using what was trained: act, value and evaluate, with the training normaliser, frozen."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxppo import envs
from jaxppo.config import Config, canonical
from jaxppo.distributions import Distribution
from jaxppo.envs import TimeStep
from jaxppo.fields import check, is_whole
from jaxppo.keys import typed_key
from jaxppo.normalize import normalize_obs
from jaxppo.rollout import env_action
from jaxppo.states import check_alike, policy_of
from jaxppo.training import build, init_policy
from jaxppo.types import Policy, TrainState

__all__ = ["act", "act_recurrent", "evaluate", "initial_carry", "play", "value"]


def act(
    config: Config, state: TrainState | Policy, obs: jax.Array, key: jax.Array | None = None, greedy: bool = False
) -> jax.Array:
    """Actions for observations [B, …], as the environment takes them: int32 [B], or float32 [B, …] within the bounds.

    Args:
        config: the config that `state` was trained with.
        state: a train state, or the policy of one.
        obs: [B, …] as `config.make_env()` gives them; they are normalised here if the config says so.
        key: PRNG key to sample with, consumed; not needed if greedy.
        greedy: take the mode instead of a sample.

    Raises:
        ValueError: no key for a sampled action, a state of another config, observations of another shape than the
            environment's, or a network with memory, for which there is `act_recurrent`.
    """
    _check_inputs(config, obs)
    _check_no_memory(config)
    return _act(canonical(config), policy_of(state), obs, _sampling(key, greedy), greedy)


def act_recurrent(
    config: Config,
    state: TrainState | Policy,
    carry: Any,
    obs: Any,
    reset: jax.Array,
    key: jax.Array | None = None,
    greedy: bool = False,
) -> tuple[Any, jax.Array]:
    """Like `act`, with memory: the carry after `obs`, and the actions.

    Args:
        config: the config that `state` was trained with.
        state: a train state, or the policy of one.
        carry: what the last call returned; `initial_carry(config, B)` before the first.
        obs: [B, …] as `config.make_env()` gives them.
        reset: bool [B]. An episode begins with `obs`, and what was before is forgotten.
        key: PRNG key to sample with, consumed; not needed if greedy.
        greedy: take the mode instead of a sample.

    Raises:
        ValueError: no key for a sampled action, a state of another config, or observations, a carry or resets of a
            wrong shape.
    """
    _check_inputs(config, obs)
    batch = jax.tree.leaves(obs)[0].shape[0]
    for name, value, like in (("carry", carry, initial_carry(config, batch)), ("reset", reset, jnp.ones(batch, bool))):
        found, wanted = (jax.tree.map(lambda x: f"{jnp.result_type(x)}{jnp.shape(x)}", tree) for tree in (value, like))
        if found != wanted:
            raise ValueError(f"{name}={found}: must be {wanted}")
    return _act_recurrent(canonical(config), policy_of(state), carry, obs, reset, _sampling(key, greedy), greedy)


def initial_carry(config: Config, batch: int) -> Any:
    """The network's memory [B, …] before the first of an episode's observations; `()` if it has none.

    Raises:
        ConfigError: `batch` is no whole number, 1 or more.
    """
    check(is_whole(batch), "batch", batch, "a whole number >= 1")
    return config.make_network().initial_carry(batch)


def value(config: Config, state: TrainState | Policy, obs: jax.Array) -> jax.Array:
    """The critic's values [B] of observations [B, …], which are normalised here if the config says so.

    Values are in units of the rewards that the critic was trained on: scaled ones under `normalize_reward`.

    Raises:
        ValueError: a state of another config, observations of another shape than the environment's, or a network with
            memory.
    """
    _check_inputs(config, obs)
    _check_no_memory(config)
    return _value(canonical(config), policy_of(state), obs)


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
        ConfigError: a state of another config, `num_episodes` or `max_steps` below 1, or `key` is no PRNG key.
    """
    for name, number in (("num_episodes", num_episodes), ("max_steps", max_steps)):
        check(is_whole(number) and number < 2**31, name, number, "a whole number >= 1 and < 2^31")
    return _evaluate(canonical(config), policy_of(state), typed_key(key), num_episodes, greedy, jnp.int32(max_steps))


def _sampling(key: jax.Array | None, greedy: bool) -> jax.Array | None:
    """The key to sample with, None if greedy."""
    if key is None and not greedy:
        raise ValueError("key=None: must be a PRNG key unless greedy=True")
    return None if greedy else typed_key(key)


def _check_inputs(config: Config, obs: Any) -> None:
    expected = config.make_env().observation
    found, wanted = map(str, (jax.tree.structure(obs), jax.tree.structure(expected)))
    if found != wanted:
        raise ValueError(f"obs={found}: must be {wanted}")
    for part, like in zip(jax.tree.leaves(obs), jax.tree.leaves(expected), strict=True):
        if jnp.ndim(part) == 0 or jnp.shape(part)[1:] != like.shape or len(part) == 0:
            wanted = ", ".join(["B", *map(str, like.shape)])
            raise ValueError(f"obs of shape {jnp.shape(part)}: must be ({wanted}), B being 1 or more")


def _check_no_memory(config: Config) -> None:
    if config.make_network().recurrent:
        raise ValueError("network with memory: an observation alone does not tell; act_recurrent takes its carry too")


def _check_policy(config: Config, policy: Policy) -> None:
    check_alike(policy, jax.eval_shape(partial(init_policy, config), jax.random.key(0)))


def _see(config: Config, policy: Policy, obs: Any) -> Any:
    return obs if policy.obs_moments is None else normalize_obs(policy.obs_moments, obs, config.obs_clip)


def _choose(distribution: Distribution, key: jax.Array | None, greedy: bool) -> jax.Array:
    return distribution.mode() if greedy or key is None else distribution.sample(key)


@partial(jax.jit, static_argnames="greedy")
def _act(config: Config, policy: Policy, obs: Any, key: jax.Array | None, greedy: bool) -> jax.Array:
    return _step(config, policy, (), obs, _fresh(obs), key, greedy)[1]


@partial(jax.jit, static_argnames="greedy")
def _act_recurrent(
    config: Config, policy: Policy, carry: Any, obs: Any, reset: jax.Array, key: jax.Array | None, greedy: bool
) -> tuple[Any, jax.Array]:
    return _step(config, policy, carry, obs, reset, key, greedy)


@jax.jit
def _value(config: Config, policy: Policy, obs: Any) -> jax.Array:
    _check_policy(config, policy)
    return config.make_network().apply(policy.params, (), _see(config, policy, obs), _fresh(obs))[2]


def _fresh(obs: Any) -> jax.Array:
    return jnp.ones(jax.tree.leaves(obs)[0].shape[0], bool)


def _step(
    config: Config, policy: Policy, carry: Any, obs: Any, reset: jax.Array, key: jax.Array | None, greedy: bool
) -> tuple[Any, jax.Array]:
    _check_policy(config, policy)
    env = config.make_env()
    space, default = (env.action_space(params) for params in (envs.override(env, config.env_params), env.params))
    if [jnp.ndim(bound) for bound in jax.tree.leaves(space)] != [jnp.ndim(bound) for bound in jax.tree.leaves(default)]:
        raise ValueError("env_params: must give one set of bounds to act within, not one for each environment")
    carry, distribution, _ = config.make_network().apply(policy.params, carry, _see(config, policy, obs), reset)
    actions = _choose(distribution, key, greedy)
    return carry, jax.vmap(lambda action: env_action(distribution, action, space))(actions)


class Playing(NamedTuple):
    """Where N environments stand that are played without resets: every leaf is [N, …]."""

    env_state: Any
    obs: Any
    reset: jax.Array
    carry: Any


def play(
    config: Config, policy: Policy, num_envs: int, greedy: bool
) -> tuple[Callable[[jax.Array], Playing], Callable[[Playing, jax.Array], tuple[Playing, TimeStep]]]:
    """`begin(key)` and `step(playing, key)` for `num_envs` environments that are not reset; keys are consumed."""
    _check_policy(config, policy)
    env_batch, network = build(config, num_envs)

    def begin(key: jax.Array) -> Playing:
        env_state, obs = env_batch.reset(jax.random.split(key, num_envs))
        return Playing(env_state, obs, jnp.ones(num_envs, bool), network.initial_carry(num_envs))

    def step(at: Playing, key: jax.Array) -> tuple[Playing, TimeStep]:
        key_action, key_step = jax.random.split(key)
        carry, distribution, _ = network.apply(policy.params, at.carry, _see(config, policy, at.obs), at.reset)
        env_state, timestep = env_batch.step(
            jax.random.split(key_step, num_envs),
            at.env_state,
            _choose(distribution, key_action, greedy),
            partial(env_action, distribution),
        )
        return Playing(env_state, timestep.obs, jnp.zeros(num_envs, bool), carry), timestep

    return begin, step


@partial(jax.jit, static_argnames=("num_episodes", "greedy"))
def _evaluate(
    config: Config, policy: Policy, key: jax.Array, num_episodes: int, greedy: bool, max_steps: jax.Array
) -> jax.Array:
    begin, step = play(config, policy, num_episodes, greedy)
    key, key_start = jax.random.split(key)

    def running(carry: tuple[Any, ...]) -> jax.Array:
        steps, _, _, _, alive = carry
        return jnp.any(alive) & (steps < max_steps)

    def go_on(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        steps, key, playing, returns, alive = carry
        key, key_step = jax.random.split(key)
        playing, timestep = step(playing, key_step)
        returns = returns + jnp.where(alive, timestep.reward, 0.0)
        return steps + 1, key, playing, returns, alive & ~(timestep.terminated | timestep.truncated)

    nothing, alive = jnp.zeros(num_episodes, jnp.float32), jnp.ones(num_episodes, bool)
    return jax.lax.while_loop(running, go_on, (jnp.int32(0), key, begin(key_start), nothing, alive))[3]

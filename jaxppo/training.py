"""Training as one pure function: the core's table of contents.

`update` is one rollout, its advantages and one learning phase; `train` is `init`, then `update` `num_updates` times.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxppo import envs, together
from jaxppo.advantages import gae
from jaxppo.compilation import program
from jaxppo.config import Config, canonical
from jaxppo.envs.base import split_mask
from jaxppo.envs.batch import EnvBatch, batch
from jaxppo.fields import ConfigError
from jaxppo.keys import typed_key
from jaxppo.networks import Network
from jaxppo.normalize import RunningMoments, normalize_obs, scale
from jaxppo.rollout import Draws, EpisodeStats, Trajectory, cleared, collect, draw, start
from jaxppo.states import check_alike, check_train_state
from jaxppo.types import COLUMNS, Batch, EnvLoop, Metrics, Policy, Result, TrainState

__all__ = ["build", "init", "train", "update"]

ROUNDING = 1e-6  # of targets, relative to them
FEW_SLOTS = 8  # up to this many truncations of an environment in a segment, their final observations are picked out


def train(config: Config, key: jax.Array) -> Result:
    """Train one agent from scratch. Pure: `jax.jit`, `jax.vmap` (over keys, or over stacked config leaves) work on it.

    Args:
        config: what to train and how; see `Config`.
        key: PRNG key, from `jax.random.key`. Consumed.

    Returns:
        The final `TrainState`, and `Metrics` whose leaves are [num_updates].

    Raises:
        ConfigError: `key` is no PRNG key.
    """
    return _train(canonical(config), typed_key(key))


def init(config: Config, key: jax.Array) -> TrainState:
    """The state before the first update: fresh parameters, optimiser and environments. Consumes `key`.

    Raises:
        ConfigError: `key` is no PRNG key.
    """
    return _init(canonical(config), typed_key(key))


def update(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """One rollout of `num_steps` in each environment, advantages, and one learning phase.

    Past `config.num_updates` updates, annealed numbers stay where they ended, at 0.

    Returns:
        The next state, and this update's `Metrics`, each a scalar.

    Raises:
        ConfigError: `state` is no train state, or not one of such a config.
    """
    check_train_state(state)
    return _update(canonical(config), state)


@program
def _train(config: Config, key: jax.Array) -> Result:
    start = init_step(config, key)
    end, metrics = jax.lax.scan(lambda state, _: update_step(config, state), start, length=config.num_updates)
    return Result(with_all_envs(config, end), metrics)


def build(config: Config, num_envs: int | None = None) -> tuple[EnvBatch, Network]:
    """The environments, `num_envs` in place of `config.num_envs` if given, and the network bound to their spaces."""
    env = config.make_env()
    env_params = envs.override(env, config.env_params)
    return batch(env, env_params, num_envs or config.num_envs, config.num_envs), config.make_network()


def with_own_envs(state: TrainState) -> TrainState:
    """The state with this device's environments only, as the steps below take it; see `together.share_envs`."""
    return state.replace(loop=together.share_envs(state.loop))


def with_all_envs(config: Config, state: TrainState) -> TrainState:
    """The state with the environments of all devices that train the agent together."""
    # Once, so one message for each array, which takes less to compile than one for all.
    return state.replace(loop=together.gather_envs(state.loop, config.num_envs, packed=False))


def init_step(config: Config, key: jax.Array) -> TrainState:
    """`init` without its own jit, for use inside a compiled program: of this device's environments. Consumes `key`."""
    env_batch, network = build(config)
    keys = jax.random.split(key, 2 + config.num_envs)
    policy = init_policy(config, keys[0])
    return TrainState(
        policy=policy,
        reward_moments=RunningMoments.zeros(jnp.zeros(())) if config.normalize_reward else None,
        learner=config.learner.init(policy.params),
        loop=start(env_batch, network, keys[2:]),
        key=keys[1],
        num_updates=jnp.zeros((), jnp.int32),
    )


def init_policy(config: Config, key: jax.Array) -> Policy:
    """The policy that training begins with. Consumes `key`."""
    seen, _ = split_mask(config.make_env().observation)
    params = config.make_network().init(key)
    return Policy(params, RunningMoments.zeros(seen) if config.normalize_obs else None)


def update_step(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    """`update` without its own jit, for use inside a compiled program: of a state with this device's environments."""
    (key, key_learn), draws = draw_segment(config, state)
    loop, trajectory, episodes = collect_segment(config, state, draws)
    segment, obs_moments, reward_moments = learning_batch(config, state, loop, trajectory)
    axes = (0, Batch._make([1] * len(Batch._fields))._replace(carry=0))
    episodes, segment = together.gather_envs((episodes, segment), config.num_envs, axes)
    progress = jnp.minimum(state.num_updates / config.num_updates, 1.0)
    learner, params, metrics = config.learner.update(
        config.make_network(), state.learner, state.policy.params, segment, key_learn, progress
    )
    for name in COLUMNS & metrics.keys():
        allowed = f"one whose metrics don't go by the name of a column of the tables, as {name!r} does"
        raise ConfigError("learner", type(config.learner).__name__, allowed)
    state = TrainState(Policy(params, obs_moments), reward_moments, learner, loop, key, state.num_updates + 1)
    return state, Metrics(
        env_steps=state.num_updates * config.batch_size,
        explained_variance=_explained_variance(segment.value, segment.target),
        **_episode_metrics(episodes),
        **{name: value for name, value in metrics.items() if name in Metrics._fields},
        extra={name: value for name, value in metrics.items() if name not in Metrics._fields} or None,
    )


def draw_segment(config: Config, state: TrainState) -> tuple[jax.Array, Draws]:
    """The keys [2] for the next update and for the learner, and what collection draws. Consumes `state.key`."""
    _, network = build(config)
    return draw(
        network,
        state.policy.params,
        _view(config, state),
        state.loop,
        state.key,
        (config.num_steps, config.num_envs),
        num_others=2,
    )


def collect_segment(config: Config, state: TrainState, draws: Draws) -> tuple[EnvLoop, Trajectory, EpisodeStats]:
    """The first part of an update: `collect` with the state's policy. Consumes `draws`."""
    env_batch, network = build(config)
    reward_discount = config.gamma if config.normalize_reward else None
    return collect(
        env_batch,
        network,
        state.policy.params,
        _view(config, state),
        state.loop,
        draws,
        reward_discount,
    )


def learning_batch(
    config: Config, state: TrainState, loop: EnvLoop, trajectory: Trajectory
) -> tuple[Batch, RunningMoments | None, RunningMoments | None]:
    """The second part of an update: advantages, with the values of final observations that they need.

    Args:
        config: what to train and how.
        state: the state before collection.
        loop: where collection stands after it.
        trajectory: what was collected.

    Returns:
        What the learner learns from, and the moments of observations and of discounted returns with the segment merged
        in, None where there are none.
    """
    env_batch, network = build(config)
    params, obs_moments, view = state.policy.params, state.policy.obs_moments, _view(config, state)
    # Observation statistics stay frozen until the update is over, so that the first ratios are 1.
    if obs_moments is not None and trajectory.raw_obs is not None:
        obs_moments = obs_moments.merge(
            together.gather_envs(split_mask(trajectory.raw_obs)[0], config.num_envs, axis=1)
        )
    reward, reward_moments = trajectory.reward, state.reward_moments
    if reward_moments is not None and trajectory.discounted_return is not None:
        reward_moments = reward_moments.merge(
            together.gather_envs(trajectory.discounted_return, config.num_envs, axis=1)
        )
        reward = scale(reward_moments, reward, config.reward_clip)

    # Cleared, since the value of what an episode ended with must not count in derivatives either.
    last_obs, slots = network.kept(cleared(loop).obs, view), env_batch.most_truncations(config.num_steps)
    next_value = _next_values(network, params, trajectory, last_obs, loop, slots)
    advantage = gae(
        reward,
        trajectory.value,
        next_value,
        trajectory.terminated,
        trajectory.truncated,
        config.gamma,
        config.gae_lambda,
    )
    segment = Batch(
        obs=trajectory.obs,
        reset=trajectory.reset,
        carry=state.loop.carry,
        action=trajectory.action,
        old=trajectory.distribution,
        value=trajectory.value,
        advantage=advantage,
        target=advantage + trajectory.value,
    )
    return segment, obs_moments, reward_moments


def _view(config: Config, state: TrainState) -> Any:
    """How the network sees observations: normalised by the frozen moments; None for as they are."""
    moments = state.policy.obs_moments
    return None if moments is None else partial(normalize_obs, moments, limit=config.obs_clip)


def _checked_update(config: Config, state: TrainState) -> tuple[TrainState, Metrics]:
    check_alike(state, jax.eval_shape(partial(init_step, config), jax.random.key(0)))
    return update_step(config, state)


_init = program(init_step)
_update = program(_checked_update)


def _next_values(
    network: Network, params: Any, trajectory: Trajectory, last_obs: Any, loop: EnvLoop, slots: int
) -> jax.Array:
    """V(s_{t+1}) for every step [T, N], with the final observation's value where an episode was truncated.

    No more than `slots` final observations of each environment need a value. While they are few they are picked out and
    evaluated in one batch with the last observation of the segment.
    """
    num_steps, num_envs = trajectory.reward.shape
    truncated = trajectory.truncated

    def values(final_obs: Any, carry: Any) -> tuple[jax.Array, jax.Array]:
        """Of final observations [K, N, …] and of the last ones: [K, N] and [N]."""
        flat = partial(jax.tree.map, lambda x, last: jnp.concatenate([x, last[None]]).reshape(-1, *last.shape[1:]))
        num_final = jax.tree.leaves(final_obs)[0].shape[0]
        reset = jnp.concatenate([jnp.zeros((num_final, num_envs), bool), loop.reset[None]]).reshape(-1)
        value = network.apply(params, flat(carry, loop.carry), flat(final_obs, last_obs), reset)[2]
        return value[:-num_envs].reshape(-1, num_envs), value[-num_envs:]

    if slots == 0:
        last = network.apply(params, loop.carry, last_obs, loop.reset)[2]
        return jnp.concatenate([trajectory.value[1:], last[None]])
    if slots > FEW_SLOTS:
        final, last = values(trajectory.final_obs, trajectory.carry)
    else:
        order = jnp.cumsum(truncated, axis=0, dtype=jnp.int32) if slots > 1 else truncated.astype(jnp.int32)
        chosen = jax.vmap(lambda k: truncated & (order == k))(
            jnp.arange(1, slots + 1)
        )  # [K, T, N]: the k-th truncation
        steps = jnp.sum(chosen.astype(jnp.int32) * jnp.arange(num_steps).reshape(1, -1, 1), axis=1)  # [K, N]
        picked = jax.tree.map(lambda x: x[steps, jnp.arange(num_envs)[None]], (trajectory.final_obs, trajectory.carry))
        picked_values, last = values(*picked)
        final = jnp.sum(jnp.where(chosen, picked_values[:, None], 0.0), axis=0)
    following = jnp.concatenate([trajectory.value[1:], last[None]])
    return jnp.where(truncated, final, following)


def _episode_metrics(stats: EpisodeStats) -> dict[str, jax.Array]:
    """Means over the episodes that ended: NaN, not 0, if there were none."""
    count = jnp.sum(stats.episodes, dtype=jnp.int32)
    total = jnp.where(count > 0, count.astype(jnp.float32), jnp.nan)
    return {
        "episodes": count,
        "episode_return": jnp.sum(stats.returns) / total,
        "episode_length": jnp.sum(stats.lengths).astype(jnp.float32) / total,
    }


def _explained_variance(value: jax.Array, target: jax.Array) -> jax.Array:
    """One minus Var[target − value] / Var[target]; NaN if the targets don't vary but for rounding."""
    unexplained, variance = jnp.var(jnp.stack([target - value, target]).reshape(2, -1), axis=1)
    rounding = (ROUNDING * target.reshape(-1)[0]) ** 2  # if it is as little as that, all are like the first
    return jnp.where(variance > rounding, 1 - unexplained / variance, jnp.nan)

"""Collection: one scan over T steps of N environments, with auto-reset and episode statistics in one place."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import backend, kernels, together
from jaxppo.ahead import in_two
from jaxppo.distributions import Distribution
from jaxppo.envs.base import Box, Space
from jaxppo.envs.batch import EnvBatch
from jaxppo.flops import primitives
from jaxppo.images import in_rows
from jaxppo.networks import Network
from jaxppo.types import EnvLoop

__all__ = ["Draws", "EpisodeStats", "Trajectory", "cleared", "collect", "draw", "env_action", "start"]

# On a GPU so many steps at most are written out between two writes of the trajectory, and no more than hold so many
# operations, since XLA would take long to compile them.
UNROLL, UNROLL_OPERATIONS = 8, 2500
# Of resets drawn ahead. On a CPU what fits in a cache, since more costs more in memory traffic than it saves.
RESETS_AHEAD_BYTES, RESETS_AHEAD_BYTES_GPU = 2**20, 2**26
# Operations that a CPU does in each step rather than ahead: so few are part of what the step does anyway.
FEW_OPERATIONS, LOOPS = 16, {"scan", "while"}


class Trajectory(NamedTuple):
    """One segment: every leaf is [T, N, …].

    Attributes:
        obs: observations as the network saw them; where they are zeros and ones, what `Network.keep` keeps of them.
        raw_obs: observations before normalisation; None where there is none.
        reset: bool. An episode begins with `obs`.
        action: as sampled.
        distribution: what the actions were sampled from.
        value: float, V(obs).
        reward: float, as the environment gave it.
        discounted_return: float, Σ γ^k R_{t−k} within the episode; None unless rewards are scaled by it.
        terminated: bool.
        truncated: bool; false where terminated.
        final_obs: the observation after the transition, before any reset, as the network would see it; None where no
            environment can truncate.
        carry: the network's carry after the step; likewise.
    """

    obs: Any
    raw_obs: Any
    reset: Any
    action: jax.Array
    distribution: Distribution
    value: jax.Array
    reward: jax.Array
    discounted_return: jax.Array | None
    terminated: jax.Array
    truncated: jax.Array
    final_obs: Any
    carry: Any


class Draws(NamedTuple):
    """The random numbers of a segment: every leaf is [T, N, …].

    Attributes:
        noise: of the actions.
        transition: PRNG keys.
        reset: PRNG keys, used after a step that ends an episode.
    """

    noise: jax.Array
    transition: jax.Array
    reset: jax.Array


class EpisodeStats(NamedTuple):
    """Sums over the episodes that ended in a segment, per environment: [N]."""

    episodes: jax.Array
    returns: jax.Array
    lengths: jax.Array


def start(envs: EnvBatch, network: Network, keys: jax.Array) -> EnvLoop:
    """This device's share of the environments, yet to be reset, with a key for each of all of them. Consumes `keys`."""
    keys = together.share_envs(keys)
    env_state, obs = jax.tree.map(_zeros_like, jax.eval_shape(envs.reset, keys))
    zeros = jnp.zeros(len(keys), jnp.float32)
    return EnvLoop(
        env_state=env_state,
        obs=obs,
        reset=jnp.ones(len(keys), bool),
        reset_key=keys,
        carry=network.initial_carry(len(keys)),
        episode_return=zeros,
        episode_length=jnp.zeros(len(keys), jnp.int32),
        discounted_return=zeros,
    )


def draw(
    network: Network, params: Any, view: Any, loop: EnvLoop, key: jax.Array, shape: tuple[int, int], num_others: int
) -> tuple[jax.Array, Draws]:
    """Other keys, as many as asked for, and what a segment of shape (T, N) takes, N environments on all devices.

    All by one call of the generator: each is a loop, which takes XLA a while to compile. Consumes `key`.
    """
    see = view or (lambda obs: obs)
    distribution = jax.eval_shape(lambda: network.apply(params, loop.carry, see(loop.obs), loop.reset)[1])
    each = 2 + distribution.num_keys
    keys = jax.random.split(key, num_others + math.prod(shape) * each)
    steps = keys[num_others:].reshape(*shape, each)
    return keys[:num_others], Draws(distribution.noise(steps[..., 2:]), steps[..., 0], steps[..., 1])


def collect(
    envs: EnvBatch,
    network: Network,
    params: Any,
    view: Any,
    loop: EnvLoop,
    draws: Draws,
    reward_discount: float | jax.Array | None,
) -> tuple[EnvLoop, Trajectory, EpisodeStats]:
    """Act for T steps in every environment of this device.

    Args:
        envs: this device's environments; all there are, unless devices train the agent together.
        network: the actor-critic.
        params: its parameters.
        view: how the network sees observations (the frozen normaliser), or None for as they are.
        loop: where collection stands.
        draws: the random numbers, of all environments, whichever device steps them. Consumed.
        reward_discount: γ of the discounted returns that rewards are scaled by; None to do without them.

    Returns:
        Where collection stands afterwards, the segment, and sums over the episodes that ended in it.
    """
    own = together.share_envs(draws, axis=1)
    num_steps = len(own.reset)
    truncates = envs.most_truncations(num_steps) > 0
    ahead, reset_from = _reset_in_two(envs, loop.reset_key, num_steps)
    reset_keys = jnp.concatenate([loop.reset_key[None], own.reset])  # the last for the segment to come

    # A critic of its own waits until all observations are there, and takes them at once.
    values_after = not (network.shared or network.recurrent)

    def step(loop: EnvLoop, drawn: tuple[jax.Array, jax.Array, Any]) -> tuple[EnvLoop, Trajectory]:
        noise, keys, prepared = drawn
        env_state, raw_obs = jax.tree.map(partial(_where, loop.reset), reset_from(prepared), (loop.env_state, loop.obs))
        obs = network.kept(raw_obs, view)
        net_carry, distribution, value = network.apply(params, loop.carry, obs, loop.reset)
        action = distribution.from_noise(noise)
        env_state, timestep = envs.step(keys, env_state, action, partial(env_action, distribution))
        discounted_return = loop.discounted_return
        if reward_discount is not None:
            discounted_return = timestep.reward + reward_discount * jnp.where(loop.reset, 0.0, discounted_return)
        trajectory = Trajectory(
            obs=jax.tree.map(lambda x: in_rows(x, 1), obs),
            raw_obs=raw_obs if view else None,
            reset=None,
            action=action,
            distribution=distribution,
            value=() if values_after else value,  # type: ignore[arg-type]
            reward=timestep.reward,
            discounted_return=None if reward_discount is None else discounted_return,
            terminated=timestep.terminated,
            truncated=timestep.truncated & ~timestep.terminated,
            final_obs=network.kept(timestep.obs, view) if truncates else None,
            carry=net_carry if truncates else None,
        )
        loop = loop._replace(
            env_state=env_state,
            obs=timestep.obs,
            reset=timestep.terminated | timestep.truncated,
            carry=net_carry,
            discounted_return=discounted_return,
        )
        return loop, trajectory

    drawn = (own.noise, own.transition, jax.vmap(ahead)(reset_keys[:-1]))
    after, trajectory = _scan(step, loop, drawn, envs.alike)
    after = after._replace(reset_key=reset_keys[-1])
    done = trajectory.terminated | trajectory.truncated
    kept = jax.eval_shape(lambda: network.kept(loop.obs, view))
    obs = jax.tree.map(lambda x, first: x.reshape(num_steps, *first.shape), trajectory.obs, kept)
    trajectory = trajectory._replace(obs=obs, reset=jnp.concatenate([loop.reset[None], done[:-1]]))
    if values_after:
        value = network.replay(params, (), trajectory.obs, trajectory.reset, both=False)[1]
        trajectory = trajectory._replace(value=value)
    after, stats = _count(after, trajectory.reward, done)
    return after, trajectory, stats


def _reset_in_two(envs: EnvBatch, keys: jax.Array, num_steps: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What to do for all resets of a segment at once, before it begins, and what from that in each step.

    The whole of it, or else what is random, while these are few bytes; or else nothing. What is random alone also where
    the rest is next to nothing.
    """
    limit = RESETS_AHEAD_BYTES_GPU if backend.launches_count() else RESETS_AHEAD_BYTES

    def fits(function: Callable[..., Any]) -> bool:
        return num_steps * _num_bytes(jax.eval_shape(function, keys)) <= limit

    def is_little(function: Callable[..., Any], drawn: Any) -> bool:
        operations = list(primitives(jax.make_jaxpr(function)(drawn).jaxpr))
        return len(operations) <= FEW_OPERATIONS and not LOOPS & set(operations)

    draw, finish = in_two(envs.reset, keys)
    if fits(envs.reset) and (backend.launches_count() or not is_little(finish, jax.eval_shape(draw, keys))):
        return envs.reset, lambda reset: reset
    return (draw, finish) if fits(draw) else (lambda keys: keys, envs.reset)


def _scan(step: Any, loop: EnvLoop, drawn: Any, alike: bool) -> tuple[EnvLoop, Trajectory]:
    """`jax.lax.scan`, in one kernel of a GPU where that can be."""
    if alike and kernels.available():
        # Imported here, since it takes a second that no CPU has a use for.
        from jaxppo.kernels.scan import scan

        in_kernel: Any = scan(step, loop, drawn)
        if in_kernel is not None:
            return in_kernel
    num_steps = len(jax.tree.leaves(drawn)[0])
    unroll = _unroll(step, loop, drawn, num_steps) if backend.launches_count() else 1
    return jax.lax.scan(step, loop, drawn, unroll=unroll)


def _unroll(step: Any, loop: EnvLoop, drawn: Any, num_steps: int) -> int:
    """How many steps to write out one after the other, a divisor of `num_steps`."""
    first = jax.eval_shape(lambda: jax.tree.map(lambda x: x[0], drawn))
    most = min(UNROLL, UNROLL_OPERATIONS // len(list(primitives(jax.make_jaxpr(step)(loop, first).jaxpr))))
    return backend.most_at_once(num_steps, most)


def _count(loop: EnvLoop, reward: jax.Array, done: jax.Array) -> tuple[EnvLoop, EpisodeStats]:
    """Add the steps of a segment [T, N] to the running episodes, and sum over those that ended in it."""
    num_steps = len(done)
    steps = np.arange(1, num_steps + 1, dtype=np.int32)[:, None]
    over = jnp.max(jnp.where(done, steps, 0), axis=0)  # [N]: so many steps belong to episodes that ended
    old_return, old_length = (jnp.where(over > 0, x, 0) for x in (loop.episode_return, loop.episode_length))
    is_old = steps <= over[None]
    either = jnp.stack([jnp.where(is_old, reward, 0.0), jnp.where(is_old, 0.0, reward)])
    old_rewards, new_rewards = jnp.sum(either, axis=1)
    stats = EpisodeStats(jnp.sum(done, axis=0, dtype=jnp.int32), old_return + old_rewards, old_length + over)
    return loop._replace(
        episode_return=jnp.where(over > 0, 0.0, loop.episode_return) + new_rewards,
        episode_length=jnp.where(over > 0, 0, loop.episode_length) + num_steps - over,
    ), stats


def env_action(distribution: Distribution, action: jax.Array, space: Space) -> jax.Array:
    """What one environment gets of an action sampled from such a distribution: within the bounds of a Box, shaped."""
    if not isinstance(space, Box):
        return action
    low, high = (jnp.broadcast_to(jnp.asarray(bound, jnp.float32), space.shape) for bound in (space.low, space.high))
    return distribution.within(action.reshape(space.shape), low, high)


def _zeros_like(shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros as weakly typed as what they stand for, so that a step may change their dtype as it may change that."""
    return jnp.full(shape.shape, shape.dtype.type(0).item()) if shape.weak_type else jnp.zeros(shape.shape, shape.dtype)


def cleared(loop: EnvLoop) -> EnvLoop:
    """With zeros for states and observations that a reset will replace: what an episode ended with may be anything."""
    old = (loop.env_state, loop.obs)
    env_state, obs = jax.tree.map(lambda x: _where(loop.reset, jnp.zeros_like(x), x), old)
    return loop._replace(env_state=env_state, obs=obs)


def _where(done: jax.Array, fresh: jax.Array, old: jax.Array) -> jax.Array:
    """Per environment: `done` is [N], the others [N, …]; the old dtype is kept."""
    mask = done.reshape(done.shape + (1,) * (old.ndim - 1))
    return jnp.where(mask, fresh.astype(old.dtype), old)


def _num_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

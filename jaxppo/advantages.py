"""Generalised advantage estimation, with termination and truncation told apart."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from jaxppo import backend

__all__ = ["gae"]


def gae(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    gamma: float | jax.Array,
    gae_lambda: float | jax.Array,
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016, "High-Dimensional Continuous Control Using GAE", eq. 16).

        δ_t = R_t + γ·V(s_{t+1})·(1 − terminated_t) − V(s_t)
        Â_t = δ_t + γλ·(1 − done_t)·Â_{t+1},    done = terminated or truncated

    The trace is cut at either end of an episode; the value of what follows counts unless the episode terminated. Where
    both are set it terminated. Value targets are Â + V.

    Args:
        reward: float [T, N], R_t for the action taken at step t.
        value: float [T, N], V(s_t).
        next_value: float [T, N], V(s_{t+1}); where truncated, the value of the final observation, before the reset.
        terminated: bool [T, N].
        truncated: bool [T, N].
        gamma: discount γ in [0, 1].
        gae_lambda: λ in [0, 1]; 0 gives the TD error, 1 the Monte Carlo return minus the value.

    Returns:
        Advantages, float [T, N].

    Raises:
        AssertionError: shapes that differ, or flags that are not boolean.
    """
    chex.assert_rank(reward, 2)
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    chex.assert_type([terminated, truncated], bool)
    delta = reward + gamma * jnp.where(terminated, 0.0, next_value) - value
    decay = jnp.where(terminated | truncated, 0.0, gamma * gae_lambda)
    if backend.launches_count():
        # In a tree of log₂ T levels, where one step after the other would be as many turns of a loop. The barrier keeps
        # XLA from writing out δ anew at every place of the tree, which can take it a minute.
        inputs: Any = jax.lax.optimization_barrier((delta, decay))  # type: ignore[no-untyped-call]
        return jax.lax.associative_scan(_before, inputs, reverse=True)[0]

    def step(advantage: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        delta, decay = inputs
        advantage = delta + decay * advantage
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(delta[0]), (delta, decay), reverse=True, unroll=8)[1]


def _before(late: tuple[jax.Array, jax.Array], early: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Σ of δ and product of decays of two stretches of steps, the later one first, as those of one."""
    return early[0] + early[1] * late[0], early[1] * late[1]

"""The losses of policy and value on a minibatch."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxppo.distributions import Distribution, log_ratio
from jaxppo.fields import check
from jaxppo.learners.minibatches import Samples
from jaxppo.objectives import Objective

__all__ = ["policy_loss", "value_loss"]


def policy_loss(
    objective: Objective, aux: Any, new: Distribution, batch: Samples, dual_clip: float | None
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective's loss; with `dual_clip` = c, r·Â counts as the constant c·Â where Â < 0 and r > c."""
    advantage = batch.advantage
    if dual_clip is None:
        return _checked(objective, objective.loss(aux, new, batch.old, batch.action, advantage), len(advantage))
    ratio = jnp.exp(jax.lax.stop_gradient(log_ratio(new, batch.old, batch.action)))
    beyond = (advantage < 0) & (ratio > dual_clip)
    surrogate = objective.loss(aux, new, batch.old, batch.action, jnp.where(beyond, 0.0, advantage))
    loss, metrics = _checked(objective, surrogate, len(advantage))
    return loss - jnp.mean(jnp.where(beyond, dual_clip * advantage, 0.0)), metrics


def _checked(objective: Objective, result: Any, size: int) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What an objective's loss gives on so many samples.

    Raises:
        jaxppo.ConfigError: it is not what `Objective.loss` says.
    """
    kind = type(objective).__name__
    pair = isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[1], Mapping)
    check(pair, "objective", kind, "one whose loss gives a number and a dict of metrics")
    loss, metrics = result
    check(jnp.ndim(loss) == 0, "objective", kind, f"one whose loss is a single number, not of shape {jnp.shape(loss)}")
    for name, values in metrics.items():
        allowed = f"one whose metrics are single numbers or [M], but {name!r} is of shape {jnp.shape(values)}"
        check(jnp.shape(values) in ((), (size,)), "objective", kind, allowed)
    return loss, dict(metrics)


def value_loss(value: jax.Array, batch: Samples, vf_clip_eps: float | None) -> jax.Array:
    """Half the mean squared error, pessimistic beyond ±vf_clip_eps (Huang et al. 2022, core detail 9)."""
    error = (value - batch.target) ** 2
    if vf_clip_eps is not None:
        move = jax.lax.stop_gradient(value - batch.value)
        clipped_error = (batch.value + jnp.clip(move, -vf_clip_eps, vf_clip_eps) - batch.target) ** 2
        # The larger error, as a choice; where the constant is chosen there is no gradient. Within the range the two
        # are the same but for rounding, which must not decide.
        error = jnp.where((jnp.abs(move) > vf_clip_eps) & (clipped_error > error), clipped_error, error)
    return 0.5 * jnp.mean(error)

"""From a network's last layer to an action distribution, by action space."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.distributions import Beta, Categorical, Distribution, Gaussian, MultiDiscrete, TanhGaussian
from jaxppo.envs import base as spaces
from jaxppo.fields import check

__all__ = ["BOX_POLICIES", "Head", "policy_head"]

BOX_POLICIES = ("gaussian", "tanh", "beta")
LEAST_STD = 1e-3  # of a state, before it is scaled


class Head(NamedTuple):
    """What a policy's last layer must have, and what becomes of it.

    Attributes:
        num_outputs: its width.
        num_log_stds: how many log-stds that do not depend on the state; 0 for none.
        distribution: `(outputs [B, num_outputs], log_std [B, num_log_stds] | None, mask | None) -> Distribution`.
    """

    num_outputs: int
    num_log_stds: int
    distribution: Callable[[jax.Array, Any, Any], Distribution]


def policy_head(
    space: Any, box_policy: str, mask: jax.ShapeDtypeStruct | None, state_log_std: float | None = None
) -> Head:
    """The head for an action space.

    Args:
        space: the action space.
        box_policy: what a Box gets, one of `BOX_POLICIES`.
        mask: the shape of an action mask; None if observations hold none.
        state_log_std: the log-std of gaussian and tanh policies where the outputs are 0, if it depends on the state;
            None for one that does not.

    Raises:
        jaxppo.ConfigError: a mask of another size than there are actions, or a bounded policy for a Box without bounds.
    """
    if isinstance(space, spaces.Discrete):
        _check_mask(mask, space.n)
        return Head(space.n, 0, lambda outputs, _, mask: Categorical.from_unnormalised(outputs, mask))
    if isinstance(space, spaces.MultiDiscrete):
        _check_mask(mask, sum(space.sizes))
        return Head(
            sum(space.sizes),
            0,
            lambda outputs, _, mask: MultiDiscrete.from_unnormalised(outputs, space.sizes, mask),
        )
    check(mask is None, "action_mask", mask, "left out of the observation with Box actions")
    size = math.prod(space.shape)
    if box_policy == "gaussian":
        return _normal_head(Gaussian, size, state_log_std)
    if not any(isinstance(bound, jax.core.Tracer) for bound in (space.low, space.high)):
        bounded = bool(np.all(np.isfinite(space.low)) and np.all(np.isfinite(space.high)))
        check(bounded, "box_policy", box_policy, f"gaussian with {space}, which has no bounds to scale to")
    if box_policy == "tanh":
        return _normal_head(TanhGaussian, size, state_log_std)
    return Head(2 * size, 0, lambda outputs, *_: Beta.from_unconstrained(outputs))


def _normal_head(kind: type[Gaussian], size: int, state_log_std: float | None) -> Head:
    if state_log_std is None:
        return Head(size, size, lambda outputs, log_std, _: kind(outputs, log_std))

    def of_outputs(outputs: jax.Array, *_: Any) -> Distribution:
        mean, spread = jnp.split(outputs, 2, axis=-1)
        std = (jax.nn.softplus(spread) + LEAST_STD) / (math.log(2) + LEAST_STD)
        return kind(mean, state_log_std + jnp.log(std))

    return Head(2 * size, 0, of_outputs)


def _check_mask(mask: jax.ShapeDtypeStruct | None, size: int) -> None:
    ok = mask is None or (mask.shape == (size,) and mask.dtype == jnp.bool_)
    check(ok, "action_mask", mask, f"bool ({size},), one for each action")

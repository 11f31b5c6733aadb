"""Observations of zeros and ones as a segment keeps them: as bools, and without what is always zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.distributions import Distribution
from jaxppo.networks.base import Network

__all__ = ["keeping"]

LEAST_ZEROS = 1 / 8  # of an observation, for which it is worth to leave them out


def keeping(
    network: Network,
    observation: jax.ShapeDtypeStruct,
    narrow: Callable[[Any, np.ndarray], Any] | None = None,
    zero: np.ndarray | None = None,
) -> Network:
    """The network, which also takes bools for such observations, a single array of zeros and ones.

    Args:
        network: the actor-critic.
        observation: shape and dtype of one observation.
        narrow: `(params, entries) -> params` of a network that sees nothing but these entries of an observation, int
            [F], in a row; None if there is no such network.
        zero: bool, shaped like an observation: what is always zero. If it is much, only the rest is kept.
    """
    entries = None
    if narrow is not None and zero is not None and LEAST_ZEROS <= np.mean(zero) < 1:
        entries = np.flatnonzero(~zero)
    unroll = network.unroll

    def keep(obs: jax.Array) -> jax.Array:
        return (obs if entries is None else obs.reshape(len(obs), -1)[:, entries]).astype(bool)

    def take(params: Any, obs: Any, num_axes: int) -> tuple[Any, Any]:
        """Parameters and numbers for observations of either kind, with so many axes in front."""
        if getattr(obs, "dtype", None) != jnp.bool_:
            return params, obs
        whole = narrow is None or entries is None or obs.shape[num_axes:] == observation.shape
        return params if whole else narrow(params, entries), obs.astype(observation.dtype)  # type: ignore[misc, arg-type]

    def apply(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Any, Distribution, jax.Array]:
        params, obs = take(params, obs, 1)
        return network.apply(params, carry, obs, reset)

    def unrolled(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Distribution, jax.Array]:
        params, obs = take(params, obs, 2)
        return unroll(params, carry, obs, reset)  # type: ignore[misc]

    return network._replace(apply=apply, unroll=unroll and unrolled, keep=keep)

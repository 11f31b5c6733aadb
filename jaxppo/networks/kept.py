"""Observations of zeros and ones as a segment keeps them: as bools, and without what is always zero."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.distributions import Distribution
from jaxppo.networks.base import Network

__all__ = ["keeping"]

LEAST_ZEROS = 1 / 8  # of an observation, for which it is worth to leave them out


def keeping(network: Network, observation: jax.ShapeDtypeStruct, zero: np.ndarray | None) -> Network:
    """The network, which also takes bools for such observations, a single array of zeros and ones.

    Args:
        network: the actor-critic.
        observation: shape and dtype of one observation.
        zero: bool, of that shape: what is always zero. If it is much, the bools are rows without it, and the network
            is one of fewer inputs and weights for them. None to keep everything.
    """
    entries = None if zero is None or np.mean(zero) < LEAST_ZEROS or np.all(zero) else np.flatnonzero(~zero)
    narrow, unroll = network.narrow, network.unroll

    def keep(obs: jax.Array) -> jax.Array:
        return (obs if entries is None else obs.reshape(len(obs), -1)[:, entries]).astype(bool)

    def take(params: Any, obs: Any) -> tuple[Any, Any]:
        """Parameters and numbers for an observation of either kind."""
        if getattr(obs, "dtype", None) != jnp.bool_:
            return params, obs
        return params if narrow is None or entries is None else narrow(params, entries), obs.astype(observation.dtype)

    def apply(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Any, Distribution, jax.Array]:
        params, obs = take(params, obs)
        return network.apply(params, carry, obs, reset)

    def unrolled(params: Any, carry: Any, obs: Any, reset: jax.Array) -> tuple[Distribution, jax.Array]:
        params, obs = take(params, obs)
        return unroll(params, carry, obs, reset)  # type: ignore[misc]

    return network._replace(apply=apply, unroll=unroll and unrolled, keep=keep)

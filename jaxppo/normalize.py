"""Running mean and variance: the one implementation, used for observations and for rewards."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxppo.envs.base import join_mask, split_mask

__all__ = ["RunningMoments", "normalize", "normalize_obs", "scale"]

EPSILON = 1e-8


class RunningMoments(struct.PyTreeNode):
    """Mean and population variance of all samples seen so far.

    Attributes:
        count: float32 []. How many samples.
        mean: float32 [...], or a pytree of such if the samples are one.
        var: the same; 1 while the count is 0.
    """

    count: jax.Array
    mean: Any
    var: Any

    @classmethod
    def zeros(cls, sample: Any) -> "RunningMoments":
        """No samples yet: normalising with it changes nothing (but for the epsilon). `sample` gives their shapes."""
        mean = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), sample)
        return cls(jnp.zeros((), jnp.float32), mean, jax.tree.map(jnp.ones_like, mean))

    def merge(self, samples: Any) -> "RunningMoments":
        """Add samples [B, …], all leading dimensions beyond the mean's being the batch (Chan et al. 1979)."""
        first, mean = jax.tree.leaves(samples)[0], jax.tree.leaves(self.mean)[0]
        added = float(math.prod(first.shape[: first.ndim - mean.ndim]))
        count = self.count + added
        weight = added / count

        def merged(mean: jax.Array, var: jax.Array, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
            axes = tuple(range(samples.ndim - mean.ndim))
            samples = samples.astype(jnp.float32)
            new_mean, new_var = jnp.mean(samples, axis=axes), jnp.var(samples, axis=axes)
            delta = new_mean - mean
            return mean + weight * delta, (1 - weight) * var + weight * new_var + weight * (1 - weight) * delta**2

        pairs = jax.tree.map(merged, self.mean, self.var, samples)
        mean, var = jax.tree.transpose(jax.tree.structure(self.mean), jax.tree.structure((0, 0)), pairs)
        return RunningMoments(count, mean, var)


def normalize(moments: RunningMoments, x: Any, limit: float | jax.Array) -> Any:
    """(x − mean) / std, clipped to ±limit; [..., *mean.shape] float32."""

    def one(x: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
        mean, var = jnp.broadcast_to(mean, x.shape), jnp.broadcast_to(var, x.shape)
        return jnp.clip((x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + EPSILON), -limit, limit)

    return jax.tree.map(one, x, moments.mean, moments.var)


def normalize_obs(moments: RunningMoments, obs: Any, limit: float | jax.Array) -> Any:
    """`normalize` for all of an observation but its action mask, which the moments don't hold."""
    seen, mask = split_mask(obs)
    return join_mask(normalize(moments, seen, limit), mask)


def scale(moments: RunningMoments, x: jax.Array, limit: float | jax.Array) -> jax.Array:
    """Divide by the standard deviation and clip to ±limit: the sign of a reward is kept."""
    return jnp.clip(x * jax.lax.rsqrt(jnp.broadcast_to(moments.var, x.shape) + EPSILON), -limit, limit)

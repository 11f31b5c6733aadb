"""Running mean and variance: the one implementation, used for observations and for rewards."""

import jax
import jax.numpy as jnp
from flax import struct

__all__ = ["RunningMoments", "normalize", "scale"]

EPSILON = 1e-8


class RunningMoments(struct.PyTreeNode):
    """Mean and population variance of all samples seen so far.

    Attributes:
        count: float32 []. How many samples.
        mean: float32 [...].
        var: float32 [...]; 1 while the count is 0.
    """

    count: jax.Array
    mean: jax.Array
    var: jax.Array

    @classmethod
    def zeros(cls, shape: tuple[int, ...]) -> "RunningMoments":
        """No samples yet: normalising with it changes nothing (but for the epsilon)."""
        return cls(jnp.zeros((), jnp.float32), jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))

    def merge(self, samples: jax.Array) -> "RunningMoments":
        """Add samples [B, …], all leading dimensions beyond the mean's being the batch (Chan et al. 1979)."""
        axes = tuple(range(samples.ndim - self.mean.ndim))
        samples = samples.astype(jnp.float32)
        added = float(samples.size // max(self.mean.size, 1))
        mean, var = jnp.mean(samples, axis=axes), jnp.var(samples, axis=axes)
        count = self.count + added
        weight = added / count
        delta = mean - self.mean
        return RunningMoments(
            count,
            self.mean + weight * delta,
            (1 - weight) * self.var + weight * var + weight * (1 - weight) * delta**2,
        )


def normalize(moments: RunningMoments, x: jax.Array, limit: float | jax.Array) -> jax.Array:
    """(x − mean) / std, clipped to ±limit; [..., *mean.shape] float32."""
    mean, var = jnp.broadcast_to(moments.mean, x.shape), jnp.broadcast_to(moments.var, x.shape)
    z = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + EPSILON)
    return jnp.clip(z, -limit, limit)


def scale(moments: RunningMoments, x: jax.Array, limit: float | jax.Array) -> jax.Array:
    """Divide by the standard deviation and clip to ±limit: the sign of a reward is kept."""
    return jnp.clip(x * jax.lax.rsqrt(jnp.broadcast_to(moments.var, x.shape) + EPSILON), -limit, limit)

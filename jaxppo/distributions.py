"""Action distributions: pytrees of parameters with sample, log-probability, entropy, KL divergence and mode.

Batch dimensions lead; B stands for any number of them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

__all__ = ["Categorical", "Distribution", "Gaussian", "log_ratio"]

MAX_LOG_RATIO = 30.0  # e³⁰ ≈ 10¹³, whose square float32 still holds


class Distribution(struct.PyTreeNode):
    """What objectives and rollouts use of an action distribution; they never ask which one it is."""

    def sample(self, key: jax.Array) -> jax.Array:
        """One action per batch element: [B, …]. Consumes `key`."""
        return self.from_noise(self.noise(key))

    def noise(self, key: jax.Array) -> jax.Array:
        """The random numbers that one sample takes, which depend on the parameters' shapes only. Consumes `key`."""
        raise NotImplementedError

    def from_noise(self, noise: jax.Array) -> jax.Array:
        """The sample that `noise` makes: [B, …]."""
        raise NotImplementedError

    def mode(self) -> jax.Array:
        """The most likely action: [B, …]."""
        raise NotImplementedError

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-probability or log-density of `action`: [B]."""
        raise NotImplementedError

    def entropy(self) -> jax.Array:
        """Entropy in nats: [B]."""
        raise NotImplementedError

    def kl(self, other: Any) -> jax.Array:
        """KL(self ‖ other) in nats, in closed form: [B]."""
        raise NotImplementedError


class Categorical(Distribution):
    """Discrete actions 0 … A − 1.

    Attributes:
        logits: float [B, A], normalised: their exponentials sum to 1.
    """

    logits: jax.Array

    @classmethod
    def from_unnormalised(cls, logits: jax.Array) -> "Categorical":
        """Normalise once here, so that old and new log-probabilities are computed from like numbers."""
        return cls(jax.nn.log_softmax(logits))

    def noise(self, key: jax.Array) -> jax.Array:
        return jax.random.gumbel(key, self.logits.shape, self.logits.dtype)

    def from_noise(self, noise: jax.Array) -> jax.Array:
        """The Gumbel-max trick: int32 [B]."""
        return jnp.argmax(self.logits + noise, axis=-1).astype(jnp.int32)

    def mode(self) -> jax.Array:
        return jnp.argmax(self.logits, axis=-1).astype(jnp.int32)

    def log_prob(self, action: jax.Array) -> jax.Array:
        # A product with one-hot rows, because the gradient of an indexed read is a slow scatter.
        one_hot = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return jnp.sum(one_hot * self.logits, axis=-1)

    def entropy(self) -> jax.Array:
        return -jnp.sum(jnp.exp(self.logits) * self.logits, axis=-1)

    def kl(self, other: "Categorical") -> jax.Array:
        return jnp.sum(jnp.exp(self.logits) * (self.logits - other.logits), axis=-1)


class Gaussian(Distribution):
    """Independent normal components.

    Attributes:
        mean: float [B, A].
        log_std: float [B, A].
    """

    mean: jax.Array
    log_std: jax.Array

    def noise(self, key: jax.Array) -> jax.Array:
        return jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def from_noise(self, noise: jax.Array) -> jax.Array:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> jax.Array:
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -jnp.sum(0.5 * z**2 + self.log_std + 0.5 * math.log(2 * math.pi), axis=-1)

    def entropy(self) -> jax.Array:
        return jnp.sum(self.log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)

    def kl(self, other: "Gaussian") -> jax.Array:
        # With x = log σ − log σ', KL = Σ ½(e^{2x} − 1 − 2x + (μ − μ')²/σ'²); expm1 keeps small divergences exact.
        x = self.log_std - other.log_std
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return 0.5 * jnp.sum(jnp.expm1(2 * x) - 2 * x + distance**2, axis=-1)


def log_ratio(new: Distribution, old: Distribution, action: jax.Array) -> jax.Array:
    """Log r = log π(a|s) − log π_old(a|s): [B], at most 30 so that r and r² are finite, and constant beyond."""
    return jnp.minimum(new.log_prob(action) - old.log_prob(action), MAX_LOG_RATIO)

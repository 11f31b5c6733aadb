"""Action distributions: pytrees of parameters with sample, log-probability, entropy, KL divergence and mode.

Batch dimensions lead; B stands for any number of them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.scipy.special import betaln, digamma

from jaxppo import columns, draws

__all__ = ["Beta", "Categorical", "Distribution", "Gaussian", "MultiDiscrete", "TanhGaussian", "log_ratio"]

MAX_LOG_RATIO = 30.0  # e³⁰ ≈ 10¹³, whose square float32 still holds
FORBIDDEN = -1e30  # log-probability of a forbidden action: finite, so that 0 times it is 0, and below any logit
EDGE = 1e-6  # how near to 0 and 1 samples of a Beta come, so that their logarithms are finite in float32
# Of α and β. Rounding in float32 leaves errors of up to 1e-3 in the KL divergence here, and 10 times that at 1e4, where
# divergences of a usual size would drown in it. Standard deviations are still as small as 1 % of the range.
MAX_CONCENTRATION = 1e3
NODES = 40  # of expectations over a standard normal: errors of the entropy are below 1e-3 up to a log-std of 1


class Distribution(struct.PyTreeNode):
    """What objectives and rollouts use of an action distribution; they never ask which one it is."""

    def sample(self, key: jax.Array) -> jax.Array:
        """One action per batch element: [B, …]. Consumes `key`."""
        batch = jax.tree.leaves(self)[0].shape[:-1]
        return self.from_noise(self.noise(jax.random.split(key, (*batch, self.num_keys))))

    @property
    def num_keys(self) -> int:
        """How many PRNG keys the noise of an action takes."""
        raise NotImplementedError

    def noise(self, keys: jax.Array) -> jax.Array:
        """The random numbers [B, …] that samples take, of keys [B, num_keys]. Consumes `keys`.

        They depend on the shapes of the parameters only, whose B may be another.
        """
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

    @staticmethod
    def within(action: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        """What a Box with bounds `low` and `high` takes of a sampled action: three arrays of one shape make another.

        Squashed distributions need finite bounds. Discrete ones do not define it.
        """
        raise NotImplementedError


class Categorical(Distribution):
    """Discrete actions 0 … A − 1.

    Attributes:
        logits: float [B, A], normalised: their exponentials sum to 1. Those of forbidden actions are −1e30.
    """

    logits: jax.Array

    @classmethod
    def from_unnormalised(cls, logits: jax.Array, mask: jax.Array | None = None) -> "Categorical":
        """Normalise once here, so that old and new log-probabilities are computed from like numbers.

        Args:
            logits: float [B, A].
            mask: bool [B, A], true where the action is allowed; None if all are. A forbidden action has probability 0
                and takes part in no gradient. Where nothing is allowed, everything is, with equal probabilities.
        """
        if mask is not None:
            logits = jnp.where(mask, logits, FORBIDDEN)
        return cls(columns.log_softmax(logits))

    @property
    def num_keys(self) -> int:
        return draws.num_keys(self.logits.shape[-1])

    def noise(self, keys: jax.Array) -> jax.Array:
        return draws.gumbel(keys, self.logits.shape[-1])

    def from_noise(self, noise: jax.Array) -> jax.Array:
        """The Gumbel-max trick: int32 [B]."""
        return columns.argmax(self.logits + noise)

    def mode(self) -> jax.Array:
        return columns.argmax(self.logits)

    def log_prob(self, action: jax.Array) -> jax.Array:
        # A product with one-hot rows, because the gradient of an indexed read is a slow scatter.
        one_hot = jax.nn.one_hot(action, self.logits.shape[-1], dtype=self.logits.dtype)
        return columns.total(one_hot * self.logits)

    def entropy(self) -> jax.Array:
        return -columns.total(jnp.exp(self.logits) * self.logits)

    def kl(self, other: "Categorical") -> jax.Array:
        return columns.total(jnp.exp(self.logits) * (self.logits - other.logits))


class MultiDiscrete(Distribution):
    """Independent discrete components: an action is int32 [B, K], and its k-th entry is 0 … sizes[k] − 1.

    Attributes:
        logits: float [B, Σ sizes], those of the components one after the other, each normalised.
        sizes: the number of actions of each of the K components; static.
    """

    logits: jax.Array
    sizes: tuple[int, ...] = struct.field(pytree_node=False)

    @classmethod
    def from_unnormalised(
        cls, logits: jax.Array, sizes: tuple[int, ...], mask: jax.Array | None = None
    ) -> "MultiDiscrete":
        """Normalise the components of `logits`, float [B, Σ sizes]; `mask` is bool [B, Σ sizes], as in `Categorical`.

        Raises:
            ValueError: another number of logits than Σ sizes.
        """
        if logits.shape[-1] != sum(sizes):
            raise ValueError(f"logits of shape {logits.shape}: the last axis must be {sum(sizes)} for sizes {sizes}")
        masks = [None] * len(sizes) if mask is None else _split(mask, sizes)
        parts = map(Categorical.from_unnormalised, _split(logits, sizes), masks)
        return cls(jnp.concatenate([part.logits for part in parts], axis=-1), sizes)

    @property
    def num_keys(self) -> int:
        return Categorical(self.logits).num_keys

    def noise(self, keys: jax.Array) -> jax.Array:
        return Categorical(self.logits).noise(keys)

    def from_noise(self, noise: jax.Array) -> jax.Array:
        parts = zip(_split(self.logits, self.sizes), _split(noise, self.sizes), strict=True)
        return jnp.stack([Categorical(logits).from_noise(part) for logits, part in parts], axis=-1)

    def mode(self) -> jax.Array:
        return self.from_noise(jnp.zeros_like(self.logits))

    def log_prob(self, action: jax.Array) -> jax.Array:
        parts = enumerate(_split(self.logits, self.sizes))
        return jnp.sum(jnp.stack([Categorical(logits).log_prob(action[..., k]) for k, logits in parts]), axis=0)

    # Entropy and KL divergence are sums over all actions of all components, which the concatenated logits are.
    def entropy(self) -> jax.Array:
        return Categorical(self.logits).entropy()

    def kl(self, other: "MultiDiscrete") -> jax.Array:
        return Categorical(self.logits).kl(Categorical(other.logits))


class Gaussian(Distribution):
    """Independent normal components.

    Attributes:
        mean: float [B, A].
        log_std: float [B, A].
    """

    mean: jax.Array
    log_std: jax.Array

    @property
    def num_keys(self) -> int:
        return draws.num_keys(self.mean.shape[-1])

    def noise(self, keys: jax.Array) -> jax.Array:
        return draws.normal(keys, self.mean.shape[-1])

    def from_noise(self, noise: jax.Array) -> jax.Array:
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> jax.Array:
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        z = (action - self.mean) * jnp.exp(-self.log_std)
        return -columns.total(0.5 * z**2 + self.log_std + 0.5 * math.log(2 * math.pi))

    def entropy(self) -> jax.Array:
        return columns.total(self.log_std + 0.5 * math.log(2 * math.pi * math.e))

    def kl(self, other: "Gaussian") -> jax.Array:
        # With x = log σ − log σ', KL = Σ ½(e^{2x} − 1 − 2x + (μ − μ')²/σ'²); expm1 keeps small divergences exact.
        x = self.log_std - other.log_std
        distance = (self.mean - other.mean) * jnp.exp(-other.log_std)
        return 0.5 * columns.total(jnp.expm1(2 * x) - 2 * x + distance**2)

    @staticmethod
    def within(action: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.clip(action, low, high)


class TanhGaussian(Gaussian):
    """Independent normal components u, squashed to a = tanh u in (−1, 1) (Haarnoja et al. 2018, appendix C).

    What is sampled and stored is u, which loses nothing at the edges; ratios are those of the normals. Densities and
    entropies are those of a. The KL divergence is that of the normals, since a bijection keeps it. The mode is the mean
    of u, as is usual, which makes a its median.
    """

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Log-density of a = tanh u at the u given as `action`: that of u less Σ log(da/du)."""
        return super().log_prob(action) - columns.total(_log_slope(action))

    def entropy(self) -> jax.Array:
        """That of the normals plus E[Σ log(da/du)], by Gauss–Hermite quadrature; at most 1e-3 off where σ ≤ e."""
        std = jnp.exp(self.log_std)
        rule = np.polynomial.hermite_e.hermegauss(NODES)
        nodes, weights = (jnp.asarray(x, std.dtype) for x in (rule[0], rule[1] / rule[1].sum()))
        terms = jax.vmap(lambda z, weight: weight * _log_slope(self.mean + std * z))(nodes, weights)
        return super().entropy() + jnp.sum(terms, axis=(0, -1))

    @staticmethod
    def within(action: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return _stretch((jnp.tanh(action) + 1) / 2, low, high)


class Beta(Distribution):
    """Independent beta-distributed components in (0, 1).

    Attributes:
        alpha: float [B, A], above 0.
        beta: float [B, A], above 0.
    """

    alpha: jax.Array
    beta: jax.Array

    @classmethod
    def from_unconstrained(cls, outputs: jax.Array) -> "Beta":
        """α and β are 1 + softplus(outputs [B, 2A]) ≤ 1000, so each has one peak (Chou et al. 2017, section 4)."""
        concentrations = jnp.minimum(1 + jax.nn.softplus(outputs), MAX_CONCENTRATION)
        alpha, beta = jnp.split(concentrations, 2, axis=-1)
        return cls(alpha, beta)

    @property
    def num_keys(self) -> int:
        return 1

    def noise(self, keys: jax.Array) -> jax.Array:
        """The keys themselves, [B], because the numbers that rejection sampling takes are not known ahead."""
        return keys[..., 0]

    def from_noise(self, noise: jax.Array) -> jax.Array:
        *batch, size = self.alpha.shape
        keys = noise.reshape(math.prod(batch), *noise.shape[len(batch) :])
        alpha, beta = (x.reshape(-1, size) for x in (self.alpha, self.beta))
        sample = jax.vmap(lambda k, a, b: jax.random.beta(k, a, b, dtype=a.dtype))(keys, alpha, beta)
        return _inside(sample.reshape(self.alpha.shape))

    def mode(self) -> jax.Array:
        """(α − 1) / (α + β − 2), and ½ where both are 1 and all actions are alike, for α, β ≥ 1."""
        total = self.alpha + self.beta - 2
        return _inside(jnp.where(total > 0, (self.alpha - 1) / jnp.where(total > 0, total, 1.0), 0.5))

    def log_prob(self, action: jax.Array) -> jax.Array:
        return self._mean_log_prob(jnp.log(action), jnp.log1p(-action))

    def entropy(self) -> jax.Array:
        return -self._mean_log_prob(*self._mean_logs())

    def kl(self, other: "Beta") -> jax.Array:
        mean_logs = self._mean_logs()
        return self._mean_log_prob(*mean_logs) - other._mean_log_prob(*mean_logs)

    @staticmethod
    def within(action: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        return _stretch(action, low, high)

    def _mean_log_prob(self, log_x: jax.Array, log_1mx: jax.Array) -> jax.Array:
        """E[log p(x)] [B], which is linear in E[log x] and E[log(1 − x)], both [B, A]."""
        terms = (self.alpha - 1) * log_x + (self.beta - 1) * log_1mx - _log_beta(self.alpha, self.beta)
        return columns.total(terms)

    def _mean_logs(self) -> tuple[jax.Array, jax.Array]:
        """E[log x] and E[log(1 − x)], both [B, A]: ψ(α) − ψ(α + β) and ψ(β) − ψ(α + β)."""
        total = digamma(self.alpha + self.beta)
        return digamma(self.alpha) - total, digamma(self.beta) - total


def log_ratio(new: Distribution, old: Distribution, action: jax.Array) -> jax.Array:
    """Log r = log π(a|s) − log π_old(a|s): [B], at most 30 so that r and r² are finite, and constant beyond."""
    return jnp.minimum(new.log_prob(action) - old.log_prob(action), MAX_LOG_RATIO)


def _split(x: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
    """The parts [B, sizes[k]] of `x` [B, Σ sizes]."""
    return jnp.split(x, np.cumsum(sizes)[:-1].tolist(), axis=-1)


def _log_slope(u: jax.Array) -> jax.Array:
    """log(d tanh u / du) = log(1 − tanh² u), without the cancellation."""
    return 2 * (math.log(2) - u - jax.nn.softplus(-2 * u))


# JAX orders the two arguments, so that its second derivatives are wrong where they are equal, as in a new policy.
_log_beta = jax.custom_jvp(lambda a, b: betaln(a, b))
_log_beta.defjvps(
    lambda tangent, _, a, b: tangent * (digamma(a) - digamma(a + b)),
    lambda tangent, _, a, b: tangent * (digamma(b) - digamma(a + b)),
)


def _inside(x: jax.Array) -> jax.Array:
    return jnp.clip(x, EDGE, 1 - EDGE)


def _stretch(fraction: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
    """From [0, 1] onto [low, high], which rounding must not leave."""
    return jnp.clip(low + (high - low) * fraction, low, high)

"""How far a policy has moved from the one that collected the data, as importance sampling sees it."""

import jax
import jax.numpy as jnp
from flax import struct

from jaxppo.distributions import Distribution

__all__ = ["Scalars", "ratio_diagnostics"]


class Scalars(struct.PyTreeNode):
    """Named scalars side by side in one array, so that a loop stores them all in one operation.

    Attributes:
        values: float32 [..., K].
        names: of the K scalars.
    """

    values: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, scalars: dict[str, jax.Array]) -> "Scalars":
        """Pack scalars []."""
        return cls(jnp.stack([jnp.asarray(value, jnp.float32) for value in scalars.values()]), tuple(scalars))

    def named(self) -> dict[str, jax.Array]:
        """Each by its name: [...]."""
        return {name: self.values[..., i] for i, name in enumerate(self.names)}


def ratio_diagnostics(
    new: Distribution, old: Distribution, action: jax.Array, per_sample: dict[str, jax.Array] | None = None
) -> dict[str, jax.Array]:
    """Divergences, and moments of the ratio r = π(a|s) / π_old(a|s), over M samples; see `jaxppo.types.Metrics`.

    Var[f·r] − Var[f] grows with the distance of the policies; the effective sample size says how much of the data is
    left (Kong 1992). Means of `per_sample` metrics [M] come along.
    """
    log_ratio = jax.lax.stop_gradient(new.log_prob(action) - old.log_prob(action))
    ratio = jnp.exp(log_ratio)
    samples = {
        "approx_kl": jnp.expm1(log_ratio) - log_ratio,
        "kl": jax.lax.stop_gradient(old.kl(new)),
        "kl_reverse": jax.lax.stop_gradient(new.kl(old)),
        "ratio_mean": ratio,
        "squared_ratio": ratio**2,
        **(per_sample or {}),
    }
    # One reduction for all of them: on small minibatches the count of operations is what costs.
    means = dict(zip(samples, jnp.mean(jnp.stack(list(samples.values())), axis=1), strict=True))
    ess = means["ratio_mean"] ** 2 / means.pop("squared_ratio")
    return {**means, "effective_sample_size": ess, "ratio_max": jnp.max(ratio)}

"""How far a policy has moved from the one that collected the data, as importance sampling sees it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxppo.distributions import Distribution, log_ratio

__all__ = ["MOMENTS", "Moments", "one_by_one", "ratio_diagnostics", "ratio_moments"]

MOMENTS = "_moments"  # what they go by among metrics


class Moments(struct.PyTreeNode):
    """Means over samples as one array [..., K], which takes fewer operations than K of them."""

    values: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)

    def __getitem__(self, name: str) -> jax.Array:
        return self.values[..., self.names.index(name)]


def ratio_diagnostics(new: Distribution, old: Distribution, action: jax.Array) -> dict[str, jax.Array]:
    """Divergences, and moments of the ratio r = π(a|s) / π_old(a|s), over M samples; see `jaxppo.types.Metrics`.

    Var[f·r] − Var[f] grows with the distance of the policies; the effective sample size says how much of the data is
    left (Kong 1992).
    """
    return one_by_one(ratio_moments(new, old, action))


def ratio_moments(
    new: Distribution, old: Distribution, action: jax.Array, per_sample: dict[str, jax.Array] | None = None
) -> dict[str, Any]:
    """`Moments`, those of `per_sample` metrics [M] among them, and `ratio_max`, the largest ratio."""
    log_r = jax.lax.stop_gradient(log_ratio(new, old, action))
    ratio = jnp.exp(log_r)
    samples = {
        "approx_kl": jnp.expm1(log_r) - log_r,
        "kl": jax.lax.stop_gradient(old.kl(new)),
        "kl_reverse": jax.lax.stop_gradient(new.kl(old)),
        "ratio_mean": ratio,
        "squared_ratio": ratio**2,
        **{name: values.astype(jnp.float32) for name, values in (per_sample or {}).items()},
    }
    # One reduction for all of them: on small minibatches the count of operations is what costs.
    means = Moments(jnp.mean(jnp.stack(list(samples.values())), axis=1), tuple(samples))
    return {MOMENTS: means, "ratio_max": jnp.max(ratio)}


def one_by_one(metrics: dict[str, Any]) -> dict[str, jax.Array]:
    """The metrics with each of the moments under its name, and `effective_sample_size` in place of `squared_ratio`."""
    moments = metrics[MOMENTS]
    each = {name: moments[name] for name in moments.names if name != "squared_ratio"}
    others = {name: value for name, value in metrics.items() if name != MOMENTS}
    return {**others, **each, "effective_sample_size": moments["ratio_mean"] ** 2 / moments["squared_ratio"]}

"""How far a policy has moved from the one that collected the data, as importance sampling sees it."""

import jax
import jax.numpy as jnp

from jaxppo.distributions import Distribution, log_ratio

__all__ = ["ratio_diagnostics", "ratio_moments", "with_sample_size"]


def ratio_diagnostics(new: Distribution, old: Distribution, action: jax.Array) -> dict[str, jax.Array]:
    """Divergences, and moments of the ratio r = π(a|s) / π_old(a|s), over M samples; see `jaxppo.types.Metrics`.

    Var[f·r] − Var[f] grows with the distance of the policies; the effective sample size says how much of the data is
    left (Kong 1992).
    """
    return with_sample_size(ratio_moments(new, old, action))


def ratio_moments(
    new: Distribution, old: Distribution, action: jax.Array, per_sample: dict[str, jax.Array] | None = None
) -> dict[str, jax.Array]:
    """Means over the samples, those of `per_sample` metrics [M] among them, and `ratio_max`, the largest ratio."""
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
    means = dict(zip(samples, jnp.mean(jnp.stack(list(samples.values())), axis=1), strict=True))
    return {**means, "ratio_max": jnp.max(ratio)}


def with_sample_size(moments: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`effective_sample_size` in place of `squared_ratio`."""
    others = {name: value for name, value in moments.items() if name != "squared_ratio"}
    return {**others, "effective_sample_size": moments["ratio_mean"] ** 2 / moments["squared_ratio"]}

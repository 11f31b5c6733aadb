"""How far a policy has moved from the one that collected the data, as importance sampling sees it."""

import jax
import jax.numpy as jnp

from jaxppo.distributions import Distribution, log_ratio

__all__ = ["ratio_diagnostics"]


def ratio_diagnostics(
    new: Distribution, old: Distribution, action: jax.Array, per_sample: dict[str, jax.Array] | None = None
) -> dict[str, jax.Array]:
    """Divergences, and moments of the ratio r = π(a|s) / π_old(a|s), over M samples; see `jaxppo.types.Metrics`.

    Var[f·r] − Var[f] grows with the distance of the policies; the effective sample size says how much of the data is
    left (Kong 1992). Means of `per_sample` metrics [M] come along.
    """
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
    ess = means["ratio_mean"] ** 2 / means.pop("squared_ratio")
    return {**means, "effective_sample_size": ess, "ratio_max": jnp.max(ratio)}

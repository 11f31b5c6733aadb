"""Comparison of trees that another order of sums may have made."""

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(actual, expected):
    """All leaves, up to what another order of sums makes of them."""
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

"""Comparison of trees with keys among their leaves, which numpy does not take."""

import jax
import jax.numpy as jnp
import numpy as np


def raw(tree):
    """The tree with the words of its keys in place of them."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, tree)


def assert_same(actual, expected):
    """All leaves, up to what another order of sums makes of them."""
    for a, b in zip(jax.tree.leaves(raw(actual)), jax.tree.leaves(raw(expected)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)

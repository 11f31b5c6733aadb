"""Numbers made of keys have the distributions that they are said to have, and are independent."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxppo import draws

CASES = {"uniform": scipy.stats.uniform, "gumbel": scipy.stats.gumbel_r, "normal": scipy.stats.norm}


def numbers(name, size, count=40_000, impl="threefry2x32"):
    """[count, size], with keys from one split."""
    keys = jax.random.split(jax.random.key(5, impl=impl), (count, draws.num_keys(size)))
    return np.asarray(jax.jit(getattr(draws, name), static_argnums=1)(keys, size))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("name", CASES)
def test_distribution(name, impl):
    """All numbers, the first and the last of each row follow the distribution (Kolmogorov–Smirnov)."""
    x = numbers(name, 3, impl=impl)
    assert x.shape == (40_000, 3)
    assert x.dtype == np.float32
    for part in (x.ravel(), x[:, 0], x[:, 2]):
        assert scipy.stats.kstest(part, CASES[name].cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", CASES)
def test_independence(name):
    """Neighbours within a row and from row to row are not correlated, and no pair of octiles is favoured."""
    x = CASES[name].cdf(numbers(name, 4))
    for a, b in ((x[:, 0], x[:, 1]), (x[:, 1], x[:, 2]), (x[:, 0], x[:, 3]), (x[:-1, 3], x[1:, 0])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))
        pairs = np.minimum(a * 8, 7).astype(int) * 8 + np.minimum(b * 8, 7).astype(int)
        assert scipy.stats.chisquare(np.bincount(pairs, minlength=64)).pvalue > 1e-3


def test_ends_of_the_range_are_finite():
    """The smallest and the largest words make finite numbers, which are the ends of what they can be."""
    tiny, last = np.finfo(np.float32).tiny, 1 - 2.0**-23
    keys = jax.random.wrap_key_data(np.array([[[0, 0xFFFFFFFF]]], np.uint32))
    np.testing.assert_array_equal(draws.uniform(keys, 2), [[0, last]])
    np.testing.assert_allclose(draws.gumbel(keys, 2), [scipy.stats.gumbel_r.ppf([tiny, last])], rtol=1e-5)
    np.testing.assert_allclose(draws.normal(keys, 2), [scipy.stats.norm.ppf([2.0**-25, last])], rtol=1e-5)


def test_keys_are_used_once():
    """As many keys as are asked for hold no fewer words than there are numbers, and each word is used for one only."""
    for size in (1, 2, 3, 8):
        x = numbers("uniform", size, count=100)
        assert x.shape == (100, size)
        assert len(np.unique(x)) == x.size

"""The sort-free permutation is one, and no order is favoured."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxppo import shuffle
from jaxppo.shuffle import permutations

SIZES = [1, 2, 3, 7, 255, 256, 257, 300, 511, 512, 513, 1000, 1023, 1025, 4097, 8192, 65_536, 100_003]


def draw(count, size, seed=0):
    """`count` permutations [count, size], half of them from one key and half from another."""
    keys = jax.random.split(jax.random.key(seed))
    draws = jax.jit(jax.vmap(lambda key: permutations(key, count // 2, size)))(keys)
    return np.asarray(draws).reshape(count, size)


@pytest.mark.parametrize("size", SIZES)
def test_every_index_comes_once(size):
    """It is a permutation of 0 … size − 1, whatever the size, as int32."""
    order = permutations(jax.random.key(size), 1, size)[0]
    assert order.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [64, 1000])
def test_every_row_is_a_permutation_of_its_own(size):
    """Rows of one key differ, and under vmap every key gives what it gives alone."""
    rows = draw(6, size)
    np.testing.assert_array_equal(np.sort(rows, axis=1), np.tile(np.arange(size), (6, 1)))
    assert len({row.tobytes() for row in rows}) == 6
    keys = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(rows, np.concatenate([permutations(key, 3, size) for key in keys]))


@pytest.mark.parametrize("size", [256, 300])
def test_positions_are_uniform(size):
    """Where an index lands is uniform over all positions (chi-square over 40,000 orders, three indices)."""
    rows = draw(40_000, size)
    for index in (0, 1, size - 1):
        landed = np.argmax(rows == index, axis=1)
        assert scipy.stats.chisquare(np.bincount(landed, minlength=size)).pvalue > 1e-3


@pytest.mark.parametrize("size", [256, 300])
def test_pairs_are_uniform(size):
    """Two neighbours end up in each pair of eighths of the range equally often, as independent draws would."""
    rows = draw(40_000, size, seed=1)
    eighths = rows[:, :2] * 8 // size
    counts = np.bincount(eighths[:, 0] * 8 + eighths[:, 1], minlength=64)
    sizes = np.bincount(np.arange(size) * 8 // size)
    ways = np.outer(sizes, sizes) - np.diag(sizes)
    assert scipy.stats.chisquare(counts, 40_000 * ways.ravel() / ways.sum()).pvalue > 1e-3


def test_all_orders_are_equally_likely(monkeypatch):
    """Each of the 120 orders of five comes as often as the others, also from the bijection when it is used that low.

    Three bits mix more slowly than the eight or more that it is made for: it takes them twice the rounds. With as many
    as there are, the most frequent order comes a fifth too often.
    """
    monkeypatch.setattr(shuffle, "SMALLEST", 0)
    monkeypatch.setattr(shuffle, "ROUNDS", 24)
    rows = draw(96_000, 5)
    orders = {order: i for i, order in enumerate(itertools.permutations(range(5)))}
    counts = np.bincount([orders[tuple(row)] for row in rows.tolist()], minlength=math.factorial(5))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [256, 1000])
def test_half_of_the_neighbours_descend(size):
    """The order has no memory of the original one: about half of the neighbours descend."""
    rows = draw(500, size, seed=2)
    ascents = np.mean(np.diff(rows, axis=1) > 0)
    assert abs(ascents - 0.5) < 5 * math.sqrt(1 / 12 / (500 * size))


def test_fixed_points_are_poisson():
    """A random permutation has one fixed point on average, with variance one."""
    fixed = np.sum(draw(5_000, 300, seed=3) == np.arange(300), axis=1)
    assert abs(fixed.mean() - 1) < 5 / math.sqrt(5_000)
    assert abs(fixed.var() - 1) < 0.15

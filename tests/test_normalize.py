"""Running moments are those of all the data at once, however it came in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxppo.normalize import RunningMoments, normalize, scale


def merged(chunks, shape):
    """The moments after merging every chunk in turn."""
    moments = RunningMoments.zeros(jnp.zeros(shape))
    for chunk in chunks:
        moments = moments.merge(jnp.asarray(chunk))
    return moments


@given(st.lists(st.sampled_from([1, 2, 3, 50]), min_size=1, max_size=5), st.integers(0, 2**32 - 1), st.floats(-50, 50))
def test_merging_equals_all_at_once(sizes, seed, offset):
    """Mean, population variance and count don't depend on how the samples were split."""
    data = np.random.default_rng(seed).normal(offset, 3, size=(sum(sizes), 4)).astype(np.float32)
    moments = merged(np.split(data, np.cumsum(sizes)[:-1]), (4,))
    assert moments.count == len(data)
    np.testing.assert_allclose(moments.mean, data.mean(axis=0, dtype=np.float64), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(moments.var, data.var(axis=0, dtype=np.float64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_all_leading_axes_are_the_batch(shape):
    """Samples [T, N, …] count T·N times."""
    data = np.random.default_rng(0).normal(size=(6, 5, *shape)).astype(np.float32)
    moments = merged([data], shape)
    assert moments.count == 30
    assert moments.mean.shape == moments.var.shape == shape
    np.testing.assert_allclose(moments.mean, data.mean(axis=(0, 1)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.var, data.var(axis=(0, 1)), rtol=1e-4)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_integer_and_boolean_samples(dtype):
    """Samples of any numeric dtype have moments, in float32."""
    data = np.array([[0, 1], [1, 1], [1, 1], [0, 1]]).astype(dtype)
    moments = merged([data], (2,))
    np.testing.assert_array_equal(moments.mean, np.array([0.5, 1.0], np.float32))
    np.testing.assert_array_equal(moments.var, np.array([0.25, 0.0], np.float32))
    np.testing.assert_allclose(normalize(moments, jnp.asarray(data), 10.0)[:, 0], [-1, 1, 1, -1], rtol=1e-6)


def test_small_spread_far_from_zero():
    """A variance far below the squared mean is not lost to cancellation."""
    data = 1000 + np.random.default_rng(0).normal(scale=0.1, size=(100, 50)).astype(np.float32)
    moments = merged(np.split(data, 10), (50,))
    np.testing.assert_allclose(moments.var, data.var(axis=0, dtype=np.float64), rtol=0.02)


def test_without_samples_nothing_changes():
    """Before the first merge, normalising and scaling leave values as they are."""
    x = jnp.array([[-3.0, 0.5, 4.0]])
    np.testing.assert_allclose(normalize(RunningMoments.zeros(jnp.zeros(3)), x, 10.0), x, rtol=1e-6)
    np.testing.assert_allclose(scale(RunningMoments.zeros(jnp.zeros(())), x, 10.0), x, rtol=1e-6)


def test_normalised_data_have_mean_0_and_std_1():
    """Normalising by the data's own moments standardises them."""
    data = np.random.default_rng(1).normal([5, -2], [3, 0.2], size=(500, 2)).astype(np.float32)
    z = normalize(merged([data], (2,)), jnp.asarray(data), np.inf)
    np.testing.assert_allclose(np.mean(z, axis=0), [0, 0], atol=1e-4)
    np.testing.assert_allclose(np.std(z, axis=0), [1, 1], rtol=1e-4)


def test_scaling_keeps_sign_and_zero():
    """Scaled rewards are divided by the standard deviation and not shifted."""
    moments = merged([np.array([6.0, 10.0, 14.0], np.float32)], ())
    rewards = jnp.array([-2.0, 0.0, 3.0])
    np.testing.assert_allclose(scale(moments, rewards, 10.0), np.array([-2, 0, 3]) / np.std([6, 10, 14]), rtol=1e-6)


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_both_are_clipped_to_the_limit(limit):
    """What lies far out is set to ±limit."""
    x = jnp.array([-100.0, 0.0, 100.0])
    expected = np.array([-limit, 0, limit], np.float32)
    np.testing.assert_array_equal(normalize(RunningMoments.zeros(jnp.zeros(())), x, limit), expected)
    np.testing.assert_array_equal(scale(RunningMoments.zeros(jnp.zeros(())), x, limit), expected)


def test_constant_data_stay_finite():
    """A variance of zero divides nothing by zero, and the constant itself maps to 0."""
    moments = merged([np.full((10, 2), 7.0, np.float32)], (2,))
    np.testing.assert_array_equal(normalize(moments, jnp.full((1, 2), 7.0), 10.0), np.zeros((1, 2), np.float32))
    np.testing.assert_array_equal(normalize(moments, jnp.full((1, 2), 8.0), 10.0), np.full((1, 2), 10, np.float32))


def test_merging_under_vmap():
    """Each agent of a vmap has moments of its own."""
    data = (
        np.random.default_rng(2).normal(size=(3, 20, 2)).astype(np.float32)
        + np.arange(3, dtype=np.float32)[:, None, None]
    )
    many = jax.vmap(RunningMoments.zeros(jnp.zeros(2)).merge)(jnp.asarray(data))
    np.testing.assert_allclose(many.mean, data.mean(axis=1), rtol=1e-4, atol=1e-5)

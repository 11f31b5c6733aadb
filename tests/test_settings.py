"""The tests run under the settings that `conftest.py` promises."""

import jax
import jax.numpy as jnp
import pytest


def test_two_devices():
    """There are two CPU devices."""
    assert [device.platform for device in jax.devices()] == ["cpu", "cpu"]


def test_mixed_dtypes_raise():
    """An int32 and a float32 array don't add up."""
    with pytest.raises(ValueError, match="dtype_promotion=strict"):
        jnp.ones(2, jnp.int32) + jnp.ones(2, jnp.float32)


def test_mixed_ranks_raise():
    """A vector and a matrix don't add up."""
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones(2) + jnp.ones((2, 2))

"""Arrays as words, and back."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.words import from_words, has_words, to_words


def test_there_and_back_bit_for_bit():
    """Of every kind of number, NaNs with their payloads, negative zeros and keys of any generator among them."""
    floats = jax.lax.bitcast_convert_type(jnp.array([0x7FC01234, 0x80000000, 0xFF800000], jnp.uint32), jnp.float32)
    tree = {
        "floats": floats,
        "half": jnp.array([[1.5, -0.0], [jnp.nan, 3e-5]], jnp.float16),
        "brain": jnp.arange(3, dtype=jnp.bfloat16) / 3,
        "bytes": jnp.array([-128, 127], jnp.int8),
        "short": jnp.array([-32768, 7], jnp.int16),
        "whole": jnp.array(-5),
        "truths": jnp.array([[True], [False]]),
        "empty": jnp.zeros((0, 3)),
        "keys": jax.random.split(jax.random.key(0), 3),
        "other keys": jax.random.key(1, impl="rbg"),
    }
    arrays = list(tree.values())
    words = jax.jit(to_words)(arrays)
    assert words.dtype == jnp.uint32
    for before, after in zip(arrays, from_words(words, arrays), strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        assert has_words(before)
        if jnp.issubdtype(before.dtype, jax.dtypes.prng_key):
            before, after = jax.random.key_data(before), jax.random.key_data(after)
        assert np.asarray(before).tobytes() == np.asarray(after).tobytes()


def test_eight_bytes():
    """Numbers of 64 bits are two words each."""
    with jax.enable_x64(True):
        tree = [jnp.array([np.pi, -1e300]), jnp.array(2**40 + 1)]
        assert tree[0].dtype == jnp.float64
        words = to_words(tree)
        assert words.shape == (6,)
        for before, after in zip(tree, from_words(words, tree), strict=True):
            np.testing.assert_array_equal(before, after)


def test_what_has_none():
    """Complex numbers, and those of less than a byte."""
    assert not has_words(jnp.zeros(2, jnp.complex64))
    assert not has_words(jnp.zeros(2, jnp.int4))

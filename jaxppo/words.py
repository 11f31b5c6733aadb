"""Arrays as one vector of 32-bit words, and back, bit for bit: what devices send in one message."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["from_words", "has_words", "to_words"]


def has_words(x: Any) -> bool:
    """Whether `to_words` takes such an array: truths, whole numbers or floats of whole bytes, or PRNG keys."""
    if x.dtype == bool or jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return True
    for kind, info in ((jnp.integer, jnp.iinfo), (jnp.floating, jnp.finfo)):
        if jnp.issubdtype(x.dtype, kind):
            return bool(info(x.dtype).bits == 8 * x.dtype.itemsize)
    return False


def to_words(arrays: Sequence[jax.Array]) -> jax.Array:
    """All of them, one after the other, as uint32 [L]."""
    return jnp.concatenate([_words(x) for x in arrays])


def from_words(words: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """The arrays that `to_words` made the words of, with the shapes and dtypes of others."""
    arrays, at = [], 0
    for x in like:
        size = jax.eval_shape(_words, x).size
        arrays.append(_array(words[at : at + size], x))
        at += size
    return arrays


def _words(x: jax.Array) -> jax.Array:
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    if x.dtype == bool:
        return x.astype(jnp.uint32).ravel()
    if x.dtype.itemsize < 4:
        return jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}").astype(jnp.uint32).ravel()
    return jax.lax.bitcast_convert_type(x, jnp.uint32).ravel()  # a number of 8 bytes becomes two words


def _array(words: jax.Array, like: Any) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        data = jax.eval_shape(jax.random.key_data, like)
        return jax.random.wrap_key_data(_array(words, data), impl=jax.random.key_impl(like))
    if like.dtype == bool:
        return (words != 0).reshape(like.shape)
    if like.dtype.itemsize < 4:
        narrow = words.astype(f"uint{8 * like.dtype.itemsize}")
        return jax.lax.bitcast_convert_type(narrow, like.dtype).reshape(like.shape)
    pairs = (2,) if like.dtype.itemsize == 8 else ()
    return jax.lax.bitcast_convert_type(words.reshape(*like.shape, *pairs), like.dtype)

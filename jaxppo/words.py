"""A tree of arrays as one vector of 32-bit words, and back, bit for bit: what devices send in one message."""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["from_words", "has_words", "to_words"]


def has_words(x: Any) -> bool:
    """Whether `to_words` takes such an array: truths, whole numbers, floats, or PRNG keys."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jax.dtypes.prng_key)
    return any(jnp.issubdtype(x.dtype, kind) for kind in kinds)


def to_words(tree: Any) -> jax.Array:
    """All leaves, one after the other, as uint32 [L]."""
    return jnp.concatenate([_words(x) for x in jax.tree.leaves(tree)])


def from_words(words: jax.Array, like: Any) -> Any:
    """The tree that `to_words` made the first of the words of; `like` has its shapes and dtypes, keys as arrays."""
    at = 0

    def leaf(x: Any) -> jax.Array:
        nonlocal at
        size = jax.eval_shape(_words, x).size
        at += size
        return _array(words[at - size : at], x)

    return jax.tree.map(leaf, like)


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

"""Reductions over the last axis, for arrays whose last axis is short: actions, or components of one.

A reduction is a kernel of its own on a GPU. Few columns are therefore taken one by one there, which makes elementwise
operations that become one with those around them.
"""

import functools

import jax
import jax.numpy as jnp

from jaxppo import backend

__all__ = ["argmax", "log_softmax", "repeat", "total"]

FEW = 8


def total(x: jax.Array) -> jax.Array:
    """The sum over the last axis: [B, A] to [B]."""
    return functools.reduce(jnp.add, _columns(x)) if _few(x) else jnp.sum(x, axis=-1)


def log_softmax(x: jax.Array) -> jax.Array:
    """The logarithm of exp x over its sum on the last axis: [B, A]."""
    if not _few(x):
        return jax.nn.log_softmax(x)
    largest = functools.reduce(jnp.maximum, _columns(jax.lax.stop_gradient(x)))
    shifted = x - largest[..., None]
    return shifted - jnp.log(total(jnp.exp(shifted)))[..., None]


def argmax(x: jax.Array) -> jax.Array:
    """Where on the last axis the largest number is, the first if there are several, NaN aside: [B, A] to int32 [B]."""
    if not _few(x):
        return jnp.argmax(x, axis=-1).astype(jnp.int32)
    largest, *others = _columns(x)
    best = jnp.zeros(largest.shape, jnp.int32)
    for i, column in enumerate(others, 1):
        better = column > largest
        largest, best = jnp.where(better, column, largest), jnp.where(better, i, best)
    return best


def repeat(row: jax.Array, count: int) -> jax.Array:
    """So many rows alike: [A] to [count, A].

    The gradient is a sum over the rows, with a single thread of a GPU for each of few columns unless they are apart.
    """
    if not _few(row):
        return jnp.broadcast_to(row, (count, *row.shape))
    return jnp.stack([jnp.broadcast_to(number, (count,)) for number in _columns(row)], axis=1)


def _few(x: jax.Array) -> bool:
    return 0 < x.shape[-1] <= FEW and backend.launches_count()


def _columns(x: jax.Array) -> list[jax.Array]:
    return [x[..., i] for i in range(x.shape[-1])]

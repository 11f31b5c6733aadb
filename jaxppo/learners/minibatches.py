"""A segment as rows, and its division into shuffled minibatches."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxppo.distributions import Distribution
from jaxppo.fields import check
from jaxppo.shuffle import permutation
from jaxppo.types import Batch

__all__ = ["Samples", "check_division", "minibatch_rows", "take", "to_rows"]


class Samples(NamedTuple):
    """A batch or minibatch as rows: every leaf is [M, …]; see `jaxppo.types.Batch`."""

    obs: jax.Array
    reset: jax.Array
    action: jax.Array
    old: Distribution
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


def to_rows(batch: Batch) -> Samples:
    """Flatten [T, N, …] to [T·N, …]."""
    fields = (batch.obs, batch.reset, batch.action, batch.old, batch.value, batch.advantage, batch.target)
    return Samples(*jax.tree.map(lambda x: x.reshape((-1, *x.shape[2:])), fields))


def take(samples: Samples, rows: jax.Array) -> Samples:
    """The samples at `rows`, of any shape: every leaf is [*rows.shape, …]."""
    return jax.tree.map(lambda x: x[rows], samples)


def check_division(name: str, num_minibatches: int, size: int) -> None:
    """Raise `jaxppo.ConfigError` unless the field `name` divides a batch of `size` samples evenly."""
    check(size % num_minibatches == 0, name, num_minibatches, f"a divisor of num_envs*num_steps={size}")


def minibatch_rows(
    key: jax.Array, size: int, num_epochs: int, num_minibatches: int, *, shuffle: bool = True
) -> jax.Array:
    """Rows of each minibatch, int32 [num_epochs, num_minibatches, M]; every epoch covers all rows once."""
    if shuffle:
        order = jax.vmap(lambda k: permutation(k, size))(jax.random.split(key, num_epochs))
    else:
        order = jnp.tile(jnp.arange(size), (num_epochs, 1))
    return order.reshape(num_epochs, num_minibatches, -1)

"""A segment as samples, their division into shuffled minibatches, and what a network makes of them."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxppo import backend
from jaxppo.distributions import Distribution
from jaxppo.fields import check
from jaxppo.images import in_rows
from jaxppo.networks import Network
from jaxppo.networks.base import join
from jaxppo.shuffle import permutations
from jaxppo.types import Batch

__all__ = [
    "Samples",
    "as_rows",
    "check_division",
    "minibatch_rows",
    "num_parts",
    "predict",
    "standardise",
    "take",
    "to_samples",
]

LARGEST_PART, SMALLEST_PART = 4096, 1024  # rows, by measurement (docs/performance.md)


Samples = Batch
"""A batch or minibatch with another order of axes. Without a carry every leaf is [M, …], M being a number of steps.

With one, samples are whole sequences, which begin with the stored carry [M, …]: every other leaf is [M, T, …].
"""


def to_samples(network: Network, batch: Batch) -> Samples:
    """A batch [T, N, …] as T·N steps, or as N sequences where the network has a carry."""
    arranged: Samples = (_sequences if network.recurrent else join)(batch._replace(carry=()))
    return arranged._replace(carry=batch.carry)


def as_rows(network: Network, samples: Samples) -> Samples:
    """Samples step by step, in the order of `predict`: every leaf [M, …], or [M·T, …] of sequences."""
    if not network.recurrent:
        return samples
    return join(samples._replace(carry=()))._replace(carry=samples.carry)


def predict(network: Network, params: Any, samples: Samples, *, both: bool = True) -> tuple[Distribution, jax.Array]:
    """Distribution and value of each row; sequences are played again from the carry that they began with.

    (Huang et al. 2022, LSTM details 4 and 5.) `both` is as in `Network.replay`.
    """
    if not network.recurrent:
        obs, reset = jax.tree.map(lambda x: x[None], (samples.obs, samples.reset))
        return join(network.replay(params, (), obs, reset, both=both))
    obs, reset = _sequences((samples.obs, samples.reset))
    return join(_sequences(network.replay(params, samples.carry, obs, reset, both=both)))


def take(samples: Samples, rows: jax.Array) -> Samples:
    """The samples at `rows`, of any shape: every leaf is [*rows.shape, …]."""
    return jax.tree.map(lambda x: in_rows(x, 1)[rows].reshape(*rows.shape, *x.shape[1:]), samples)


def standardise(advantage: jax.Array, first_axis: int = 0) -> jax.Array:
    """With mean 0 and standard deviation 1 over all axes from the first on."""
    axes = tuple(range(first_axis, advantage.ndim))
    mean, std = (f(advantage, axis=axes, keepdims=True) for f in (jnp.mean, jnp.std))
    return (advantage - mean) / (std + 1e-8)


def check_division(name: str, num_minibatches: int, num_envs: int, num_steps: int, network: Network) -> None:
    """Raise `jaxppo.ConfigError` unless the field `name` divides a batch evenly."""
    size = num_envs * num_steps
    check(size % num_minibatches == 0, name, num_minibatches, f"a divisor of num_envs*num_steps={size}")
    whole = f"a divisor of num_envs={num_envs} with a recurrent network, whose minibatches are whole sequences"
    check(not network.recurrent or num_envs % num_minibatches == 0, name, num_minibatches, whole)


def minibatch_rows(
    key: jax.Array, size: int, num_epochs: int, num_minibatches: int, *, shuffle: bool = True
) -> jax.Array:
    """Rows of each minibatch, int32 [num_epochs, num_minibatches, M]; every epoch covers all rows once."""
    order = permutations(key, num_epochs, size) if shuffle else jnp.tile(jnp.arange(size), (num_epochs, 1))
    return order.reshape(num_epochs, num_minibatches, -1)


def num_parts(size: int) -> int:
    """Into how many equal parts to divide `size` rows, so that each is small enough; 1 where none is of a good size."""
    counts = range(-(-size // LARGEST_PART), size // SMALLEST_PART + 1)
    return 1 if backend.launches_count() else next((count for count in counts if size % count == 0), 1)


def _sequences(tree: Any) -> Any:
    """[T, N, …] as [N, T, …], and back."""
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), tree)

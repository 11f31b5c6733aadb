"""One agent trained by several devices together.

Each device holds the whole state of the training and does the same computations, except for what is much work and
divides: it steps its own share of the environments and takes the gradient on its own share of every minibatch. The
shares are gathered, or averaged, before anything depends on them, so the agent is the one that a single device trains,
but for rounding.

The functions here may stand anywhere in a program: on a single device there is nothing to share.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

__all__ = ["AXIS", "everyone", "gather", "largest", "mean", "num_devices", "share"]

AXIS = "jaxppo_together"


def everyone(function: Callable[..., Any], devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
    """The function as the devices compute it together, each of them with the whole of every argument."""
    mesh = Mesh(np.array(devices), (AXIS,))
    return jax.shard_map(function, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)


def num_devices() -> int:
    """How many devices compute this together, known while a program is traced."""
    try:
        return int(jax.lax.axis_size(AXIS))
    except NameError:
        return 1


def share(tree: Any, axis: int = 0) -> Any:
    """This device's share of every leaf along an axis, whose length the number of devices must divide."""
    count = num_devices()
    if count == 1:
        return tree

    def own(x: Any) -> jax.Array:
        size = x.shape[axis] // count
        return jax.lax.dynamic_slice_in_dim(x, jax.lax.axis_index(AXIS) * size, size, axis)

    return jax.tree.map(own, tree)


def gather(tree: Any, axis: int = 0) -> Any:
    """All devices' shares of every leaf, one after the other along an axis."""
    if num_devices() == 1:
        return tree
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, axis=axis, tiled=True), tree)


def mean(tree: Any) -> Any:
    """The mean over the devices of every leaf, as float32, in one message."""
    if num_devices() == 1:
        return tree
    vector, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
    return unravel(jax.lax.pmean(vector, AXIS))  # type: ignore[no-untyped-call]


def largest(x: jax.Array) -> jax.Array:
    """The largest over the devices."""
    return x if num_devices() == 1 else jax.lax.pmax(x, AXIS)  # type: ignore[no-untyped-call]

"""One agent trained by several devices together.

Each device holds the whole state of the training and does the same computations, except for what is much work and
divides: it steps its own share of the environments, and takes the gradient on its own share of every minibatch, or one
of two devices learns the policy and the other the value. What each has done is gathered, or averaged, before anything
depends on it, so the agent is the one that a single device trains, but for rounding.

The functions here may stand anywhere in a program: on a single device there is nothing to share.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec

from jaxppo.images import in_rows
from jaxppo.words import from_words, has_words, to_words

__all__ = [
    "AXIS",
    "apart",
    "divides_envs",
    "everyone",
    "gather",
    "gather_envs",
    "largest",
    "mean",
    "num_devices",
    "share",
    "share_envs",
]

AXIS = "jaxppo_together"
# By measurement (docs/performance.md): bytes of an array that are copied faster than another message is sent, and
# environments that are worth a device.
MESSAGE, ENVS = 2**18, 4


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


def gather(tree: Any, axis: Any = 0, *, packed: bool = True) -> Any:
    """All devices' shares of every leaf, one after the other along an axis; small ones in one message, if `packed`.

    The axis is that of all leaves, or a tree of axes for the subtrees.
    """
    if num_devices() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    axes = jax.tree.leaves(jax.tree.map(lambda one, subtree: jax.tree.map(lambda _: one, subtree), axis, tree))
    small = [packed and has_words(x) and x.size * x.dtype.itemsize <= MESSAGE for x in leaves]
    messages = iter(_message([x for x, is_small in zip(leaves, small, strict=True) if is_small]))
    every = [next(messages) if one else _alone(x) for x, one in zip(leaves, small, strict=True)]
    return jax.tree.unflatten(structure, list(map(_in_line, every, axes)))


def _alone(x: jax.Array) -> jax.Array:
    """That of all devices, [devices, …], in a message of its own."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_alone(jax.random.key_data(x)), impl=jax.random.key_impl(x))
    return jax.lax.all_gather(x, AXIS)


def _in_line(every: jax.Array, axis: int) -> jax.Array:
    """Shares [devices, …], one after the other along an axis of theirs."""
    count, size = len(every), every.shape[1 + axis]
    # Not all_gather along the axis: on a CPU that transposes what is sent and what is received.
    rows = jnp.concatenate(list(in_rows(every, axis + 2)), axis) if axis else every
    return rows.reshape(*every.shape[1 : 1 + axis], count * size, *every.shape[2 + axis :])


@jax.custom_jvp
def _message(arrays: list[jax.Array]) -> list[jax.Array]:
    """Those of all devices, [devices, …], sent as one."""
    every = jax.lax.all_gather(to_words(arrays), AXIS) if arrays else []
    return [jnp.stack(each) for each in zip(*(from_words(words, arrays) for words in every), strict=True)]


@_message.defjvp
def _message_jvp(primals: Any, tangents: Any) -> Any:
    """Derivatives are no words, and go one by one."""
    results = _message(*primals)

    def gathered(tangent: Any, result: jax.Array) -> Any:
        if tangent.dtype == jax.dtypes.float0:
            return np.zeros(result.shape, jax.dtypes.float0)
        return jax.lax.all_gather(tangent, AXIS)

    return results, list(map(gathered, *tangents, results))


def divides_envs(num_envs: int) -> bool:
    """Whether each device steps its share of so many environments, and not all of them."""
    count = num_devices()
    return count > 1 and num_envs % count == 0 and num_envs // count >= ENVS


def share_envs(tree: Any, axis: int = 0) -> Any:
    """What this device's environments have of every leaf, whose length along an axis is the number of all of them."""
    num_envs = jax.tree.leaves(tree)[0].shape[axis]
    return share(tree, axis) if divides_envs(num_envs) else tree


def gather_envs(tree: Any, num_envs: int, axis: Any = 0, *, packed: bool = True) -> Any:
    """What all environments have, of what those of each device do; see `gather`."""
    return gather(tree, axis, packed=packed) if divides_envs(num_envs) else tree


def apart(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """The results of both functions, each computed by one of two devices and sent to the other in one message.

    They are trees of numbers. Both functions may close over whatever both devices have.

    Raises:
        TypeError: under differentiation, whose way back through branches of two devices is not known to be right.
    """
    traced, shapes = zip(*(jax.make_jaxpr(each, return_shape=True)() for each in (first, second)), strict=True)
    leaves = [jax.tree.leaves(shape) for shape in shapes]
    sizes = [jax.eval_shape(to_words, each).size for each in leaves]

    def message(function: ClosedJaxpr, size: int) -> Callable[[], jax.Array]:
        return lambda: jnp.pad(to_words(_constant(jaxpr_as_fun(function)())), (0, max(sizes) - size))

    own = jax.lax.cond(jax.lax.axis_index(AXIS) == 0, *map(message, traced, sizes))
    both = zip(jax.lax.all_gather(own, AXIS), leaves, shapes, strict=True)
    one, other = (jax.tree.unflatten(jax.tree.structure(shape), from_words(words, each)) for words, each, shape in both)
    return one, other


@jax.custom_jvp
def _constant(arrays: list[jax.Array]) -> list[jax.Array]:
    return arrays


@_constant.defjvp
def _constant_jvp(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "no derivatives of an agent whose policy and value two devices learn apart (max_grad_norm=None); "
        "jaxppo.train trains it on one"
    )


def mean(tree: Any) -> Any:
    """The mean over the devices of every leaf, as float32, in one message."""
    if num_devices() == 1:
        return tree
    vector, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
    return unravel(jax.lax.pmean(vector, AXIS))  # type: ignore[no-untyped-call]


def largest(x: jax.Array) -> jax.Array:
    """The largest over the devices."""
    return x if num_devices() == 1 else jax.lax.pmax(x, AXIS)  # type: ignore[no-untyped-call]

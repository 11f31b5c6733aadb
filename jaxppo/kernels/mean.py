"""The mean over parts of a minibatch of what a function makes of each, with programs of one kernel for the parts.

For the gradient of a small network, which takes XLA some thirty kernels one after the other, each of which does little.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl

from jaxppo.kernels import padded
from jaxppo.kernels.launch import launch
from jaxppo.needed import needed

__all__ = ["mean_over_parts"]

ROWS = (16, 32)  # of a part
PARTS = 128  # at most: each has results of its own, which are then put together. With more, XLA is faster.


def mean_over_parts(
    function: Callable[[Any, Any], tuple[Any, Any]],
    vector: jax.Array,
    unravel: Callable[[jax.Array], Any],
    samples: Any,
    *,
    interpret: bool = False,
) -> tuple[Any, Any] | None:
    """The mean, and the maximum, of what `function(params, part)` makes of equal parts of the samples.

    Args:
        function: `(params, part) -> (to be averaged, to be maximised)`, two pytrees of float32, where the leaves of a
            part are [R, …]. It may close over arrays.
        vector: all parameters one after the other, float32 [P].
        unravel: the parameters of such a vector.
        samples: leaves [M, …].
        interpret: let JAX do what the kernel would: for tests without a GPU.

    Returns:
        The two; None if the function holds anything, or M is a number, that this cannot do.
    """
    size = len(jax.tree.leaves(samples)[0])
    rows = next((rows for rows in ROWS if size % rows == 0 and size // rows <= PARTS), None)
    if rows is None:
        return None
    try:
        return _mean(function, vector, unravel, samples, rows, interpret)
    except padded.UnsupportedError:
        return None


def _mean(
    function: Callable[[Any, Any], tuple[Any, Any]],
    vector: jax.Array,
    unravel: Callable[[jax.Array], Any],
    samples: Any,
    num_rows: int,
    interpret: bool,
) -> tuple[Any, Any]:
    part = jax.tree.map(lambda x: padded.Shape((num_rows, *x.shape[1:]), x.dtype), samples)
    params = jax.eval_shape(unravel, vector)
    closed, results = jax.make_jaxpr(function, return_shape=True)(params, part)
    leaves, arrays = jax.tree.leaves(params), jax.tree.leaves(samples)
    jaxpr, inputs, consts = parts = needed(closed)
    if any(x.dtype != jnp.float32 for x in (*leaves, *[var.aval for var in jaxpr.outvars])):
        raise padded.UnsupportedError("numbers that are not float32")
    padded.rehearse(jaxpr, parts.given)
    places = _places([leaf.size for leaf in leaves])
    weights = {var: places[i] for i, var in inputs.items() if i < len(leaves)}
    read = {var: arrays[i - len(leaves)] for i, var in inputs.items() if i >= len(leaves)}
    num_averaged, outs = len(jax.tree.leaves(results[0])), _places([var.aval.size for var in jaxpr.outvars])
    num_parts = len(arrays[0]) // num_rows

    def kernel(vector_ref: Any, const_refs: Any, refs: Any, out_ref: Any) -> None:
        part = pl.program_id(0)
        rows = part * num_rows + jnp.arange(num_rows)
        values = {var: padded.load(ref, var.aval.shape) for var, ref in zip(consts, const_refs, strict=True)}
        values |= {var: padded.load(vector_ref, var.aval.shape, start=start) for var, start in weights.items()}
        values |= {var: padded.load(ref, var.aval.shape, rows=rows) for var, ref in zip(read, refs, strict=True)}
        for var, start, value in zip(jaxpr.outvars, outs, padded.evaluate(jaxpr, values), strict=False):
            padded.store(out_ref, var.aval.shape, value, part, start=start)

    shape = padded.Shape((num_parts, outs[-1]), jnp.float32)
    table = launch(kernel, shape, num_parts, interpret)(vector, list(consts.values()), list(read.values()))
    middle = outs[num_averaged]
    total = jnp.concatenate([jnp.sum(table[:, :middle], axis=0) / num_parts, jnp.max(table[:, middle:], axis=0)])
    numbers = zip(jnp.split(total, outs[1:-1]), jaxpr.outvars, strict=True)
    return jax.tree.unflatten(jax.tree.structure(results), [x.reshape(var.aval.shape) for x, var in numbers])


def _places(sizes: list[int]) -> list[int]:
    """Where each of several arrays begins in a vector of all, and where the last one ends."""
    return [0, *map(int, np.cumsum(sizes))]

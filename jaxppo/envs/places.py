"""What an environment writes to a place of an array, as a choice between old and new for all of the array.

`x.at[i, j].set(y)` is a scatter, for which XLA launches a kernel of its own, and mostly another to copy `x`. A choice
takes more arithmetic, but XLA makes it part of the operations before and after it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.lax import GatherScatterMode, ScatterDimensionNumbers

__all__ = ["by_choice"]

LARGEST = 2**12  # numbers of an array: with more, a choice may well take longer than a kernel (not measured)


def by_choice(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with choices for scatters that write to one place, or one row or the like, of a small array.

    What it takes and gives are arrays, whatever numbers they were before.
    """

    def chosen(*args: Any) -> Any:
        closed, results = jax.make_jaxpr(function, return_shape=True)(*args)
        leaves = jaxpr_as_fun(_closed(closed))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(results), leaves)

    return chosen


def _closed(closed: ClosedJaxpr) -> ClosedJaxpr:
    return ClosedJaxpr(_jaxpr(closed.jaxpr), closed.consts)


def _jaxpr(jaxpr: Any) -> Any:
    return jaxpr.replace(eqns=[_operation(eqn) for eqn in jaxpr.eqns])


def _operation(eqn: JaxprEqn) -> JaxprEqn:
    if eqn.primitive.name == "scatter" and _has_one_place(eqn):
        choose = jax.jit(partial(_choose, eqn.params["dimension_numbers"], eqn.params["mode"]))
        with jax.disable_jit(False):
            [call] = jax.make_jaxpr(choose)(*(var.aval for var in eqn.invars)).eqns
        return call.replace(invars=eqn.invars, outvars=eqn.outvars, source_info=eqn.source_info, ctx=eqn.ctx)
    return eqn.replace(params={name: _bodies(value) for name, value in eqn.params.items()})


def _bodies(value: Any) -> Any:
    """Functions within an operation, of loops and branches for example; whatever else it may be as it is."""
    if isinstance(value, ClosedJaxpr):
        return _closed(value)
    if isinstance(value, Jaxpr):
        return _jaxpr(value)
    return tuple(map(_bodies, value)) if type(value) is tuple else value


def _has_one_place(eqn: JaxprEqn) -> bool:
    """Whether a scatter has one index for each of some axes, and replaces all that there is along the others."""
    avals: Any = [var.aval for var in eqn.invars]
    operand, indices, updates = avals
    if eqn.params["update_jaxpr"] is not None:  # JAX's scatter of a function, `x.at[i].apply`
        return False
    if operand.size > LARGEST or indices.ndim != 1 or indices.dtype.itemsize < 4:  # which may not count that far
        return False
    numbers = eqn.params["dimension_numbers"]
    indexed = set(numbers.scatter_dims_to_operand_dims)
    others = tuple(size for axis, size in enumerate(operand.shape) if axis not in indexed)
    return set(numbers.inserted_window_dims) == indexed and updates.shape == others


def _choose(
    numbers: ScatterDimensionNumbers, mode: GatherScatterMode, operand: jax.Array, indices: jax.Array, new: jax.Array
) -> jax.Array:
    here = jnp.ones((), bool)
    for axis, index in zip(numbers.scatter_dims_to_operand_dims, indices, strict=True):
        if mode == GatherScatterMode.CLIP:
            index = jnp.clip(index, 0, operand.shape[axis] - 1)
        here &= jax.lax.broadcasted_iota(indices.dtype, operand.shape, axis) == index
    return jnp.where(here, jnp.expand_dims(new, numbers.inserted_window_dims), operand)

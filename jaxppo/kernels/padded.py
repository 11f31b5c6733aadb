"""Jaxprs evaluated within a kernel of a GPU, on arrays whose sides are powers of two, the only ones that Triton knows.

An array is held with its sides rounded up. What lies beyond its own is arbitrary, and masked where it would matter.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

__all__ = ["Shape", "UnsupportedError", "evaluate", "load", "pad", "rehearse", "store"]

Shape: Any = jax.ShapeDtypeStruct

SHORTEST = 16  # side of what Triton multiplies as matrices
LARGEST, LARGEST_MADE = 2**14, 2**13  # numbers of an array that is given, and of one that is made
ALL_GIVEN = 2**15  # numbers of all that are given, which have to fit into a multiprocessor's shared memory
COLUMNS = 16  # that are put together one by one
DTYPES = ("float32", "int32", "uint32", "bool")

# fmt: off
ELEMENTWISE = frozenset({
    "abs", "acos", "add", "and", "asin", "atan", "atan2", "ceil", "clamp", "convert_element_type", "cos", "cosh",
    "div", "eq", "exp", "exp2", "expm1", "floor", "ge", "gt", "integer_pow", "is_finite", "le", "log", "log1p",
    "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "one_minus_square", "or", "pow", "rem", "rsqrt",
    "select_n", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "xor",
})
# fmt: on
OF_TRUTHS = frozenset(
    {"and", "convert_element_type", "eq", "ge", "gt", "le", "lt", "ne", "not", "or", "select_n", "xor"}
)
UNCHANGED = frozenset({"copy", "copy_p", "reshard", "stop_gradient"})
CALLS = frozenset({"closed_call", "custom_jvp_call", "custom_vjp_call", "eval_jaxpr", "jit", "pjit"})
REDUCTIONS: dict[str, tuple[Callable[..., jax.Array], float]] = {
    "argmax": (lambda x, axes: jnp.argmax(x, axes[0]).astype(jnp.int32), -math.inf),
    "reduce_max": (jnp.max, -math.inf),
    "reduce_min": (jnp.min, math.inf),
    "reduce_sum": (jnp.sum, 0.0),
}


class UnsupportedError(Exception):
    """Something that a kernel cannot do here, and XLA must."""


def pad(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape with its sides rounded up."""
    return tuple(pl.next_power_of_2(int(size)) for size in shape)


def _check(variables: Iterable[Any], largest: int = LARGEST) -> None:
    """Raise `UnsupportedError` unless a kernel can hold such arrays."""
    for var in variables:
        aval = var.aval
        if str(aval.dtype) not in DTYPES or 0 in aval.shape or math.prod(pad(aval.shape)) > largest:
            raise UnsupportedError(str(aval))


def evaluate(jaxpr: Any, values: dict[Any, Any], with_rows: Iterable[Any] = ()) -> list[Any]:
    """The outputs of a jaxpr.

    Args:
        jaxpr: what to compute.
        values: what its inputs and constants are.
        with_rows: the variables among these whose rows, along the first axis, must be kept apart: those of others may
            be beyond what there is.

    Raises:
        UnsupportedError: operations that are not known here, or that mix rows to be kept apart.
    """
    known, apart = dict(values), set(with_rows)

    def read(var: Any) -> Any:
        aval: Any = var.aval
        return np.asarray(var.val, aval.dtype)[()] if isinstance(var, Literal) else known[var]

    for eqn in jaxpr.eqns:
        _check(eqn.outvars, LARGEST_MADE)
        rows = [not isinstance(var, Literal) and var in apart for var in eqn.invars]
        known.update(zip(eqn.outvars, _results(eqn, [read(var) for var in eqn.invars], rows), strict=True))
        if any(rows):
            apart.update(eqn.outvars)
    return [jnp.broadcast_to(read(var), pad(var.aval.shape)) for var in jaxpr.outvars]


def rehearse(jaxpr: Any, given: Iterable[Any], with_rows: Iterable[Any] = ()) -> None:
    """Raise `UnsupportedError` unless `evaluate` can do the jaxpr with these variables given."""
    given = list(given)
    _check((*given, *jaxpr.outvars))
    if sum(math.prod(pad(var.aval.shape)) for var in given) > ALL_GIVEN:
        raise UnsupportedError("too many numbers")
    shapes = [Shape(pad(var.aval.shape), var.aval.dtype) for var in given]
    jax.eval_shape(lambda *values: evaluate(jaxpr, dict(zip(given, values, strict=True)), with_rows), *shapes)


def load(ref: Any, shape: Sequence[int], *before: Any, rows: jax.Array | None = None, start: int | None = None) -> Any:
    """An array of a kernel's argument, with zeros beyond its sides.

    Args:
        ref: the argument.
        shape: of the array; with `rows`, of as many rows as these are.
        before: what the argument is indexed by first.
        rows: which of the argument's rows to take; None for all there are.
        start: where the array begins if the argument is a vector of several; None if it is not.
    """
    if not shape:
        return ref[before if start is None else (*before, start)]
    index, mask = _index(ref, shape, before, rows, start)
    if mask is None:
        return triton.load(ref.at[index])
    return triton.load(ref.at[index], mask=mask, other=np.zeros((), ref.dtype)[()])


def store(
    ref: Any, shape: Sequence[int], value: Any, *before: Any, rows: jax.Array | None = None, start: int | None = None
) -> None:
    """Put an array where `load` would take it from, without what is beyond its sides."""
    if not shape:
        ref[before if start is None else (*before, start)] = value
        return
    index, mask = _index(ref, shape, before, rows, start)
    triton.store(ref.at[index], value, mask=mask)


def _index(
    ref: Any, shape: Sequence[int], before: tuple[Any, ...], rows: jax.Array | None, start: int | None
) -> tuple[tuple[Any, ...], Any]:
    """Where an array is, and which of these places are its own; None for all."""
    padded = pad(shape)
    limits = list(shape) if rows is None else [ref.shape[len(before)], *shape[1:]]
    indices, mask = [], None
    for axis, (size, limit) in enumerate(zip(padded, limits, strict=True)):
        index = rows if axis == 0 and rows is not None else jnp.arange(size)
        index = index.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        indices.append(index)
        if limit != size:
            within = jnp.broadcast_to(index < limit, padded)
            mask = within if mask is None else mask & within
    if start is None:
        return (*before, *indices), mask
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return (*before, start + sum(index * stride for index, stride in zip(indices, strides, strict=True))), mask


def _require(ok: bool, eqn: Any) -> None:
    if not ok:
        raise UnsupportedError(str(eqn))


def _results(eqn: Any, values: list[Any], rows: list[bool]) -> list[Any]:
    """What an operation gives; `rows` tells which of the values have rows to be kept apart."""
    name, params = eqn.primitive.name, eqn.params
    inner = next((value for value in params.values() if isinstance(value, ClosedJaxpr | Jaxpr)), None)
    if inner is not None:
        _require(name in CALLS, eqn)
        jaxpr, consts = (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, [])
        _require(not consts, eqn)
        apart = [var for var, has_rows in zip(jaxpr.invars, rows, strict=True) if has_rows]
        return evaluate(jaxpr, dict(zip(jaxpr.invars, values, strict=True)), apart)
    if name in ("split", "unstack"):
        axis = params["axis"]
        _require(not (rows[0] and axis == 0) and all(size == 1 for size in params.get("sizes", ())), eqn)
        return [_column(values[0], axis, k).reshape(pad(var.aval.shape)) for k, var in enumerate(eqn.outvars)]
    _require(len(eqn.outvars) == 1, eqn)
    if name in ELEMENTWISE:
        _require(name in OF_TRUTHS or all(x.dtype != jnp.bool_ for x in values), eqn)
        _require(name != "select_n" or values[0].dtype == jnp.bool_, eqn)
        if all(isinstance(x, np.generic) for x in values):  # a number known by now, as which Triton wants it
            with jax.ensure_compile_time_eval():
                return [np.asarray(eqn.primitive.bind(*values, **params))[()]]
        return [eqn.primitive.bind(*values, **params)]
    if name in UNCHANGED:
        return values
    if name == "add_any":
        return [values[0] + values[1]]
    if name == "dot_general":
        return [_product(eqn, values, rows)]
    if name in ("concatenate", "stack"):
        return [_join(eqn, values, rows)]
    _require(len(values) <= 1 or name == "pad", eqn)
    return [_rearranged(eqn, values, bool(rows) and rows[0])]


def _rearranged(eqn: Any, values: list[Any], has_rows: bool) -> Any:
    """Operations on the shape of an array, or on its axes."""
    name, params, out = eqn.primitive.name, eqn.params, eqn.outvars[0].aval.shape
    if name == "iota":
        return jax.lax.broadcasted_iota(params["dtype"], pad(out), params["dimension"])
    _require(bool(values), eqn)
    x, sides = values[0], eqn.invars[0].aval.shape
    match name:
        case "broadcast_in_dim":
            _require(not has_rows or params["broadcast_dimensions"][:1] == (0,), eqn)
            return jax.lax.broadcast_in_dim(x, pad(out), params["broadcast_dimensions"])
        case "reshape" | "squeeze" | "expand_dims":
            _require([size for size in sides if size != 1] == [size for size in out if size != 1], eqn)
            _require(not has_rows or out[:1] == sides[:1], eqn)
            return jnp.reshape(x, pad(out))
        case "transpose":
            _require(not has_rows or params["permutation"][0] == 0, eqn)
            return jnp.transpose(x, params["permutation"])
        case "slice":
            _require(all(stride == 1 for stride in params["strides"] or ()), eqn)
            for axis, (start, end) in enumerate(zip(params["start_indices"], params["limit_indices"], strict=True)):
                if (start, end) != (0, sides[axis]):
                    _require(end - start == 1 and not (has_rows and axis == 0), eqn)
                    x = _column(x, axis, start)
            return x
        case "pad":
            return _with_borders(eqn, x, values[1], has_rows)
        case _:
            return _reduced(eqn, x, has_rows)


def _reduced(eqn: Any, x: jax.Array, has_rows: bool) -> jax.Array:
    """A sum, or a maximum or what is like it, over axes."""
    name, axes = eqn.primitive.name, eqn.params.get("axes", ())
    _require(name in REDUCTIONS and x.dtype == jnp.float32 and not (has_rows and 0 in axes), eqn)
    _require(eqn.outvars[0].aval.dtype in (jnp.float32, jnp.int32), eqn)
    reduce, neutral = REDUCTIONS[name]
    for axis in axes:
        x = _masked(x, axis, eqn.invars[0].aval.shape[axis], neutral)
    return reduce(x, axes)


def _with_borders(eqn: Any, x: jax.Array, value: Any, has_rows: bool) -> jax.Array:
    """`value` on both sides of an array, along axes where it has a single entry."""
    for axis, (low, high, between) in enumerate(eqn.params["padding_config"]):
        if low or high or between:
            single = eqn.invars[0].aval.shape[axis] == 1 and min(low, high) >= 0
            _require(single and not (has_rows and axis == 0), eqn)
            shape = pad((*x.shape[:axis], low + 1 + high, *x.shape[axis + 1 :]))
            here = jax.lax.broadcasted_iota(jnp.int32, shape, axis) == low
            x = jnp.where(here, jnp.broadcast_to(x, shape), value)
    return x


def _join(eqn: Any, values: list[Any], rows: list[bool]) -> jax.Array:
    """Arrays side by side along an axis, a new one or their own."""
    out = eqn.outvars[0].aval.shape
    axis = eqn.params["axis" if eqn.primitive.name == "stack" else "dimension"]
    _require(not (any(rows) and axis == 0) and out[axis] <= COLUMNS, eqn)
    if eqn.primitive.name == "stack":
        columns = [jnp.expand_dims(x, axis) for x in values]
    else:
        sizes = [var.aval.shape[axis] for var in eqn.invars]
        columns = [_column(x, axis, k) for x, size in zip(values, sizes, strict=True) for k in range(size)]
    index = jax.lax.broadcasted_iota(jnp.int32, pad(out), axis)
    joined = jnp.broadcast_to(columns[0], pad(out))
    for k, column in enumerate(columns[1:], 1):
        joined = jnp.where(index == k, jnp.broadcast_to(column, pad(out)), joined)
    return joined


def _product(eqn: Any, values: list[Any], rows: list[bool]) -> jax.Array:
    """A matrix product; where a side is too short for Triton, as a sum of products."""
    contracted, batched = eqn.params["dimension_numbers"]
    _require(batched == ((), ()) and all(len(axes) == 1 for axes in contracted), eqn)
    _require(all(x.ndim == 2 and x.dtype == jnp.float32 for x in values), eqn)
    _require(not rows[1] and not (rows[0] and contracted[0] == (0,)), eqn)
    inner = eqn.invars[0].aval.shape[contracted[0][0]]
    x, y = (_masked(x, axis, inner, 0.0) for x, (axis,) in zip(values, contracted, strict=True))
    x, y = x if contracted[0] == (1,) else x.T, y if contracted[1] == (0,) else y.T
    if min(*x.shape, *y.shape) >= SHORTEST:
        return jnp.dot(x, y, precision=eqn.params["precision"], preferred_element_type=jnp.float32)
    _require(x.size * y.shape[1] <= LARGEST_MADE, eqn)
    return jnp.sum(x[:, :, None] * y[None], axis=1)


def _masked(x: jax.Array, axis: int, size: int, value: float) -> jax.Array:
    """With `value` beyond the array's own side."""
    if x.shape[axis] == size:
        return x
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) < size, x, np.float32(value))


def _column(x: jax.Array, axis: int, k: int) -> jax.Array:
    """The k-th entry along an axis, which stays, with length 1."""
    if x.shape[axis] == 1:
        return x
    here = jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) == k
    if x.dtype == jnp.bool_:
        return jnp.sum(jnp.where(here & x, np.float32(1), np.float32(0)), axis=axis, keepdims=True) > 0
    return jnp.sum(jnp.where(here, x, np.zeros((), x.dtype)[()]), axis=axis, keepdims=True)

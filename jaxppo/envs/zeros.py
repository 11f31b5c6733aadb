"""The numbers of an observation that are zero whatever happens, found in the jaxprs of an environment.

Its functions are run with part of their numbers known (constant propagation: Kildall 1973, "A Unified Approach to
Global Program Optimization"). Keys, actions and parameters are not; of a state those are that a reset leaves at a value
which no step changes. What an operation makes is not known unless it is one of those below, and floats are neither
calculated with nor narrowed, since a compiler may round them otherwise, nor known where it may take them for zeros.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxppo.envs.base import Env, some_action

__all__ = ["CALLS", "Constants", "always_zero", "run"]

CALLS = {"jit", "pjit"}  # operations that are functions, written out
KINDS = "biuf"  # of dtypes: bools, whole numbers and floats, of those that numpy has
MOST_STEPS = 64  # to look at; a number at least is found to change in each


class Constants(NamedTuple):
    """What is known of an array: its numbers where `known`, which has the shape of `value`."""

    value: np.ndarray
    known: np.ndarray


Known = Constants | None  # None for an array of which nothing is known


@functools.cache
def always_zero(env: Env) -> np.ndarray:
    """Where an observation of `env`, a single array, is zero in every step: bool, of its shape; nowhere if in doubt."""
    try:
        with np.errstate(all="ignore"):
            return _always_zero(env)
    except Exception:  # of whatever kind: an environment may want its parameters as Python's own numbers
        return np.zeros(env.observation.shape, bool)


def _always_zero(env: Env) -> np.ndarray:
    params = env.params
    key, action = jax.eval_shape(lambda: (jax.random.key(0), some_action(env.action_space(params))))

    def step(state: Any, key: jax.Array, action: jax.Array, params: Any) -> tuple[Any, jax.Array]:
        after, timestep = env.step(key, state, action, params)
        return after, timestep.obs

    begin, (state, _) = jax.make_jaxpr(env.reset, return_shape=True)(key, params)
    go_on = jax.make_jaxpr(step)(state, key, action, params)
    *states, first = run(begin, [])
    for _ in range(MOST_STEPS):
        *after, obs = run(go_on, states)
        joined = [_either(old, new) for old, new in zip(states, after, strict=True)]
        if all(_count(old) == _count(new) for old, new in zip(states, joined, strict=True)):
            always = _either(first, obs)
            break
        states = joined
    else:
        always = None
    return np.zeros(env.observation.shape, bool) if always is None else always.known & (always.value == 0)


def run(closed: ClosedJaxpr, inputs: list[Known]) -> list[Known]:
    """What is known of a function's results, with the first of its arguments known as far as `inputs` say."""
    jaxpr = closed.jaxpr
    found: dict[Any, Known] = dict(zip(jaxpr.constvars, map(_constant, closed.consts), strict=True))
    found |= zip(jaxpr.invars, inputs, strict=False)

    def read(var: Any) -> Known:
        return _constant(np.asarray(var.val, _aval(var).dtype)) if isinstance(var, Literal) else found.get(var)

    for eqn in jaxpr.eqns:
        parts, name = [read(var) for var in eqn.invars], eqn.primitive.name
        if name in CALLS:
            found |= zip(eqn.outvars, run(eqn.params["jaxpr"], parts), strict=True)
        elif name == "unstack" and parts[0] is not None:
            found |= zip(eqn.outvars, _unstack(eqn, parts[0]), strict=True)
        elif name in OPERATIONS and any(part is not None for part in parts):
            found[eqn.outvars[0]] = _unless_none(OPERATIONS[name](eqn, *parts))
    return [read(var) for var in jaxpr.outvars]


def _constant(x: Any) -> Known:
    """Of an array of the program's own, but for random keys and floats so small that a processor may flush them."""
    if isinstance(x, jax.core.Tracer) or x.dtype.kind not in KINDS:
        return None
    value = np.asarray(x)
    tiny = (value != 0) & (np.abs(value) < np.finfo(value.dtype).tiny) if value.dtype.kind == "f" else False
    return Constants(value, np.ones(x.shape, bool) & ~np.asarray(tiny))


def _aval(var: Any) -> Any:
    """Shape and dtype of a variable."""
    return var.aval


def _written(part: Known, var: Any) -> Constants:
    """What is known of a variable, also where that is nothing."""
    shape, dtype = _aval(var).shape, _aval(var).dtype
    return part or Constants(np.zeros(shape, dtype), np.zeros(shape, bool))


def _unless_none(part: Known) -> Known:
    return part if _count(part) else None


def _count(part: Known) -> int:
    """How many numbers are known."""
    return 0 if part is None else int(np.count_nonzero(part.known))


def _either(a: Known, b: Known) -> Known:
    """What is known of an array that is one of the two."""
    if a is None or b is None:
        return None
    return _unless_none(Constants(a.value, a.known & b.known & (a.value == b.value)))


def _calculate(function: Callable[..., Any], *, floats: bool) -> Callable[..., Known]:
    """An operation on each number; of floats only if they come out the same wherever it is made."""

    def operation(eqn: JaxprEqn, *parts: Known) -> Known:
        if any(part is None or (part.value.dtype.kind not in "biu" and not floats) for part in parts):
            return None
        values, known = zip(*(part for part in parts if part is not None), strict=True)
        value = np.asarray(function(*values))
        return Constants(value, np.broadcast_to(functools.reduce(np.logical_and, known), value.shape))

    return operation


def _move(function: Callable[..., np.ndarray]) -> Callable[..., Known]:
    """An operation that puts the numbers of an array elsewhere: `function(eqn, array)`."""

    def operation(eqn: JaxprEqn, part: Constants) -> Known:
        return Constants(function(eqn, part.value), function(eqn, part.known))

    return operation


def _reshape(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    axes = eqn.params["dimensions"]
    return _regroup(eqn, x if axes is None else x.transpose(axes))


def _regroup(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    return x.reshape(_aval(eqn.outvars[0]).shape)


def _slice(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    starts, ends, strides = (eqn.params[name] for name in ("start_indices", "limit_indices", "strides"))
    return x[tuple(map(slice, starts, ends, strides or [1] * x.ndim))]


def _broadcast(eqn: JaxprEqn, x: np.ndarray) -> np.ndarray:
    shape, axes = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    expanded = [x.shape[axes.index(axis)] if axis in axes else 1 for axis in range(len(shape))]
    return np.broadcast_to(x.reshape(expanded), shape)


def _joined(join: Callable[..., np.ndarray], axis: str) -> Callable[..., Known]:
    """An operation that makes one array of several, along the axis that goes by this name among its parameters."""

    def operation(eqn: JaxprEqn, *parts: Known) -> Known:
        values, known = zip(*map(_written, parts, eqn.invars), strict=True)
        return Constants(join(values, eqn.params[axis]), join(known, eqn.params[axis]))

    return operation


def _unstack(eqn: JaxprEqn, part: Constants) -> list[Known]:
    """The arrays along an axis."""
    values, known = (np.moveaxis(x, eqn.params["axis"], 0) for x in part)
    return [_unless_none(Constants(*each)) for each in zip(values, known, strict=True)]


def _convert(eqn: JaxprEqn, part: Constants) -> Known:
    old, new = part.value.dtype, eqn.params["new_dtype"]
    if new.kind not in KINDS or (old.kind == "f" and (new.kind in "iu" or (new.kind == "f" and new != old))):
        return None  # what becomes of floats is not the same everywhere
    return Constants(part.value.astype(new), part.known)


def _select(eqn: JaxprEqn, which: Known, *cases: Known) -> Known:
    """The one that `which` says, and otherwise what they have in common."""
    common = functools.reduce(_either, cases)
    if which is None:
        return common
    out = eqn.outvars[0]
    values, known = zip(*(_written(part, out) for part in (common, *cases)), strict=True)
    case = np.clip(which.value.astype(int), 0, len(cases) - 1)
    chosen = np.broadcast_to(np.where(which.known, case + 1, 0), _aval(out).shape)
    return Constants(*(np.take_along_axis(np.stack(x), chosen[None], 0)[0] for x in (values, known)))


def _scatter(eqn: JaxprEqn, operand: Known, index: Known, update: Known) -> Known:
    """`operand.at[index].set(update)` of one place, the start of a window: a number or several along some axes."""
    numbers, function = eqn.params["dimension_numbers"], eqn.params["update_jaxpr"]
    indices, updates = (_aval(var) for var in eqn.invars[1:])
    if operand is None or indices.ndim != 1 or function is not None:
        return None
    size = iter(updates.shape)
    window = [1 if axis in numbers.inserted_window_dims else next(size) for axis in range(operand.value.ndim)]
    start: list[int | None] = [0] * len(window)
    for k, axis in enumerate(numbers.scatter_dims_to_operand_dims):
        at = None if index is None or not index.known[k] else int(index.value[k])
        start[axis] = at if at is not None and 0 <= at <= operand.value.shape[axis] - window[axis] else None
    where = tuple(slice(None) if at is None else slice(at, at + n) for at, n in zip(start, window, strict=True))
    value, known = np.array(operand.value), np.array(operand.known)
    if None not in start:
        written = _written(update, eqn.invars[2])
        value[where], known[where] = written.value.reshape(window), written.known.reshape(window)
    elif update is None or not np.all(update.known):
        known[where] = False
    else:  # somewhere there: a number stays known if it is what all are that may take its place
        known[where] &= np.logical_and.reduce([value[where] == x for x in np.unique(update.value)])
    return Constants(value, known)


OPERATIONS: dict[str, Callable[..., Known]] = {
    **{
        name: _calculate(function, floats=False)
        for name, function in {"add": np.add, "sub": np.subtract, "mul": np.multiply}.items()
    },
    **{
        name: _calculate(function, floats=True)
        for name, function in {
            "max": np.maximum,
            "min": np.minimum,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "not": np.invert,
            "eq": np.equal,
            "ne": np.not_equal,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
        }.items()
    },
    **{name: _move(lambda _, x: x) for name in ("copy", "stop_gradient")},
    "reshape": _move(_reshape),
    "squeeze": _move(_regroup),
    "slice": _move(_slice),
    "transpose": _move(lambda eqn, x: x.transpose(eqn.params["permutation"])),
    "rev": _move(lambda eqn, x: np.flip(x, eqn.params["dimensions"])),
    "broadcast_in_dim": _move(_broadcast),
    "concatenate": _joined(np.concatenate, "dimension"),
    "stack": _joined(np.stack, "axis"),
    "convert_element_type": _convert,
    "select_n": _select,
    "scatter": _scatter,
}

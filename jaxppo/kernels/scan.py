"""A scan over functions of rows, as one kernel of a GPU that goes through all steps by itself.

XLA launches several kernels for each step. Where rows are few and steps small, as in collection, nearly all of the time
goes into launching them. Here each program of one kernel (Pallas, by way of Triton) takes some rows through all the
steps, with their state in its registers.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from jaxppo.kernels import padded
from jaxppo.kernels.launch import launch
from jaxppo.needed import needed

__all__ = ["scan"]

ROWS = padded.SHORTEST  # of a program


def scan(
    step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any, *, interpret: bool = False
) -> tuple[Any, Any] | None:
    """`jax.lax.scan(step, carry, xs)` as one kernel; None if a step holds anything that this cannot do.

    Args:
        step: `(carry, x) -> (carry, y)`, a function of rows, each of which makes its results by itself, whichever of
            them it is and however many there are: it is traced with 16. It may close over arrays that all rows share.
        carry: leaves [N, …].
        xs: leaves [T, N, …].
        interpret: let JAX do what the kernel would: for tests without a GPU.
    """
    olds, carry_tree = jax.tree.flatten(carry)
    arrays, xs_tree = jax.tree.flatten(xs)
    num_carry, (num_steps, num_rows) = len(olds), arrays[0].shape[:2]
    some = [padded.Shape((ROWS, *x.shape[1:]), x.dtype) for x in olds]
    some += [padded.Shape((ROWS, *x.shape[2:]), x.dtype) for x in arrays]

    def flat(*leaves: Any) -> Any:
        return step(jax.tree.unflatten(carry_tree, leaves[:num_carry]), jax.tree.unflatten(xs_tree, leaves[num_carry:]))

    try:
        closed, (_, y) = jax.make_jaxpr(flat, return_shape=True)(*some)
    except (AssertionError, TypeError, ValueError):  # the step takes N rows and no others
        return None
    if any(getattr(var.aval, "shape", ())[:1] != (ROWS,) for var in closed.jaxpr.outvars):
        return None
    # What a step leaves as it is need not go through the kernel.
    moving = [i for i in range(num_carry) if closed.jaxpr.outvars[i] is not closed.jaxpr.invars[i]]
    wanted = [i in moving or i >= num_carry for i in range(len(closed.jaxpr.outvars))]
    jaxpr, inputs, consts = parts = needed(closed, wanted)
    try:
        padded.rehearse(jaxpr, parts.given, inputs.values())
    except padded.UnsupportedError:
        return None
    states = {i: var for i, var in inputs.items() if i < num_carry}
    read = {var: arrays[i - num_carry] for i, var in inputs.items() if i >= num_carry}
    news, ys = jaxpr.outvars[: len(moving)], jaxpr.outvars[len(moving) :]

    def kernel(const_refs: Any, old_refs: Any, refs: Any, new_refs: Any, y_refs: Any) -> None:
        rows = pl.program_id(0) * ROWS + jnp.arange(ROWS)
        first = {
            i: padded.load(ref, var.aval.shape, rows=rows)
            for (i, var), ref in zip(states.items(), old_refs, strict=True)
        }
        shared = {var: padded.load(ref, var.aval.shape) for var, ref in zip(consts, const_refs, strict=True)}
        shared |= {states[i]: value for i, value in first.items() if i not in moving}

        def turn(t: Any, state: list[jax.Array]) -> list[jax.Array]:
            values = shared | {states[i]: value for i, value in zip(moving, state, strict=True) if i in states}
            values |= {var: padded.load(ref, var.aval.shape, t, rows=rows) for var, ref in zip(read, refs, strict=True)}
            results = padded.evaluate(jaxpr, values, inputs.values())
            for var, ref, value in zip(ys, y_refs, results[len(moving) :], strict=True):
                padded.store(ref, var.aval.shape, value, t, rows=rows)
            return results[: len(moving)]

        # What is written and never read may start from anything.
        nothing = {
            i: jnp.zeros(padded.pad(var.aval.shape), var.aval.dtype) for i, var in zip(moving, news, strict=True)
        }
        state = jax.lax.fori_loop(0, num_steps, turn, [first.get(i, nothing[i]) for i in moving])
        for var, ref, value in zip(news, new_refs, state, strict=True):
            padded.store(ref, var.aval.shape, value, rows=rows)

    shapes = (
        [padded.Shape((num_rows, *var.aval.shape[1:]), var.aval.dtype) for var in news],
        [padded.Shape((num_steps, num_rows, *var.aval.shape[1:]), var.aval.dtype) for var in ys],
    )
    run = launch(kernel, shapes, pl.cdiv(num_rows, ROWS), interpret)
    new, results = run(list(consts.values()), [olds[i] for i in states], list(read.values()))
    after = jax.tree.unflatten(carry_tree, [new[moving.index(i)] if i in moving else old for i, old in enumerate(olds)])
    return after, jax.tree.unflatten(jax.tree.structure(y), results)

"""The random numbers that a function draws from its keys, told apart from what it makes of them.

On a CPU the generator is a loop of small operations, which take as long for a few numbers as for those of many steps.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Var, jaxpr_as_fun

from jaxppo.flops import bodies

__all__ = ["in_two"]


def in_two(function: Callable[[jax.Array], Any], keys: jax.Array) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`(draw, finish)`, where `function(keys)` is `finish(draw(keys))`, of keys of that shape, and `draw` draws it all.

    What lies between are the numbers drawn, and whatever else had to be computed for them, as a list. `draw` may be
    vmapped: that keeps JAX's own kind of random numbers, threefry, as they are.
    """
    closed, results = jax.make_jaxpr(function, return_shape=True)(keys)
    jaxpr = closed.jaxpr
    wanted: set[Any] = set()
    first: list[JaxprEqn] = []
    later: list[JaxprEqn] = []
    for eqn in reversed(jaxpr.eqns):
        if _draws(eqn) or not wanted.isdisjoint(eqn.outvars):
            wanted.update(var for var in eqn.invars if isinstance(var, Var))
            first.insert(0, eqn)
        else:
            later.insert(0, eqn)
    read = {var for var in [*jaxpr.outvars, *(var for eqn in later for var in eqn.invars)] if isinstance(var, Var)}
    between = [var for var in [*jaxpr.invars, *(var for eqn in first for var in eqn.outvars)] if var in read]
    names = jaxpr.debug_info._replace(arg_names=None, result_paths=None)
    draw = jaxpr.replace(eqns=first, outvars=between, debug_info=names)
    finish = jaxpr.replace(eqns=later, invars=between, debug_info=names)

    def finished(drawn: list[jax.Array]) -> Any:
        leaves = jaxpr_as_fun(ClosedJaxpr(finish, closed.consts))(*drawn)
        return jax.tree.unflatten(jax.tree.structure(results), leaves)

    return jaxpr_as_fun(ClosedJaxpr(draw, closed.consts)), finished


def _draws(eqn: JaxprEqn) -> bool:
    """Whether an operation makes random numbers, or a function that it calls does."""
    name = eqn.primitive.name
    return name.startswith(("random_", "rng_", "threefry")) or any(
        _draws(each) for body in bodies(eqn) for each in body.eqns
    )

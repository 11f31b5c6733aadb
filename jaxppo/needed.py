"""What a traced function takes to compute some of its outputs."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal
from jax.interpreters.partial_eval import dce_jaxpr

__all__ = ["Needed", "needed"]


class Needed(NamedTuple):
    """Part of a function.

    Attributes:
        jaxpr: its operations.
        inputs: its arguments, by their places among the function's.
        consts: the arrays that it closes over.
    """

    jaxpr: Any
    inputs: dict[int, Any]
    consts: dict[Any, jax.Array]

    @property
    def given(self) -> list[Any]:
        """All variables that must have values before it starts."""
        return [*self.inputs.values(), *self.consts]


def needed(closed: ClosedJaxpr, outputs: list[bool] | None = None) -> Needed:
    """What those outputs take; all of them if it is not said which."""
    jaxpr, used = dce_jaxpr(closed.jaxpr, outputs or [True] * len(closed.jaxpr.outvars))
    mentioned = [*jaxpr.outvars, *[var for eqn in jaxpr.eqns for var in eqn.invars]]
    read = {var for var in mentioned if not isinstance(var, Literal)}
    return Needed(
        jaxpr,
        {int(i): var for i, var in zip(np.flatnonzero(used), jaxpr.invars, strict=True)},
        {var: const for var, const in zip(jaxpr.constvars, closed.consts, strict=True) if var in read},
    )

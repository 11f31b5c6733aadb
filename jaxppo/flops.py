"""Floating-point operations that a function must do, counted in its jaxpr: before XLA has changed anything.

What counts is products: dense layers, convolutions, recurrent cells, and sums of elementwise products that nothing else
needs, which are products in all but name. A multiplication and an addition are two operations. Activations, optimisers
and environments are elementwise work, which is not counted: its limit is how fast memory moves.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Var
from jax.interpreters.partial_eval import dce_jaxpr

__all__ = ["Product", "Work", "bodies", "count_work", "primitives"]


class Product(NamedTuple):
    """A matrix product by its shapes.

    Attributes:
        left: shape of the left operand.
        right: shape of the right operand.
        contracted: the axes of each that are summed over.
        batched: the axes of each that are kept side by side.
        dtype: of the result.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    contracted: tuple[tuple[int, ...], tuple[int, ...]]
    batched: tuple[tuple[int, ...], tuple[int, ...]]
    dtype: Any

    @property
    def flops(self) -> int:
        """Two per multiplication and addition."""
        free = [size for axis, size in enumerate(self.right) if axis not in self.contracted[1] + self.batched[1]]
        return 2 * math.prod(self.left) * math.prod(free)


class Work(NamedTuple):
    """What a function must do.

    Attributes:
        flops: floating-point operations in products; NaN where a loop of unknown length holds some.
        products: how often each matrix product is done; other products, such as convolutions, are in `flops` alone.
    """

    flops: float
    products: Counter[Product]


def count_work(function: Callable[..., Any], *args: Any) -> Work:
    """The work of `function(*args)` that its results depend on; the arguments may be shapes."""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))[0])


def primitives(jaxpr: Jaxpr) -> Iterator[str]:
    """The operations that it is written in by name, and those of the functions that they call."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for body in bodies(eqn):
            yield from primitives(body)


def bodies(eqn: JaxprEqn) -> Iterator[Jaxpr]:
    """The functions that an operation calls, such as the turn of a loop."""
    for value in eqn.params.values():
        yield from _jaxprs(value)


def _count(jaxpr: Jaxpr) -> Work:
    flops: float = 0
    products: Counter[Product] = Counter()
    made_by = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    uses = Counter(var for eqn in jaxpr.eqns for var in eqn.invars if isinstance(var, Var))
    uses.update(var for var in jaxpr.outvars if isinstance(var, Var))
    for eqn in jaxpr.eqns:
        name = eqn.primitive.name
        if name == "dot_general" and _is_float(eqn.outvars[0]):
            product = _product(eqn)
            products[product] += 1
            flops += product.flops
        elif name == "conv_general_dilated":
            flops += _convolution_flops(eqn)
        elif name == "reduce_sum" and _sums_products(eqn, made_by, uses):
            flops += 2 * _array(eqn.invars[0]).size
        for inner, times in _inside(eqn):
            flops += inner.flops * times if inner.flops else 0
            products.update({product: times * number for product, number in inner.products.items()})
    return Work(flops, products)


def _inside(eqn: JaxprEqn) -> Iterator[tuple[Work, Any]]:
    """The work of the functions that an equation calls, and how often; of the branches of a `cond`, the most."""
    counts = [_count(body) for body in bodies(eqn)]
    match eqn.primitive.name:
        case "scan":
            yield from ((body, eqn.params["length"]) for body in counts)
        case "while":
            yield from ((Work(body.flops, Counter()), math.nan) for body in counts)
        case "cond":
            yield max(counts, key=lambda body: body.flops), 1
        case _:
            yield from ((body, 1) for body in counts)


def _jaxprs(value: Any) -> Iterator[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        yield value.jaxpr
    elif isinstance(value, Jaxpr):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _jaxprs(each)


def _product(eqn: JaxprEqn) -> Product:
    contracted, batched = ((tuple(left), tuple(right)) for left, right in eqn.params["dimension_numbers"])
    left, right = (_array(var) for var in eqn.invars)
    return Product(left.shape, right.shape, contracted, batched, _array(eqn.outvars[0]).dtype)


def _convolution_flops(eqn: JaxprEqn) -> float:
    """Each output element is a sum over the kernel; padding counts."""
    kernel = _array(eqn.invars[1])
    features = kernel.shape[eqn.params["dimension_numbers"].rhs_spec[0]]
    return float(2 * _array(eqn.outvars[0]).size * kernel.size / features)


def _sums_products(eqn: JaxprEqn, made_by: dict[Var, JaxprEqn], uses: Counter[Var]) -> bool:
    """Whether a sum is over what an elementwise multiplication of two arrays has made for it alone."""
    operand = eqn.invars[0]
    if not isinstance(operand, Var) or uses[operand] > 1 or not _is_float(operand):
        return False
    source = made_by.get(operand)
    return source is not None and source.primitive.name == "mul" and all(_array(var).ndim > 0 for var in source.invars)


def _is_float(var: Any) -> bool:
    return bool(jnp.issubdtype(_array(var).dtype, jnp.floating))


def _array(var: Any) -> Any:
    """Shape and dtype of a variable that holds an array."""
    return var.aval

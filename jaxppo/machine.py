"""What this machine can do at best, measured: products of matrices and copies, on all its cores.

Each operation runs many times in one compiled loop whose rounds depend on each other, as in training.
"""

import math
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.flops import Product

__all__ = ["Limits", "loop_of", "measure_limits", "product_seconds", "time_compiled"]

RUN_SECONDS = 0.03  # how long one timed run of a loop takes
BEST_OF = 4
SIDE = 1024  # of the square matrices, doubled while their product takes less than RUN_SECONDS / 10
LARGEST_SIDE = 8192
COPY_BYTES = tuple(2**power for power in (16, 19, 22, 25, 28))


class Limits(NamedTuple):
    """What the machine reaches.

    Attributes:
        side: side of the square float32 matrices.
        flops_per_second: in their product.
        bytes_per_second: read and written when so many bytes are, by number of bytes: caches are faster than memory.
    """

    side: int
    flops_per_second: float
    bytes_per_second: dict[int, float]

    def copy_rate(self, num_bytes: float) -> float:
        """Bytes per second when `num_bytes` are read and written."""
        sizes = sorted(self.bytes_per_second)
        return self.bytes_per_second[next((size for size in sizes if size >= num_bytes), sizes[-1])]


@cache
def measure_limits() -> Limits:
    """Measure large products, and copies that fit in caches or do not. Takes a few seconds; done once per process."""
    side = SIDE
    while True:
        square = Product((side, side), (side, side), ((1,), (0,)), ((), ()), np.dtype("float32"))
        seconds = product_seconds(square)
        if seconds > RUN_SECONDS / 10 or side == LARGEST_SIDE:
            break
        side *= 2
    return Limits(side, square.flops / seconds, {size: size / _copy_seconds(size) for size in COPY_BYTES})


@cache
def product_seconds(product: Product) -> float:
    """The least time that this product of matrices of random numbers has taken, in seconds."""
    random = np.random.default_rng(0)
    left, right = (
        jnp.asarray(random.uniform(-0.5, 0.5, shape), product.dtype) for shape in (product.left, product.right)
    )
    multiply = partial(jax.lax.dot_general, dimension_numbers=(product.contracted, product.batched))
    shape = jax.eval_shape(multiply, left, right)

    def body(right: jax.Array, at: Any) -> Any:
        left, result = at
        left = left.at[(0,) * left.ndim].set(result[(0,) * result.ndim])  # one number ties a round to the last
        return left, multiply(left, right)

    return _least_seconds(body, right, (left, jnp.zeros(shape.shape, shape.dtype)))


def loop_of(body: Callable[[Any, Any], Any]) -> Callable[[jax.Array, Any, Any], Any]:
    """`(times, data, carry) -> carry` after so many rounds; the number is traced."""
    return lambda times, data, carry: jax.lax.fori_loop(0, times, lambda _, at: body(data, at), carry)


def time_compiled(compiled: Any, data: Any, carry: Any, repeats: int, run_seconds: float) -> tuple[list[float], Any]:
    """Time a compiled `loop_of(body)`.

    Args:
        compiled: the loop.
        data: what all rounds read.
        carry: what the first round gets.
        repeats: how many runs.
        run_seconds: how long a run is to take, which decides how many rounds it has.

    Returns:
        Seconds per round of each run, and the carry after a single round.
    """
    once = _wait(compiled(jnp.int32(1), data, carry))
    times = 1
    while (seconds := _run(compiled, times, data, carry)) < run_seconds / 4:
        times = times * math.ceil(min(run_seconds / max(seconds, 1e-9), 100))
    times = max(1, round(times * run_seconds / seconds))
    return [_run(compiled, times, data, carry) / times for _ in range(repeats)], once


def _run(compiled: Any, times: int, data: Any, carry: Any) -> float:
    rounds = jnp.int32(times)
    began = time.perf_counter()
    _wait(compiled(rounds, data, carry))
    return time.perf_counter() - began


def _wait(result: Any) -> Any:
    return jax.block_until_ready(result)  # type: ignore[no-untyped-call]


def _least_seconds(body: Callable[[Any, Any], Any], data: Any, carry: Any) -> float:
    compiled = jax.jit(loop_of(body)).lower(jnp.int32(1), data, carry).compile()
    return min(time_compiled(compiled, data, carry, BEST_OF, RUN_SECONDS)[0])


def _copy_seconds(num_bytes: int) -> float:
    """Half the bytes are read and half are written, each element being increased by one where it is."""
    numbers = jnp.zeros(num_bytes // 8, jnp.float32)
    return _least_seconds(lambda _, at: at + 1, None, numbers)

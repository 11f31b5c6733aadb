"""What the machine is measured to do: loops that do their work as often as they are told to."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.flops import Product
from jaxppo.machine import Limits, loop_of, product_seconds, time_compiled


def test_a_loop_is_timed_and_gives_one_round():
    """The carry is that after a single round, however many were timed."""
    compiled = (
        jax.jit(loop_of(lambda data, at: at + data)).lower(jnp.int32(1), jnp.float32(3), jnp.float32(1)).compile()
    )
    times, after = time_compiled(compiled, jnp.float32(3), jnp.float32(1), repeats=2, run_seconds=0.001)
    assert len(times) == 2
    assert min(times) > 0
    assert after == 4
    assert compiled(jnp.int32(5), jnp.float32(3), jnp.float32(1)) == 16


def test_larger_products_take_longer():
    """A thousand times the operations, on any machine; batched, and contracted on the last axis of both."""
    small, large = (
        Product((2, side, side), (2, side, side), ((2,), (2,)), ((0,), (0,)), np.dtype("float32")) for side in (32, 320)
    )
    assert small.flops == 2 * 2 * 32**3
    assert large.flops == 1000 * small.flops
    assert product_seconds(large) > 10 * product_seconds(small)


def test_copy_rate_goes_by_size():
    """That of the smallest size measured that is as large, or of the largest there is."""
    limits = Limits(1024, 1.0, {100: 5.0, 1000: 2.0})
    assert [limits.copy_rate(size) for size in (1, 100, 101, 5000)] == [5.0, 5.0, 2.0, 2.0]

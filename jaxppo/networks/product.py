"""The matrix product of a dense layer, with the gradient of its weights arranged for a CPU."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxppo import backend

__all__ = ["precision", "product"]

BLOCK = 128  # rows of a block in the gradient of the weights
NARROW = 16  # with fewer outputs the plain product is as fast


def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`x @ kernel`, [M, F] and [F, H] to [M, H].

    The gradient of the kernel, xᵀ·dy, sums over all M rows into a small matrix. On a CPU, XLA takes up to twice as long
    for that as for other products of the size. In blocks of rows, each with its own xᵀ written out, it does not
    (docs/performance.md). Where the rows are whole blocks the product can be differentiated in reverse mode, and in
    forward mode over that, but not in forward mode alone.
    """
    if backend.launches_count():
        return jnp.matmul(x, kernel, precision=precision(kernel.shape[-2]))
    blocked = len(x) % BLOCK == 0 and kernel.shape[1] >= NARROW
    return _blocked(x, kernel) if blocked else x @ kernel


def precision(num_inputs: int) -> str | None:
    """That of a product where operations are launches: few inputs, such as raw observations, are multiplied in full."""
    return "highest" if num_inputs < NARROW else None


@jax.custom_vjp
def _blocked(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return x @ kernel


def _forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return x @ kernel, (x, kernel)


def _backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    x_blocks, dy_blocks = (array.reshape(-1, BLOCK, array.shape[1]) for array in (x, dy))
    # The barrier keeps XLA from folding the transposition into the product.
    barrier: Any = jax.lax.optimization_barrier
    return dy @ kernel.T, jnp.sum(barrier(x_blocks.swapaxes(1, 2)) @ dy_blocks, axis=0)


_blocked.defvjp(_forward, _backward)

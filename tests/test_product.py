"""The product of dense layers: its value and derivatives are those of a matrix product, however it is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxppo.networks.product import product

WEIGHTS = jax.random.normal(jax.random.key(5), (64, 32))


def operands(rows, inputs=64, outputs=32):
    """Rows, a kernel, and a gradient of the result."""
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((rows, inputs), (inputs, outputs), (rows, outputs))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def gradients(x, kernel, dy):
    """The pullback of `dy`."""
    return jax.vjp(product, x, kernel)[1](dy)


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(128, 64, 32), (512, 64, 32), (100, 64, 32), (256, 3, 32), (256, 64, 1)]
)
def test_gradients_in_numpy(rows, inputs, outputs):
    """In whole blocks, in a number of rows that leaves a rest, and with few inputs or outputs."""
    x, kernel, dy = operands(rows, inputs, outputs)
    np.testing.assert_allclose(product(x, kernel), np.asarray(x) @ np.asarray(kernel), rtol=1e-4, atol=1e-4)
    dx, dkernel = jax.jit(gradients)(x, kernel, dy)
    np.testing.assert_allclose(dx, np.asarray(dy) @ np.asarray(kernel).T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dkernel, np.asarray(x).T @ np.asarray(dy), rtol=1e-4, atol=1e-3)


def test_agents_side_by_side():
    """Under vmap, with a kernel for each agent, the gradients are those of each agent alone."""
    x, kernel, dy = (jnp.stack([array, array[::-1]]) for array in operands(256))
    together = jax.jit(jax.vmap(gradients))(x, kernel, dy)
    alone = [gradients(*agent) for agent in zip(x, kernel, dy, strict=True)]
    for both, one in zip(together, zip(*alone, strict=True), strict=True):
        np.testing.assert_allclose(both, jnp.stack(one), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rows", [128, 100])
def test_products_with_the_hessian(rows):
    """Forward mode over reverse mode, as TRPO's Fisher-vector products take it, against the formula.

    Of f = Σ (xW)⁴ / 12, the second derivative in the direction V is xᵀ·((xW)² ⊙ xV).
    """
    x, kernel, _ = operands(rows)
    _, found = jax.jvp(jax.grad(lambda w: jnp.sum(product(x, w) ** 4) / 12), (kernel,), (WEIGHTS,))
    x, kernel, direction = (np.asarray(array, np.float64) for array in (x, kernel, WEIGHTS))
    expected = x.T @ ((x @ kernel) ** 2 * (x @ direction))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-2 * np.abs(expected).max())

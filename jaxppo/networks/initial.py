"""Orthogonal weights for all layers of a network from one draw of random numbers.

With an initialiser per layer, as flax has them, each would bring a random number generator of its own into the program:
a quarter of all there is to compile for a small network.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["times_orthogonal"]


def times_orthogonal(key: jax.Array, params: Any, chosen: Callable[[Any], bool]) -> Any:
    """Multiply matrices [A, B] element by element with random ones whose columns, or rows if fewer, are orthonormal.

    Where all elements of a matrix are a gain, this makes it orthogonal with that gain (Saxe et al. 2014, section 3).
    The random ones are uniformly distributed: Q of a normal matrix's QR decomposition, R's diagonal being positive
    (Mezzadri 2007, section 4).

    Args:
        key: PRNG key, consumed.
        params: a network's parameters.
        chosen: tells from a leaf's path whether it is one of the matrices.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    sizes = [leaf.size if chosen(path) else 0 for path, leaf in leaves]
    noise = jnp.split(jax.random.normal(key, (sum(sizes),)), [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)])
    weights = [
        leaf * _orthogonal(noise.reshape(leaf.shape)) if size else leaf
        for (_, leaf), size, noise in zip(leaves, sizes, noise, strict=True)
    ]
    return jax.tree.unflatten(structure, weights)


def _orthogonal(noise: jax.Array) -> jax.Array:
    tall = noise if noise.shape[0] >= noise.shape[1] else noise.T
    q, r = jnp.linalg.qr(tall)
    q = q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)[None]
    return q if q.shape == noise.shape else q.T

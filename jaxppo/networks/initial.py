"""Random weights for all layers of a network from one draw of random numbers.

With an initialiser per layer, as flax has them, each would bring a random number generator into the program, and
orthogonal ones a decomposition: a quarter of all there is to compile for a small network.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["times_lecun", "times_orthogonal"]

TRUNCATED_STD = 0.87962566103423978  # of a standard normal variable that is kept within (-2, 2)


def times_lecun(key: jax.Array, params: Any, chosen: Callable[[Any], bool]) -> Any:
    """Multiply matrices [A, B] element by element with normal numbers of variance 1/A (LeCun et al. 1998, section 4.6).

    They are truncated at two standard deviations of what they would be otherwise, as flax and rejax have them.
    Arguments are as of `times_orthogonal`.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    weights = [leaf for _, leaf in leaves]
    drawn = [i for i, (path, _) in enumerate(leaves) if chosen(path)]
    sizes = [weights[i].size for i in drawn]
    noises = jnp.split(jax.random.truncated_normal(key, -2, 2, (sum(sizes),), jnp.float32), np.cumsum(sizes)[:-1])
    for i, noise in zip(drawn, noises, strict=True):
        weights[i] *= noise.reshape(weights[i].shape) / (TRUNCATED_STD * math.sqrt(len(weights[i])))
    return jax.tree.unflatten(structure, weights)


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
    weights = [leaf for _, leaf in leaves]
    groups: dict[int, list[int]] = {}  # by their longer side: the others' columns are the first of the widest
    for i, (path, leaf) in enumerate(leaves):
        if chosen(path):
            groups.setdefault(max(leaf.shape), []).append(i)
    shapes = [(len(group), side, max(min(weights[i].shape) for i in group)) for side, group in groups.items()]
    sizes = [math.prod(shape) for shape in shapes]
    noises = jnp.split(jax.random.normal(key, (sum(sizes),), jnp.float32), np.cumsum(sizes)[:-1])
    for group, shape, noise in zip(groups.values(), shapes, noises, strict=True):
        for i, q in zip(group, _orthonormal(noise.reshape(shape)), strict=True):
            rows, columns = weights[i].shape
            weights[i] *= q[:, :columns] if rows >= columns else q[:, :rows].T
    return jax.tree.unflatten(structure, weights)


def _orthonormal(noise: jax.Array) -> jax.Array:
    """Matrices [G, A, B] with orthonormal columns, A >= B, of normal ones."""
    q, r = jnp.linalg.qr(noise)
    return q * jnp.where(jnp.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)[:, None]

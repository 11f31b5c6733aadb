"""Arrays with several short axes, as images have, as rows: XLA copies and gathers on a CPU along the last axis."""

import math

import jax

__all__ = ["in_rows"]


def in_rows(x: jax.Array, num_axes: int) -> jax.Array:
    """With the axes after the first `num_axes` as one, [*axes, F]; as it is where there are no two of them."""
    own = x.shape[num_axes:]
    return x.reshape(*x.shape[:num_axes], math.prod(own)) if len(own) > 1 else x

"""Calling other libraries' code under the promotion rules that it was written for."""

import contextlib
from collections.abc import Iterator

import jax

__all__ = ["default_promotion"]


@contextlib.contextmanager
def default_promotion() -> Iterator[None]:
    """JAX's default dtype and rank promotion, whatever the user's settings for their own code are."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield

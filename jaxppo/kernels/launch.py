"""How the package's kernels are launched."""

from collections.abc import Callable
from typing import Any

from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

__all__ = ["launch"]

WARPS = 8  # of a program; by measurement (docs/performance.md)


def launch(kernel: Callable[..., None], shapes: Any, programs: int, interpret: bool) -> Any:
    """The kernel as a function of arrays, all of which each program sees whole, to arrays of such shapes."""
    return pl.pallas_call(
        kernel,
        out_shape=shapes,
        grid=(programs,),
        compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
        interpret=interpret,
    )

"""Kernels of a GPU for what XLA does in many, one after the other (Pallas, by way of Triton).

They do what they are given if they can, and return None if not, for XLA to do it. `JAXPPO_KERNELS=0` in the environment
leaves everything to XLA, for what they do not have: derivatives of a whole training run.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

from jaxppo import backend, together

__all__ = ["available", "left_to_xla"]

CAPABILITIES = ("8.0", "9.0", "10.0", "10.3")  # of NVIDIA GPUs with shared memory enough, 160 KiB of a multiprocessor

_left_to_xla = False


def available() -> bool:
    """Whether the program that is traced now will run where the kernels do: on one large NVIDIA GPU, with Triton."""
    if _left_to_xla or os.environ.get("JAXPPO_KERNELS") == "0" or together.num_devices() > 1:
        return False
    # JAX calls its way to Triton deprecated, and may be without one day.
    has_triton = importlib.util.find_spec("jax.experimental.pallas.triton") is not None
    return has_triton and backend.compute_capability() in CAPABILITIES


@contextmanager
def left_to_xla() -> Iterator[None]:
    """No kernels in what JAX traces meanwhile. A function that it has traced before, it does not trace again."""
    global _left_to_xla
    before, _left_to_xla = _left_to_xla, True
    try:
        yield
    finally:
        _left_to_xla = before

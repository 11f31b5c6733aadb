"""What the training code asks of the device that it is compiled for."""

import jax

__all__ = ["launches_count"]


def launches_count() -> bool:
    """Whether the number of operations is what small ones cost, each being the launch of a kernel: not on a CPU.

    Operations are then put together even where that takes more arithmetic (docs/performance.md has the measurements).
    """
    return jax.default_backend() != "cpu"

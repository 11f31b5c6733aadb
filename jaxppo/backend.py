"""What the training code asks of the device that it is compiled for."""

import jax

__all__ = ["launches_count", "most_at_once"]


def launches_count() -> bool:
    """Whether the number of operations is what small ones cost, each being the launch of a kernel: not on a CPU.

    Operations are then put together even where that takes more arithmetic (docs/performance.md has the measurements).
    """
    return jax.default_backend() != "cpu"


def most_at_once(turns: int, most: int) -> int:
    """How many of a loop's turns to write out one after the other: `most` or fewer, which divide all; 1 at least."""
    return max(count for count in range(1, max(1, most) + 1) if turns % count == 0)

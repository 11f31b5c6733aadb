"""What the training code asks of the device that it is compiled for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

__all__ = ["compute_capability", "device", "launches_count", "most_at_once", "tracing_for"]

_other: Any = None


def device() -> Any:
    """The device that a program traced now will run on."""
    settings: Any = jax.config
    chosen = _other or settings.jax_default_device
    return jax.devices(chosen)[0] if chosen is None or isinstance(chosen, str) else chosen


@contextmanager
def tracing_for(other: Any) -> Iterator[None]:
    """What JAX traces meanwhile is for another device, which need not be there (`jax.experimental.topologies`).

    That is so in all threads. What it has traced before stays what it was traced for.
    """
    global _other
    before, _other = _other, other
    try:
        yield
    finally:
        _other = before


def launches_count() -> bool:
    """Whether the number of operations is what small ones cost, each being the launch of a kernel: not on a CPU.

    Operations are then put together even where that takes more arithmetic (docs/performance.md has the measurements).
    """
    return bool(device().platform != "cpu")


def compute_capability() -> str | None:
    """That of an NVIDIA GPU, such as "9.0"; None for any other device."""
    capability = str(getattr(device(), "compute_capability", None))
    return capability if re.fullmatch(r"\d+\.\d+", capability) else None


def most_at_once(turns: int, most: int) -> int:
    """How many of a loop's turns to write out one after the other: `most` or fewer, which divide all; 1 at least."""
    return max(count for count in range(1, max(1, most) + 1) if turns % count == 0)

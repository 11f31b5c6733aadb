"""Memory to train in."""

import jax
import psutil

from jaxppo.config import Config
from jaxppo.fields import check

__all__ = ["MEMORY_SHARE", "check_memory", "free_bytes"]

MEMORY_SHARE = 0.8  # of what is free, for as many agents as fit


def check_memory(config: Config, peak_bytes: int, num_devices: int) -> None:
    """Raise `jaxppo.ConfigError` if training an agent takes more memory of its devices than there is."""
    free = free_bytes(num_devices)
    fits = f"so few, num_steps={config.num_steps} or the network so small, that training fits in {_gib(free)}"
    check(peak_bytes <= free, "num_envs", config.num_envs, f"{fits}; it takes {_gib(peak_bytes)}")


def free_bytes(num_devices: int | None = None) -> int:
    """What is free of a device's memory; on a CPU, of the machine's the share of one of so many, by default of all."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available / (num_devices or jax.local_device_count()))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.3g} GiB"

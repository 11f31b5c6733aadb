"""How many cores of the CPU this process may use."""

import math
import os
from pathlib import Path

__all__ = ["num_cores"]

GROUPS = Path("/sys/fs/cgroup")


def num_cores() -> int:
    """Cores that this process may run on, or as many as a quota of its container allows for, if those are fewer.

    Of Linux's control groups those are seen that a container has at `GROUPS`, of either version.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def _quota() -> float:
    """Seconds of CPU time in a second at most; infinite without a limit."""
    for quota, period in (_of_version_2(), _of_version_1()):
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return int(quota) / int(period)
    return math.inf


def _of_version_2() -> tuple[str, str]:
    quota, _, period = _read("cpu.max").partition(" ")  # "max" for none
    return quota, period


def _of_version_1() -> tuple[str, str]:
    return _read("cpu/cpu.cfs_quota_us"), _read("cpu/cpu.cfs_period_us")  # -1 for none


def _read(name: str) -> str:
    try:
        return (GROUPS / name).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""

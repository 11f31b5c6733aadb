"""The cores of the CPU: how many this process may use, and what they are."""

import math
import os
import platform
from pathlib import Path

__all__ = ["cpu_name", "num_cores"]

GROUPS, CPUINFO = Path("/sys/fs/cgroup"), Path("/proc/cpuinfo")


def cpu_name() -> str:
    """What the CPU is called, with family and model, which names may leave out; its architecture if nothing tells."""
    try:
        lines = CPUINFO.read_text().partition("\n\n")[0].splitlines()  # of the first core
    except (OSError, UnicodeDecodeError):
        lines = []
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or platform.machine()
    if "cpu family" not in said or "model" not in said:
        return name
    return f"{name} (family {said['cpu family']}, model {said['model']})"


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

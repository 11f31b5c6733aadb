"""Tests of `jaxppo.cores`: what a process may run on, and quotas as Linux shows them in a container."""

import os
import platform

import pytest

from jaxppo import cores

QUOTAS = {
    "none": ({}, 8),
    "version 2, no limit": ({"cpu.max": "max 100000\n"}, 8),
    "version 2": ({"cpu.max": "300000 100000\n"}, 3),
    "a part of a core counts as one": ({"cpu.max": "150000 100000\n"}, 2),
    "less than a core": ({"cpu.max": "10000 100000\n"}, 1),
    "more than there are": ({"cpu.max": "6400000 100000\n"}, 8),
    "unreadable": ({"cpu.max": "\n"}, 8),
    "no number": ({"cpu.max": "² 100000\n"}, 8),
    "version 1, no limit": ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    "version 1": ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "50000\n"}, 4),
}


CPUINFO = """\
processor\t: 0
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC

processor\t: 1
model name\t: another
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CPUINFO, "AMD EPYC (family 25, model 17)"),
        ("model name: Neoverse: N1\n", "Neoverse: N1"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", platform.machine()),
        (None, platform.machine()),
    ],
)
def test_the_name_of_the_cpu(text, expected, tmp_path, monkeypatch):
    """As Linux tells it of the first core; elsewhere the architecture."""
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cores, "CPUINFO", tmp_path / "cpuinfo")
    assert cores.cpu_name() == expected


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_quotas_of_a_container(files, expected, tmp_path, monkeypatch):
    """No more than the quota, rounded up, and one at least."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert cores.num_cores() == expected


def test_no_more_than_the_process_may_run_on(tmp_path, monkeypatch):
    """With an affinity of one of several cores, or where there are no affinities, as on macOS."""
    monkeypatch.setattr(cores, "GROUPS", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3}, raising=False)
    assert cores.num_cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.num_cores() == 5

"""Files that are whole or not there, and directories that one process works in."""

import errno
import os
import subprocess
import sys

import pytest

from jaxppo.fields import ConfigError
from jaxppo.files import filling, held, set_aside, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """What was there stays where the disk is full, and nothing is left beside it."""
    path = tmp_path / "file"
    write_whole(path, b"before")

    def full(handle):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            write_whole(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b"after")
    assert path.read_bytes() == b"after"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_are_for_whom_the_user_says(mask, mode, tmp_path):
    """By the process's own mask."""
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_without_locks_work_goes_on_all_the_same(tmp_path, monkeypatch):
    """On a file system that has none; nor is anything raised at the end."""
    import fcntl

    def none(handle, operation):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "flock", none)
    with held(tmp_path):
        done = True
    assert done
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError


@pytest.mark.parametrize("error", [ConfigError("x", 1, "2"), KeyboardInterrupt()])
@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("begun", [False, True])
def test_what_ends_before_it_has_begun_leaves_things_as_they_were(error, made, begun, tmp_path):
    """Also between the moment when the old directory is set aside and that when the new one is there."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").touch()

    def make():
        set_aside(path)
        if not made:
            raise error
        path.mkdir()

    def work():
        with filling(path, make, lambda path: (path / "metrics").exists()):
            if begun:
                (path / "metrics").touch()
            raise error

    with pytest.raises(type(error)):
        work()
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["metrics" if made and begun else "old"]


KILLED = """
import os, sys
from pathlib import Path
from jaxppo.files import filling, set_aside

path = Path(sys.argv[1])

def make():
    set_aside(path)
    path.mkdir()

with filling(path, make, lambda _: False):
    for name in sys.argv[2:]:
        (path / name).touch()
    os._exit(1)
"""


@pytest.mark.parametrize("begun", [True, False])
def test_what_a_killed_process_put_aside(begun, tmp_path):
    """It goes once work in its place has begun, as it would have; else it can still be had."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").touch()
    subprocess.run([sys.executable, "-c", KILLED, str(path), *["metrics"] * begun], check=False)
    assert not (path / "old").exists()
    assert len(list(tmp_path.iterdir())) == 2

    def refused():
        set_aside(path)
        raise ConfigError("out", path, "another")

    with pytest.raises(ConfigError), filling(path, refused, lambda path: (path / "metrics").exists()):
        pass
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["metrics" if begun else "old"]

"""Directories that one process works in, and that are as before where nothing came of the work."""

import errno
import shutil
import subprocess
import sys

import pytest

from jaxppo.directories import HeldError, filling, held, set_aside
from jaxppo.fields import ConfigError


def with_old(tmp_path):
    """A directory with a file in it."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "old").touch()
    return path


def has_begun(path):
    """Whether the work that tests pretend to do has."""
    return (path / "metrics").exists()


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
    path = with_old(tmp_path)

    def make():
        set_aside(path)
        if not made:
            raise error
        path.mkdir()

    def work():
        with filling(path, make, has_begun):
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
from jaxppo.directories import filling, set_aside

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
    path = with_old(tmp_path)
    subprocess.run([sys.executable, "-c", KILLED, str(path), *["metrics"] * begun], check=False)
    assert not (path / "old").exists()
    assert {each.name for each in tmp_path.iterdir()} == {"run", ".run.lock", ".run.replaced"}

    def refused():
        set_aside(path)
        raise ConfigError("out", path, "another")

    with pytest.raises(ConfigError), filling(path, refused, has_begun):
        pass
    assert list(tmp_path.iterdir()) == [path]
    assert [file.name for file in path.iterdir()] == ["metrics" if begun else "old"]


def test_one_process_at_a_time_from_the_very_beginning(tmp_path):
    """Before there is a directory, and while the old one is set aside; who is refused touches nothing."""
    path = tmp_path / "a" / "run"
    for old in (False, True):
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from jaxppo.directories import filling, set_aside\n"
            "path = Path(sys.argv[1])\n"
            "def make():\n"
            "    if path.exists():\n"
            "        set_aside(path)\n"
            "    print('making', flush=True)\n"
            "    sys.stdin.readline()\n"
            "    path.mkdir()\n"
            "with filling(path, make, lambda path: (path / 'metrics').exists()):\n"
            "    (path / 'metrics').write_text('first')\n"
        )
        first = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert first.stdout.readline() == "making\n"
            before = sorted(tmp_path.rglob("*"))
            with pytest.raises(HeldError, match="no other process"), filling(path, path.mkdir, has_begun):
                pass
            assert sorted(tmp_path.rglob("*")) == before
            assert (tmp_path / "a" / ".run.replaced").exists() == old
            first.communicate("\n", timeout=60)
        finally:
            first.kill()
        assert [each.name for each in (tmp_path / "a").iterdir()] == ["run"]
        assert (path / "metrics").read_text() == "first"


def test_the_old_directory_is_there_where_the_new_one_cannot_be_deleted(tmp_path, monkeypatch):
    """The next process has it back, and nothing else is left."""
    path = with_old(tmp_path)

    def make():
        set_aside(path)
        path.mkdir()
        (path / "new").touch()

    def stuck(*args, **kwargs):
        if not kwargs.get("ignore_errors"):
            raise OSError(errno.ENOTEMPTY, "not empty")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stuck)
        with pytest.raises(KeyboardInterrupt), filling(path, make, has_begun):
            raise KeyboardInterrupt
    assert [each.name for each in path.iterdir()] == ["old"]
    with filling(path, lambda: None, has_begun):
        pass
    assert [each.name for each in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_work_that_ends_before_it_has_begun_gives_the_old_directory_back(tmp_path):
    """Without an error, as where a sweep is interrupted while it compiles."""
    path = with_old(tmp_path)

    def make():
        set_aside(path)
        path.mkdir()

    with filling(path, make, has_begun):
        pass
    assert [each.name for each in path.iterdir()] == ["old"]
    with filling(path, make, has_begun):
        (path / "metrics").touch()
    assert [each.name for each in path.iterdir()] == ["metrics"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("left", ["nothing", "an empty directory", "half a file"])
def test_a_process_killed_while_it_made_the_directory(left, tmp_path):
    """What was there before is had again, with what a file was to be written of gone."""
    path, aside = tmp_path / "run", tmp_path / ".run.replaced"
    aside.mkdir()
    (aside / "old").touch()
    if left != "nothing":
        path.mkdir()
    if left == "half a file":
        (path / ".manifest.json.0123456789abcdef.tmp").write_text("{")
    seen = []
    with filling(path, lambda: seen.extend(each.name for each in path.iterdir()), has_begun):
        pass
    assert seen == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_refusal_leaves_the_manifest_and_the_directories_around(tmp_path):
    """Of what was to go on; and none of those that were made for what did not even begin."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "metrics").touch()
    (path / "manifest.json").write_text("before")

    def launched():
        (path / "manifest.json").write_text("after")

    with pytest.raises(ConfigError), filling(path, launched, has_begun):
        raise ConfigError("memory_gib", 1, "more")
    assert (path / "manifest.json").read_text() == "before"
    deep = tmp_path / "a" / "b" / "c"
    with pytest.raises(ConfigError), filling(deep, deep.mkdir, has_begun):
        raise ConfigError("memory_gib", 1, "more")
    assert list(tmp_path.iterdir()) == [path]


def test_the_directory_that_the_process_runs_in_is_not_replaced(tmp_path, monkeypatch):
    """Nor one above it: the process would go on in the old one."""
    path = tmp_path / "run"
    (path / "below").mkdir(parents=True)
    monkeypatch.chdir(path / "below")
    for each in (path, path / "below"):
        with pytest.raises(ConfigError, match="another directory than one that this command runs in"):
            set_aside(each)
    assert [each.name for each in path.iterdir()] == ["below"]

"""Files that are written whole or not at all; directories that one process works in, and that stay as they were."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxppo.fields import ConfigError

__all__ = ["HeldError", "filling", "held", "set_aside", "write_whole"]


class HeldError(ConfigError):
    """Another process is working in a directory."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A directory for this process alone, as far as others hold it too; given up at the latest when the process ends.

    On systems and file systems without such locks it is for all.

    Raises:
        HeldError: another process, or thread, holds it.
    """
    if os.name != "posix":
        yield
        return
    import fcntl

    handle, locked = os.open(path, os.O_RDONLY), True
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeldError("out", path, "a directory that no other process is working in") from error
        except OSError:  # no such locks here
            locked = False
        try:
            yield
        finally:
            if locked:
                fcntl.flock(handle, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
    finally:
        os.close(handle)


def set_aside(path: Path) -> None:
    """Make room for another directory; until the `filling` around it is over the old one can be had again."""
    aside = _aside(path)
    if aside.exists():  # and what is here now is as far as a killed process came
        shutil.rmtree(path)
    else:
        path.resolve().rename(aside)


@contextmanager
def filling(path: Path, make: Callable[[], None], begun: Callable[[Path], bool]) -> Iterator[None]:
    """Around work that fills the directory which `make` makes or goes on with; nobody else works there meanwhile.

    Whatever ends the work before it has `begun` leaves things as they were. A directory that was set aside is gone
    otherwise.

    Raises:
        HeldError: somebody does.
    """
    if path.is_dir():
        with held(path):  # before anything in it is replaced
            pass
    _recover(path, begun)
    existed, full = path.exists(), path.is_dir() and any(path.iterdir())
    try:
        make()
        with held(path):
            yield
    except BaseException as error:  # an interrupt too
        if not isinstance(error, HeldError) and not (path.is_dir() and begun(path)):
            _undo(path, existed=existed, full=full)
        raise
    finally:
        shutil.rmtree(_aside(path), ignore_errors=True)


def _recover(path: Path, begun: Callable[[Path], bool]) -> None:
    """Tidy up what a process that was killed had set aside: if its work had begun, what was there before may go."""
    aside = _aside(path)
    if not aside.exists():
        return
    if path.is_dir() and begun(path):
        shutil.rmtree(aside)
    elif not path.exists():
        aside.rename(path.resolve())


def _undo(path: Path, *, existed: bool, full: bool) -> None:
    """Leave a directory as it was before; whether there was one, and anything in it, if none was set aside."""
    aside = _aside(path)
    if aside.exists():
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path.resolve())
    elif path.is_dir() and not full:
        for each in path.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        if not existed:
            path.rmdir()


def _aside(path: Path) -> Path:
    path = path.resolve()
    return path.with_name(f".{path.name}.replaced")


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and move it there; what was there before stays until that is done."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before its name is on the disk, should the power fail
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

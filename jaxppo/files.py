"""Files that are written whole or not at all; directories that one process works in, and that stay as they were."""

import os
import shutil
import tempfile
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

    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HeldError("out", path, "a directory that no other process is working in") from error
        except OSError:
            pass
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
    finally:
        os.close(handle)


def set_aside(path: Path) -> None:
    """Make room for another directory; until the `filling` around it is over the old one can be had again."""
    aside = _aside(path)
    shutil.rmtree(aside, ignore_errors=True)
    path.resolve().rename(aside)


@contextmanager
def filling(path: Path, make: Callable[[], None], begun: Callable[[Path], bool]) -> Iterator[None]:
    """Around work that fills the directory which `make` makes or goes on with; nobody else works there meanwhile.

    Raises:
        HeldError: somebody does.
        ConfigError: what else refuses the work. Things are then as they were, unless the work had `begun`; a directory
            that was set aside is gone if nothing is refused.
    """
    if path.is_dir():
        with held(path):  # before anything in it is replaced
            pass
    existed, full = path.exists(), path.is_dir() and any(path.iterdir())
    aside = _aside(path)
    try:
        make()
        with held(path):
            yield
    except ConfigError as error:
        refused = not isinstance(error, HeldError) and path.is_dir() and not begun(path)
        if refused and aside.exists():
            shutil.rmtree(path)
            aside.rename(path.resolve())
        elif refused and not full:
            for each in path.iterdir():
                shutil.rmtree(each) if each.is_dir() else each.unlink()
            if not existed:
                path.rmdir()
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _aside(path: Path) -> Path:
    path = path.resolve()
    return path.with_name(f".{path.name}.replaced")


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and move it there; what was there before stays until that is done."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

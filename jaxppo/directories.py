"""Directories that one process at a time works in, and that are as before where nothing came of the work.

What is to be replaced is set aside under another name, and is gone once the work in its place has begun. Whatever
happens, a process that is killed included, one of the two is there, and the next process that works there tidies up.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxppo.fields import ConfigError, check
from jaxppo.files import write_whole

__all__ = ["MANIFEST", "HeldError", "filling", "held", "set_aside"]

MANIFEST = "manifest.json"
TEMPORARY = ".*.tmp"  # files of `write_whole` that a killed process left


class HeldError(ConfigError):
    """Another process is working in a directory."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A directory, there or yet to be made, for this process alone; given up at the latest when the process ends.

    The lock is a file beside it, since the directory itself may be replaced. On systems and file systems without such
    locks, or where none can be written, the directory is for all.

    Raises:
        HeldError: another process, or thread, holds it.
    """
    handle = _locked(path) if os.name == "posix" else None
    if handle is None:
        yield
        return
    try:
        yield
    finally:
        _beside(path, "lock").unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def filling(path: Path, make: Callable[[], None], begun: Callable[[Path], bool]) -> Iterator[None]:
    """Around work that fills the directory which `make` makes or goes on with; nobody else works there meanwhile.

    Whatever ends the work before it has `begun` leaves things as they were; a refusal leaves the manifest, too, as it
    was. What was set aside is gone otherwise.

    Raises:
        HeldError: somebody else works there.
        ConfigError: the directory, or one above it, can't be written.
    """
    above = [each for each in path.resolve().parents if not each.exists()]
    with _writing(path):
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
    try:
        with held(path):
            _recover(path, begun)
            yield from _filled(path, make, begun)
    except BaseException:
        for each in above:
            if not any(each.iterdir()):
                each.rmdir()
        raise


def _filled(path: Path, make: Callable[[], None], begun: Callable[[Path], bool]) -> Iterator[None]:
    """The part of `filling` for which the directory is held."""
    existed, full = path.exists(), path.is_dir() and any(path.iterdir())
    manifest = (path / MANIFEST).read_bytes() if (path / MANIFEST).is_file() else None
    failed = True
    try:
        with _writing(path):
            make()
        yield
        failed = False
    except ConfigError:
        if manifest is not None and path.is_dir():
            write_whole(path / MANIFEST, manifest)
        raise
    finally:  # after an interrupt too
        if path.is_dir() and begun(path):
            shutil.rmtree(_beside(path, "replaced"), ignore_errors=True)
        elif failed or _beside(path, "replaced").exists():
            _undo(path, existed=existed, full=full)


def set_aside(path: Path) -> None:
    """Make room for another directory: for use in the `make` of `filling`, by which the old one can still be had.

    Raises:
        ConfigError: a link, the directory that the process runs in, or one that can't be moved.
    """
    check(not path.is_symlink(), "out", path, "the directory itself, and no link, to overwrite")
    inside = path.resolve() in (Path.cwd(), *Path.cwd().parents)
    check(not inside, "out", path, "another directory than one that this command runs in, to overwrite")
    aside = _beside(path, "replaced")
    try:
        if aside.exists():  # and what is here now is as far as a killed process came
            _discard(path)
        else:
            path.resolve().rename(aside)
    except OSError as error:
        raise ConfigError("out", path, f"a directory that can be moved, to overwrite; {error.strerror}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Around what makes a directory.

    Raises:
        ConfigError: it can't.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError("out", path, f"a directory that can be written; {error.strerror}") from error


def _locked(path: Path) -> int | None:
    """A handle of the lock of a directory, which it holds; None where there are no locks.

    Raises:
        HeldError: somebody else holds it.
    """
    import fcntl

    file = _beside(path, "lock")
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if isinstance(error, BlockingIOError):
                raise HeldError("out", path, "a directory that no other process is working in") from error
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(file.stat(), os.fstat(handle)):
                return handle
        os.close(handle)  # its last holder has just taken the file away


def _recover(path: Path, begun: Callable[[Path], bool]) -> None:
    """Tidy up after a process that was killed."""
    aside = _beside(path, "replaced")
    if path.is_dir():
        for each in path.glob(TEMPORARY):
            each.unlink(missing_ok=True)
    shutil.rmtree(_beside(path, "discarded"), ignore_errors=True)
    if not aside.exists():
        return
    if path.is_dir() and begun(path):
        shutil.rmtree(aside, ignore_errors=True)
    elif not path.exists() or (path.is_dir() and not any(path.iterdir())):
        _restore(path)


def _undo(path: Path, *, existed: bool, full: bool) -> None:
    """Leave a directory as it was before; whether there was one, and anything in it, if none was set aside."""
    if _beside(path, "replaced").exists():
        _restore(path)
    elif path.is_dir() and not full:
        for each in path.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        if not existed:
            path.rmdir()


def _restore(path: Path) -> None:
    """Put back what was set aside."""
    if path.exists():
        _discard(path)
    _beside(path, "replaced").rename(path.resolve())


def _discard(path: Path) -> None:
    """Take a directory away at once, however long it takes to delete."""
    discarded = _beside(path, "discarded")
    shutil.rmtree(discarded, ignore_errors=True)
    path.resolve().rename(discarded)
    shutil.rmtree(discarded, ignore_errors=True)


def _beside(path: Path, what: str) -> Path:
    """A name beside a directory."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{what}")

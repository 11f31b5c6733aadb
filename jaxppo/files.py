"""Files that are written whole or not at all, and directories that one process writes in."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxppo.fields import ConfigError

__all__ = ["held", "write_whole"]


@contextmanager
def held(path: Path) -> Iterator[None]:
    """A directory for this process alone, as far as others hold it too; given up at the latest when the process ends.

    On systems and file systems without such locks it is for all.

    Raises:
        ConfigError: another process, or thread, holds it.
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
            raise ConfigError("out", path, "a directory that no other process is working in") from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


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

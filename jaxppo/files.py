"""Files that are written whole or not at all."""

import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` beside `path` and move it there; what was there before stays until that is done."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # before its name is on the disk, should the power fail
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

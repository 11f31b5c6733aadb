"""Compiled programs that outlive the process, so that the second run of a kind starts at once."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

__all__ = ["keep_programs", "without_kept_programs"]

MIN_COMPILE_SECONDS = "0.1"  # what compiles faster is not worth a file


def keep_programs() -> None:
    """Have JAX keep compiled programs in the user's cache directory, `$XDG_CACHE_HOME` or `~/.cache`.

    Works through environment variables, which JAX reads when it is imported; does nothing once it is, since whoever
    imported it has made choices already. Variables that are set are left alone: `JAX_COMPILATION_CACHE_DIR` moves the
    programs, `JAX_ENABLE_COMPILATION_CACHE=false` does without. A directory that cannot be written is not used.
    """
    if "jax" in sys.modules:
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        path = _user_cache() / "jaxppo" / f"jax-{version('jax')}"
        if not _writable(path):
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", MIN_COMPILE_SECONDS)
    # XLA warns of each program that it reads, that it does not know which version of it made it: JAX's key has the
    # version in it. Errors are still shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@contextmanager
def without_kept_programs() -> Iterator[None]:
    """Compile everything anew, to tell how long it takes; what is compiled meanwhile is not kept."""
    import jax  # which `keep_programs` comes before
    from jax.experimental.compilation_cache.compilation_cache import reset_cache

    before = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    try:
        jax.config.update("jax_enable_compilation_cache", False)  # type: ignore[no-untyped-call]
        reset_cache()  # or the process goes by what it found at its first program
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)  # type: ignore[no-untyped-call]
        reset_cache()


def _user_cache() -> Path:
    """A relative `XDG_CACHE_HOME` counts as none, as the XDG base directory specification has it."""
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return chosen if chosen.is_absolute() else Path("~/.cache").expanduser()


def _writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK | os.X_OK)

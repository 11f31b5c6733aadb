"""Compiled programs that outlive the process, so that the second run of a kind starts at once."""

import hashlib
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

__all__ = ["keep_programs", "without_kept_programs"]

CPU_INFO = Path("/proc/cpuinfo")
MIN_COMPILE_SECONDS = "0.1"  # what compiles faster is not worth a file


def keep_programs() -> None:
    """Have JAX keep compiled programs in the user's cache directory, `$XDG_CACHE_HOME` or `~/.cache`.

    Each version of JAX and each kind of processor has a directory of its own, since programs compiled for one may not
    run on another. Works through environment variables, which JAX reads when it is imported; does nothing once it is,
    since whoever imported it has made choices already. Variables that are set are left alone:
    `JAX_COMPILATION_CACHE_DIR` moves the programs, `JAX_ENABLE_COMPILATION_CACHE=false` does without. A directory that
    cannot be written is not used.
    """
    if "jax" in sys.modules:
        return
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        path = _user_cache() / "jaxppo" / f"jax-{version('jax')}-{_processor()}"
        if not _writable(path):
            return
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(path)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", MIN_COMPILE_SECONDS)
    # For each program that it reads, XLA says that it does not know which version of it made it, which JAX's key does,
    # and calls it an error if the processor has no feature "prefer-no-gather", which none has. What fails is raised.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


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


def _processor() -> str:
    """Its architecture, and a digest of its features where the system lists them."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())
    return f"{platform.machine()}-{hashlib.sha256(features.encode()).hexdigest()[:8]}"


def _writable(path: Path) -> bool:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(path, os.W_OK | os.X_OK)

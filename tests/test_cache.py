"""Compiled programs outlive the process."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import jaxppo
from jaxppo import cache

ROOT = Path(jaxppo.__file__).parent.parent
CHANGED = ("XLA_FLAGS", "TF_CPP_MIN_LOG_LEVEL", "XDG_CACHE_HOME", "HOME")

# `jaxppo` as the console script runs it, with JAX's own count of what it found.
COUNTED = """
import collections, json, sys
from jaxppo.cache import keep_programs
keep_programs()
from jax import monitoring
events = collections.Counter()
monitoring.register_event_listener(lambda event, **_: events.update([event.rpartition("/")[2]]))
from jaxppo.cli import main
code = main(sys.argv[1:])
print(json.dumps({name: events[name] for name in ("cache_hits", "cache_misses")}))
sys.exit(code)
"""


def environment(**changes):
    """The variables of this process but those that the cache depends on."""
    kept = {k: v for k, v in os.environ.items() if k not in CHANGED and not k.startswith("JAX_")}
    return {**kept, "PYTHONPATH": str(ROOT), **{name: str(value) for name, value in changes.items()}}


def train(out, **changes):
    """Train in a fresh process: the counts of its cache, and what it wrote to the standard error."""
    flags = ["--preset", "none", "--total-timesteps", "1024", "--hidden", "8", "--out", str(out)]
    command = [sys.executable, "-c", COUNTED, "train", *flags]
    done = subprocess.run(command, env=environment(**changes), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def chosen(**changes):
    """The directory that a fresh process has JAX keep programs in."""
    code = "from jaxppo.cache import keep_programs; keep_programs()"
    command = [sys.executable, "-c", f"{code}; import jax; print(jax.config.jax_compilation_cache_dir)"]
    return subprocess.run(
        command, env=environment(**changes), capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    """It reads them in place of compiling, says nothing about it, and learns the same, bit for bit."""
    kept = tmp_path / "cache"
    first, _ = train(tmp_path / "first", XDG_CACHE_HOME=kept)
    entries = set(kept.glob(f"jaxppo/jax-{version('jax')}-*/*-cache"))
    assert any(entry.name.startswith("jit__chunk") for entry in entries)
    assert first["cache_hits"] == 0
    second, errors = train(tmp_path / "second", XDG_CACHE_HOME=kept)
    assert second["cache_hits"] >= len(entries) > 0
    assert errors == ""
    assert (tmp_path / "first/policy.msgpack").read_bytes() == (tmp_path / "second/policy.msgpack").read_bytes()


def test_a_cache_that_is_turned_off_or_cannot_be_written_is_not_used(tmp_path):
    """Training goes on without."""
    counts, _ = train(tmp_path / "off", XDG_CACHE_HOME=tmp_path / "off_cache", JAX_ENABLE_COMPILATION_CACHE="false")
    assert counts["cache_hits"] == counts["cache_misses"] == 0
    assert not list((tmp_path / "off_cache").rglob("*-cache"))
    (tmp_path / "file").write_text("in the way")
    assert chosen(XDG_CACHE_HOME=tmp_path / "file") == "None"


def test_where_programs_are_kept(tmp_path):
    """The user's cache directory, unless a variable of JAX's says otherwise; a relative one doesn't count."""
    below = Path("jaxppo") / Path(chosen(HOME=tmp_path)).name
    assert below.name.startswith(f"jax-{version('jax')}-{platform.machine()}-")
    assert chosen(HOME=tmp_path) == str(tmp_path / ".cache" / below)
    assert chosen(HOME=tmp_path, XDG_CACHE_HOME="relative") == str(tmp_path / ".cache" / below)
    assert chosen(HOME=tmp_path, JAX_COMPILATION_CACHE_DIR=tmp_path / "own") == str(tmp_path / "own")
    assert not (tmp_path / "relative").exists()


def test_processors_of_other_features_have_other_directories(tmp_path, monkeypatch):
    """A home that machines share holds programs for each kind of them; where features are not listed, one for all."""
    names = []
    for features in ("flags : fpu avx2", "flags : fpu avx2 avx512f", "flags : fpu avx2", None):
        listed = tmp_path / "cpuinfo"
        listed.unlink(missing_ok=True)
        if features:
            listed.write_text(f"processor : 0\n{features}\nprocessor : 1\n{features}\n")
        monkeypatch.setattr(cache, "CPU_INFO", listed)
        names.append(cache._processor())
    assert names[0] == names[2]
    assert len({*names}) == 3

"""The run directory: what a run leaves behind, and how it is read again.

manifest.json        config, seed, versions, device, git revision, command, how the run ended; earlier launches
metrics.jsonl        one line per logged update
policy.msgpack       the network's parameters and the observation normaliser
curve.png            return against environment steps and against wall time
unfinished.msgpack   where the run stood, until it is over
"""

import json
import math
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import serialization

from jaxppo.config import Config
from jaxppo.cores import cpu_name
from jaxppo.directories import MANIFEST, set_aside
from jaxppo.fields import ConfigError, check
from jaxppo.files import write_whole
from jaxppo.settings import from_settings, to_settings
from jaxppo.training import init
from jaxppo.types import Policy

__all__ = [
    "Run",
    "append_metrics",
    "begun",
    "continued",
    "describe",
    "launched",
    "load_run",
    "open_run",
    "read_manifest",
    "read_metrics",
    "write_manifest",
    "write_metrics",
    "write_policy",
]

PACKAGES = ("jaxppo", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


class Run(NamedTuple):
    """A run read from its directory: its manifest, its config, and the policy that it ended with."""

    manifest: dict[str, Any]
    config: Config
    policy: Policy


def open_run(path: Path, config: Config, seed: int, log_interval: int = 1, *, overwrite: bool = False) -> None:
    """Make a run directory, or go on with that of the very same run, if it is not over: for `directories.filling`.

    Raises:
        ConfigError: there is something else.
    """
    identity = json.loads(json.dumps({"config": to_settings(config), "seed": seed, "log_interval": log_interval}))
    ours = "a new directory, or that of a run of jaxppo's"
    same = "a new directory, or one of the very same run to go on with; or add --overwrite"
    known = continued(path, identity, ours, same, overwrite=overwrite)
    over = known is not None and known.get("status") not in ("running", "interrupted")
    check(not over, "out", path, "a new directory, since the run in this one is over; or add --overwrite")
    launched(path, known, identity)
    (path / "metrics.jsonl").touch()


def begun(path: Path) -> bool:
    """Whether a run directory has metrics of an update."""
    file = path / "metrics.jsonl"
    return file.is_file() and file.stat().st_size > 0


def describe() -> dict[str, Any]:
    """What a manifest says about where its numbers come from."""
    device = jax.devices()[0]
    return {
        "command": shlex.join([_program(), *sys.argv[1:]]),
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "device": {
            "platform": jax.default_backend(),
            "kind": cpu_name() if device.platform == "cpu" else device.device_kind,
            "count": jax.device_count(),
        },
        "git_revision": _git_revision(),
    }


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a directory."""
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    return manifest


def continued(
    path: Path, identity: Mapping[str, Any], ours: str, same: str, *, overwrite: bool
) -> dict[str, Any] | None:
    """The manifest of what is in a directory, to go on with; None for nothing, or if it was there to be replaced.

    Args:
        path: the directory.
        identity: what its manifest must say, under which names; the first name tells manifests of this kind.
        ours: what is allowed where there is something else than such a directory.
        same: what is allowed where there is another of the kind.
        overwrite: set what is there aside.

    Raises:
        ConfigError: one of these, or what `set_aside` refuses.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    known = _known(path)
    check(next(iter(identity)) in known, "out", path, ours)
    if not overwrite:
        check(all(known.get(name) == said for name, said in identity.items()), "out", path, same)
        return known
    set_aside(path)
    return None


def launched(path: Path, known: Mapping[str, Any] | None, entries: Mapping[str, Any]) -> None:
    """Write the manifest of work that begins in a directory, made for it, or goes on if the one there is `known`."""
    path.mkdir(parents=True, exist_ok=True)
    manifest = describe()
    earlier = [*known.get("earlier", []), {name: known.get(name) for name in manifest}] if known else []
    write_manifest(path, {**manifest, **entries, "earlier": earlier, "status": "running"})


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, whole or not at all."""
    write_whole(path / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def write_policy(path: Path, policy: Policy) -> None:
    """Write the policy, whole or not at all."""
    write_whole(path / "policy.msgpack", serialization.to_bytes(jax.device_get(policy)))


def write_metrics(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Write a line per row in place of what there is, whole or not at all."""
    write_whole(path / "metrics.jsonl", _lines(rows).encode())


def append_metrics(path: Path, rows: Iterable[Mapping[str, float]]) -> None:
    """Append a line per row."""
    with (path / "metrics.jsonl").open("a") as file:
        file.write(_lines(rows))


def read_metrics(path: Path) -> dict[str, list[float]]:
    """The metrics of a run by name, null read as NaN.

    Raises:
        ConfigError: not a run directory, or one whose metrics can't be read.
    """
    try:
        lines = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith("\n")]  # a killed run may leave half a line
        names = list(rows[0].keys()) if rows else []
        return {name: [math.nan if row[name] is None else float(row[name]) for row in rows] for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("run", path, f"a run directory with a readable metrics.jsonl; {_reason(error)}") from error


def load_run(path: str | Path) -> Run:
    """Read the directory of a run, whose policy `act`, `value` and `evaluate` take beside its config.

    Raises:
        ConfigError: not a run directory, one that has no policy yet, or one that can't be read.
    """
    path = Path(path)
    try:
        manifest = read_manifest(path)
        config = from_settings(manifest["config"])
        like = jax.eval_shape(lambda: init(config, jax.random.key(0)).policy)
        policy = serialization.from_bytes(like, (path / "policy.msgpack").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("run", path, f"a finished run directory; {_reason(error)}") from error
    return Run(manifest, config, policy)


def _lines(rows: Iterable[Mapping[str, float]]) -> str:
    """Rows as JSON, which has no NaN: what is not a finite number becomes null."""
    return "".join(json.dumps({k: v if math.isfinite(v) else None for k, v in row.items()}) + "\n" for row in rows)


def _program() -> str:
    """What was started: `jaxppo`, or somebody's script."""
    name = Path(sys.argv[0]).name
    return "jaxppo" if name == "__main__.py" else name


def _known(path: Path) -> dict[str, Any]:
    """The manifest in a directory, empty if there is none that can be read."""
    try:
        manifest: Any = read_manifest(path)
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename or '').name}: {error.strerror}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the directory that the command runs in, if that is a git checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()

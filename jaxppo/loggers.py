"""Loggers: streams of metrics for TensorBoard and Weights & Biases, beside the files, which stay the record.

Each agent has streams of its own. They are opened when its training starts or goes on, fed after each chunk of updates,
and always begun anew: what a checkpoint holds is written again first, so that a stopped sweep leaves each point once.
"""

import math
import os
import secrets
import shutil
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from jaxppo.fields import ConfigError, check
from jaxppo.loop import logged, rows

__all__ = ["Streams", "chosen", "streams"]

Write = Callable[[Sequence[Mapping[str, float]]], None]
"""Adds a point per row; a row has `env_steps`, `wall_time` and those of the other metrics that are finite."""

Logger = Callable[[Path, str, Mapping[str, Any]], AbstractContextManager[Write]]
"""Opens the stream of an agent, "" for that of a run, in the directory of its sweep or run, with its settings."""


def chosen(names: str | Iterable[str]) -> tuple[str, ...]:
    """The loggers of these names, all of them installed.

    Raises:
        ConfigError: an unknown logger, the same one twice, or one whose package is not installed.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for i, name in enumerate(names):
        check(name in LOGGERS, "logger", name, f"one of {', '.join(LOGGERS)}")
        check(name not in names[:i], "logger", name, "given once")
        try:
            import_module(PACKAGES[name])
        except ModuleNotFoundError as error:
            raise ConfigError("logger", name, f"installed: pip install 'jaxppo[{name}]'") from error
    return names


class Streams:
    """The open streams of agents that train together.

    Args:
        writes: of every stream, the number of its agent among them and what adds points.
        num_updates: updates that they train for.
        log_interval: keep every so many updates, and the first 2 % and the last.
    """

    def __init__(self, writes: Sequence[tuple[int, Write]], num_updates: int, log_interval: int):
        self._writes = writes
        self._num_updates = num_updates
        self._log_interval = log_interval
        self._done = 0

    def log(self, metrics: Mapping[str, np.ndarray]) -> None:
        """Add the metrics [R, updates] of the updates that come next; what is not finite is left out."""
        count = metrics["env_steps"].shape[1]
        kept = logged(np.arange(self._done + 1, self._done + count + 1), self._num_updates, self._log_interval)
        self._done += count
        if not kept.any():
            return
        shown = {name: values[:, kept] for name, values in metrics.items()}
        for agent, write in self._writes:
            write([{name: value for name, value in row.items() if math.isfinite(value)} for row in rows(shown, agent)])


@contextmanager
def streams(
    names: Sequence[str], path: Path, agents: Mapping[str, Mapping[str, Any]], num_updates: int, log_interval: int
) -> Iterator[Streams]:
    """Streams of agents while they train, in each of the loggers; an exception that ends them marks them as failed.

    Args:
        names: of the loggers, as `chosen` returns them.
        path: directory of the run or the sweep.
        agents: plain settings of each agent by its name; that of a run's only one is "".
        num_updates: updates that they train for.
        log_interval: keep every so many updates, and the first 2 % and the last.

    Raises:
        ConfigError: Weights & Biases can't be reached.
    """
    with ExitStack() as stack:
        opened = [
            (number, stack.enter_context(LOGGERS[name](path, agent, settings)))
            for number, (agent, settings) in enumerate(agents.items())
            for name in names
        ]
        yield Streams(opened, num_updates, log_interval)


@contextmanager
def _tensorboard(path: Path, agent: str, settings: Mapping[str, Any]) -> Iterator[Write]:
    """An event file in tensorboard/AGENT; it is held open for writing only, since there may be many agents."""
    summary, event_pb2, record_writer = (
        import_module(f"tensorboardX.{module}") for module in ("summary", "proto.event_pb2", "record_writer")
    )
    directory = path / "tensorboard" / agent
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    file = directory / f"events.out.tfevents.{time.time():.0f}"

    def record(**content: Any) -> bytes:
        """An event in the TFRecord format: length, its checksum, data, its checksum."""
        data = event_pb2.Event(**content).SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = [struct.pack("<I", record_writer.masked_crc32c(part)) for part in (length, data)]
        return length + checks[0] + data + checks[1]

    def append(*records: bytes) -> None:
        with file.open("ab") as events:
            events.write(b"".join(records))

    def write(rows: Sequence[Mapping[str, float]]) -> None:
        began = time.time() - rows[-1]["wall_time"]  # the last of them is done now
        append(
            *(record(wall_time=began + row["wall_time"], step=row["env_steps"], summary=scalars(row)) for row in rows)
        )

    def scalars(row: Mapping[str, float]) -> Any:
        values = [{"tag": name, "simple_value": value} for name, value in row.items() if name != "env_steps"]
        return {"value": values}

    # Without the summary of an experiment, which would have the settings of the first agent only.
    _, start, end = summary.hparams(dict(settings), {})
    append(record(wall_time=time.time(), file_version="brain.Event:2"), record(wall_time=time.time(), summary=start))
    yield write
    append(record(wall_time=time.time(), summary=end))


@contextmanager
def _wandb(path: Path, agent: str, settings: Mapping[str, Any]) -> Iterator[Write]:
    """A run of Weights & Biases in the group of its sweep, with files in wandb/; begun anew it has the same id."""
    wandb = import_module("wandb")
    name = path.resolve().name
    suffix = f"-{agent}" if agent else ""
    earlier = list(path.glob(f"wandb/*run-*/run-*{suffix}.wandb"))  # but not by way of the link latest-run
    for file in earlier:
        shutil.rmtree(file.parent)
    try:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "jaxppo"),
            group=name if agent else None,
            name=agent or name,
            id=earlier[0].stem.removeprefix("run-") if earlier else secrets.token_hex(4) + suffix,
            dir=path,
            config=dict(settings),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=bool(agent)),
        )
    except wandb.Error as error:
        reason = str(error).splitlines()[0]
        raise ConfigError("logger", "wandb", f"reachable, or WANDB_MODE=offline be set; {reason}") from error

    def write(rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            run.log({name: value for name, value in row.items() if name != "env_steps"}, step=row["env_steps"])

    failed = True
    try:
        yield write
        failed = False
    finally:
        run.finish(exit_code=int(failed))  # leaving `with run` would print the exception once for each agent


LOGGERS: dict[str, Logger] = {"tensorboard": _tensorboard, "wandb": _wandb}
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}

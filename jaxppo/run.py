"""The host loop around the compiled program: chunks of updates, and between them logs, progress and signals."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import results
from jaxppo.config import Config, canonical
from jaxppo.plot import write_curves
from jaxppo.policy import evaluate
from jaxppo.progress import Progress
from jaxppo.training import init, update_step
from jaxppo.types import Metrics, TrainState

__all__ = ["Outcome", "train_run"]

CHUNK_SECONDS = 0.7  # how long the compiled program runs between two looks at the outside world
CHUNK_UPDATES = 1024  # the most updates in a chunk: the size of the buffer for their metrics


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: "finished", "interrupted" by a signal, or "diverged" where the gradient or a parameter was not finite.
        num_updates: updates done.
        compile_seconds: time to compile.
        train_seconds: time to train, compilation apart.
        returns: greedy returns of the final evaluation, [num_episodes]; None if diverged.
    """

    status: str
    num_updates: int
    compile_seconds: float
    train_seconds: float
    returns: np.ndarray | None


def train_run(
    config: Config, seed: int, path: Path, progress: Progress, *, log_interval: int = 1, eval_episodes: int = 128
) -> Outcome:
    """Train one agent and leave a run in the directory `path`, which `results.create` has made.

    An interrupt (SIGINT or SIGTERM) ends training after the current chunk, and what was learned so far is saved; a
    second one ends the process.
    """
    manifest = results.describe(config, seed)
    results.write_manifest(path, {**manifest, "status": "running"})
    with _interruption() as interrupted:
        key_init, key_eval = jax.random.split(jax.random.key(seed))
        began = time.perf_counter()
        state = init(config, key_init)
        numbers = canonical(config)
        program = _chunk.lower(numbers, state, jnp.int32(1)).compile()
        compile_seconds = time.perf_counter() - began
        progress.compiled(compile_seconds)
        done, train_seconds, status = 0, 0.0, "finished"
        chunk = 1
        while done < config.num_updates and status == "finished":
            chunk = min(chunk, config.num_updates - done, CHUNK_UPDATES)
            began = time.perf_counter()
            state, buffer = program(numbers, state, jnp.int32(chunk))
            metrics = jax.device_get(buffer)
            seconds = time.perf_counter() - began
            rows = _rows(metrics, chunk, train_seconds, seconds)
            results.append_metrics(
                path, [row for i, row in enumerate(rows, done + 1) if i % log_interval == 0 or i == config.num_updates]
            )
            done, train_seconds = done + chunk, train_seconds + seconds
            progress.advance(rows, chunk * config.batch_size / seconds)
            chunk = max(1, round(chunk * CHUNK_SECONDS / seconds))
            if interrupted:
                status = "interrupted"
            if not all(np.isfinite(row["grad_norm"]) for row in rows) or not _finite(state):
                status = "diverged"
    progress.close()
    returns = None
    if status != "diverged":
        results.write_policy(path, state.policy)
        returns = np.asarray(evaluate(config, state, key_eval, eval_episodes))
    outcome = Outcome(status, done, compile_seconds, train_seconds, returns)
    _finish(path, manifest, config, outcome)
    return outcome


@partial(jax.jit, donate_argnums=1)
def _chunk(config: Config, state: TrainState, num_updates: jax.Array) -> tuple[TrainState, Metrics]:
    """`num_updates` updates, at most `CHUNK_UPDATES`, and their metrics in a buffer of that size."""
    shapes = jax.eval_shape(update_step, config, state)[1]
    buffer = jax.tree.map(lambda leaf: jnp.zeros((CHUNK_UPDATES, *leaf.shape), leaf.dtype), shapes)

    def body(i: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, metrics = update_step(config, carry[0])
        return state, jax.tree.map(lambda old, new: old.at[i].set(new), carry[1], metrics)

    return jax.lax.fori_loop(0, num_updates, body, (state, buffer))


def _finite(state: TrainState) -> bool:
    """Whether every parameter is a finite number."""
    return all(bool(np.all(np.isfinite(leaf))) for leaf in jax.tree.leaves(jax.device_get(state.policy.params)))


def _rows(metrics: Metrics, count: int, since: float, seconds: float) -> list[dict[str, Any]]:
    """A row per update; wall time is spread evenly over the updates of a chunk."""
    columns = {name: values[:count].tolist() for name, values in metrics.named().items()}
    columns["wall_time"] = [round(since + seconds * (i + 1) / count, 6) for i in range(count)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _finish(path: Path, manifest: dict[str, Any], config: Config, outcome: Outcome) -> None:
    summary: dict[str, Any] = {
        "status": outcome.status,
        "num_updates": outcome.num_updates,
        "env_steps": outcome.num_updates * config.batch_size,
        "compile_seconds": round(outcome.compile_seconds, 3),
        "train_seconds": round(outcome.train_seconds, 3),
    }
    if outcome.returns is not None:
        summary["evaluation"] = {
            "episodes": len(outcome.returns),
            "mean_return": float(outcome.returns.mean()),
            "std_return": float(outcome.returns.std()),
        }
    results.write_manifest(path, {**manifest, **summary})
    metrics = results.read_metrics(path)
    if metrics:
        name = manifest["config"]["env"]
        write_curves(path / "curve.png", {name: metrics}, title=f"{name}, seed {manifest['seed']}")


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that fills with the first SIGINT or SIGTERM received; a second one acts as it always does."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, frame: Any) -> None:
        received.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""A run: one agent trained by the host loop, with its files, its progress and its final evaluation."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxppo import results
from jaxppo.checkpoint import CHECKPOINT_SECONDS, UNFINISHED, read_checkpoint, start, write_checkpoint
from jaxppo.config import Config
from jaxppo.loggers import streams
from jaxppo.loop import Training, agent_keys, compile_program, interruption, joined, logged, rows
from jaxppo.memory import check_memory
from jaxppo.plot import write_curves
from jaxppo.policy import evaluate
from jaxppo.progress import Progress
from jaxppo.settings import to_cells

__all__ = ["Outcome", "train_run"]


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: "finished", "interrupted" by a signal, or "diverged" where the gradient or a parameter was not finite.
        num_updates: updates done.
        compile_seconds: time to compile.
        train_seconds: time to train, compilation apart.
        returns: greedy returns of the final evaluation, [num_episodes]; None if diverged.
        lost: what was not finite and when, if diverged: the first update whose gradient was not, or the one after which
            a parameter was not.
    """

    status: str
    num_updates: int
    compile_seconds: float
    train_seconds: float
    returns: np.ndarray | None
    lost: str | None = None


def train_run(
    config: Config,
    seed: int,
    path: Path,
    progress: Progress,
    *,
    loggers: Sequence[str] = (),
    log_interval: int = 1,
    eval_episodes: int = 128,
) -> Outcome:
    """Train one agent and leave a run in the directory `path`, which `results.open_run` has made for it.

    It goes on from the checkpoint there, if there is one. Its metrics also go to the `loggers`, which `loggers.chosen`
    has checked.

    An interrupt (SIGINT or SIGTERM) ends training after the current chunk, and what was learned so far is saved; a
    second one ends the process.

    Raises:
        ConfigError: it takes more memory than there is, a logger can't be reached, or the checkpoint can't be read;
            nothing has been trained then.
    """
    checkpoint = read_checkpoint(path)
    agents = {"": {**to_cells(config), "seed": seed}}
    with ExitStack() as stack:
        interrupted = stack.enter_context(interruption())
        began = time.perf_counter()
        program = compile_program(config, 1)
        check_memory(config, program.peak_bytes, len(program.agents.devices))
        training = start(program, [config], [seed], checkpoint)
        compile_seconds = time.perf_counter() - began  # of what it begins with too
        progress.note(f"compiled in {compile_seconds:.1f} s")
        # Which begins streams anew, so not before all else is well.
        opened = stack.enter_context(streams(loggers, path, agents, config.num_updates, log_interval))
        kept = [] if checkpoint is None else [checkpoint.metrics]
        # In place of what is there, which may be of after the checkpoint.
        results.write_metrics(path, [row for metrics in kept for row in _rows(config, metrics, log_interval, 0)])
        if checkpoint is not None:
            opened.log(checkpoint.metrics)
            progress.note(f"going on after update {training.done}")
        status, lost, saved = "finished", None, training.seconds
        while training.done < config.num_updates and status == "finished":
            done = training.done
            metrics = training.advance(config.num_updates)
            kept.append(metrics)
            results.append_metrics(path, _rows(config, metrics, log_interval, done))
            opened.log(metrics)
            progress.advance(training.done * config.batch_size, training.rate * config.batch_size, metrics)
            if interrupted and training.done < config.num_updates:
                status = "interrupted"
            lost = _lost(done + 1 + np.flatnonzero(~np.isfinite(metrics["grad_norm"][0])), training)
            if lost:
                status = "diverged"
            elif status == "interrupted" or training.seconds - saved > CHECKPOINT_SECONDS:
                write_checkpoint(path, [0], training, joined(kept))
                saved = training.seconds
    progress.close()
    returns = None
    if status != "diverged":
        policy = jax.tree.map(lambda x: x[0], jax.device_get(training.states.policy))  # from all devices to one
        results.write_policy(path, policy)
        returns = np.asarray(evaluate(config, policy, agent_keys(seed)[1], eval_episodes))
    outcome = Outcome(status, training.done, compile_seconds, training.seconds, returns, lost)
    _finish(path, config, outcome)
    return outcome


def _rows(config: Config, metrics: dict[str, np.ndarray], log_interval: int, done: int) -> list[dict[str, Any]]:
    """A row for each update that is logged, of metrics [1, updates] of those after the first `done`."""
    updates = done + 1 + np.arange(metrics["env_steps"].shape[1])
    kept = logged(updates, config.num_updates, log_interval)
    return rows({name: values[:, kept] for name, values in metrics.items()}, 0)


def _lost(updates: np.ndarray, training: Training) -> str | None:
    """What is not finite, given the updates whose gradient was not; None if all is."""
    if updates.size:
        return f"the gradient in update {updates[0]}"
    return None if training.finite().all() else f"a parameter after update {training.done}"


def _finish(path: Path, config: Config, outcome: Outcome) -> None:
    manifest = results.read_manifest(path)
    summary: dict[str, Any] = {
        "status": outcome.status,
        "num_updates": outcome.num_updates,
        "env_steps": outcome.num_updates * config.batch_size,
        "compile_seconds": round(outcome.compile_seconds, 3),
        "train_seconds": round(outcome.train_seconds, 3),
    }
    if outcome.lost is not None:
        summary["not_finite"] = outcome.lost
    if outcome.returns is not None:
        summary["evaluation"] = {
            "episodes": len(outcome.returns),
            "mean_return": float(outcome.returns.mean()),
            "std_return": float(outcome.returns.std()),
        }
    metrics = results.read_metrics(path)
    if metrics:
        name = manifest["config"]["env"]
        write_curves(path / "curve.png", {name: metrics}, title=f"{name}, seed {manifest['seed']}")
    results.write_manifest(path, {**manifest, **summary})
    if outcome.status != "interrupted":
        (path / UNFINISHED).unlink(missing_ok=True)

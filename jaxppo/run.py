"""A run: one agent trained by the host loop, with its files, its progress and its final evaluation."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxppo import results
from jaxppo.config import Config
from jaxppo.loggers import streams
from jaxppo.loop import Training, agent_keys, begin, compile_program, interruption, logged, rows, stack
from jaxppo.memory import check_memory
from jaxppo.plot import write_curves
from jaxppo.policy import evaluate
from jaxppo.progress import Progress
from jaxppo.settings import to_cells, to_settings

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
    """Train one agent and leave a run in the directory `path`, which `results.create` has made.

    Its metrics also go to the `loggers`, which `loggers.chosen` has checked.

    An interrupt (SIGINT or SIGTERM) ends training after the current chunk, and what was learned so far is saved; a
    second one ends the process.

    Raises:
        ConfigError: it takes more memory than there is, or a logger can't be reached; nothing has been trained then.
    """
    manifest = {**results.describe(), "seed": seed, "config": to_settings(config)}
    results.write_manifest(path, {**manifest, "status": "running"})
    agents = {"": {**to_cells(config), "seed": seed}}
    with interruption() as interrupted, streams(loggers, path, agents, config.num_updates, log_interval) as opened:
        key_train, key_evaluate = agent_keys(seed)
        configs = stack([config])
        began = time.perf_counter()
        program = compile_program(config, 1)
        check_memory(config, program.peak_bytes, len(program.agents.devices))
        training = Training(program, configs, begin(program.agents, configs, key_train[None]))
        compile_seconds = time.perf_counter() - began  # of what it begins with too
        progress.note(f"compiled in {compile_seconds:.1f} s")
        status, lost = "finished", None
        while training.done < config.num_updates and status == "finished":
            metrics = training.advance(config.num_updates)
            updates = np.arange(training.done - metrics["env_steps"].shape[1], training.done) + 1
            kept = logged(updates, config.num_updates, log_interval)
            results.append_metrics(path, rows({name: values[:, kept] for name, values in metrics.items()}, 0))
            opened.log(metrics)
            progress.advance(training.done * config.batch_size, training.rate * config.batch_size, metrics)
            if interrupted and training.done < config.num_updates:
                status = "interrupted"
            lost = _lost(updates[~np.isfinite(metrics["grad_norm"][0])], training)
            if lost:
                status = "diverged"
    progress.close()
    returns = None
    if status != "diverged":
        policy = jax.tree.map(lambda x: x[0], jax.device_get(training.states.policy))  # from all devices to one
        results.write_policy(path, policy)
        returns = np.asarray(evaluate(config, policy, key_evaluate, eval_episodes))
    outcome = Outcome(status, training.done, compile_seconds, training.seconds, returns, lost)
    _finish(path, manifest, config, outcome)
    return outcome


def _lost(updates: np.ndarray, training: Training) -> str | None:
    """What is not finite, given the updates whose gradient was not; None if all is."""
    if updates.size:
        return f"the gradient in update {updates[0]}"
    return None if training.finite().all() else f"a parameter after update {training.done}"


def _finish(path: Path, manifest: dict[str, Any], config: Config, outcome: Outcome) -> None:
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
    results.write_manifest(path, {**manifest, **summary})
    metrics = results.read_metrics(path)
    if metrics:
        name = manifest["config"]["env"]
        write_curves(path / "curve.png", {name: metrics}, title=f"{name}, seed {manifest['seed']}")

"""Where training stands, in one file: enough to go on bit for bit. Of one agent's state, or of a run or a sweep."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from jaxppo.config import Config
from jaxppo.devices import fill
from jaxppo.fields import ConfigError, check
from jaxppo.files import write_whole
from jaxppo.loop import Program, Training, agent_keys, begin, shapes, stack
from jaxppo.states import check_train_state
from jaxppo.training import init
from jaxppo.types import TrainState

__all__ = [
    "CHECKPOINT_SECONDS",
    "UNFINISHED",
    "Checkpoint",
    "load_state",
    "read_checkpoint",
    "restore",
    "save_state",
    "start",
    "write_checkpoint",
]

UNFINISHED = "unfinished.msgpack"  # the file in the directory of a run or a sweep
CHECKPOINT_SECONDS = 60.0  # of training between two of them


class Checkpoint(NamedTuple):
    """Agents under way.

    Attributes:
        agents: their numbers.
        num_agents: how many the program trains at once, those that fill it up included.
        done: updates done.
        seconds: time spent training.
        metrics: [R, done] each, by name.
        leaves: of what else they are made of, in the order of `jax.tree.leaves`; keys as their kind and data.
    """

    agents: list[int]
    num_agents: int
    done: int
    seconds: float
    metrics: dict[str, np.ndarray]
    leaves: list[Any]


def write_checkpoint(path: Path, agents: list[int], training: Training, metrics: dict[str, np.ndarray]) -> None:
    """Write where agents under way stand to the directory of their run or sweep, whole or not at all.

    Args:
        path: the directory.
        agents: their numbers; what `training` has besides them only fills the program up.
        training: where they stand.
        metrics: [R, updates] each, of all updates done.
    """
    tree = jax.tree.map(lambda x: x[: len(agents)], (training.configs, training.states))
    content = {
        "agents": agents,
        "num_agents": training.num_agents,
        "done": training.done,
        "seconds": training.seconds,
        "metrics": dict(metrics),
        "leaves": _leaves(tree),
    }
    # In place, since a copy would have its names sorted.
    write_whole(path / UNFINISHED, serialization.msgpack_serialize(content, in_place=True))


def read_checkpoint(path: Path) -> Checkpoint | None:
    """Read the checkpoint in the directory of a run or sweep; None if there is none.

    Raises:
        ConfigError: it can't be read.
    """
    file = path / UNFINISHED
    try:
        content = serialization.msgpack_restore(file.read_bytes())
        leaves = [content["leaves"][str(i)] for i in range(len(content["leaves"]))]
        return Checkpoint(**{**content, "leaves": leaves})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("out", file, f"a readable checkpoint, or no such file; {error}") from error


def start(program: Program, configs: Sequence[Config], seeds: Sequence[int], checkpoint: Checkpoint | None) -> Training:
    """Agents at their beginning, or where the checkpoint has them; the last one fills the program up.

    Raises:
        ConfigError: the checkpoint is of other agents, or of a version with other metrics.
    """
    num_agents = program.agents.num_agents
    if checkpoint is None:
        keys = jnp.stack([agent_keys(seed)[0] for seed in seeds])
        stacked, keys = fill((stack(configs), keys), num_agents)
        return Training(program, stacked, begin(program.agents, stacked, keys))
    lacking = ", ".join(name for name in program.metrics if name not in checkpoint.metrics)
    check(not lacking, "checkpoint", f"one without {lacking}", "of the version of jaxppo that is to go on from it")
    like = stack(configs)
    stacked, states = fill(restore(checkpoint.leaves, (like, shapes(like, len(configs)))), num_agents)
    return Training(program, stacked, states, checkpoint.done, checkpoint.seconds)


def save_state(path: str | Path, state: TrainState) -> None:
    """Write the train state of one agent to a file, whole or not at all: all that `update` goes on from.

    Raises:
        ConfigError: no train state, one of several agents, or a file that can't be written.
    """
    check_train_state(state)
    several = f"states of shape {state.num_updates.shape}"
    check(state.num_updates.ndim == 0, "state", several, "that of one agent: jax.tree.map(lambda x: x[0], states)")
    try:
        write_whole(Path(path), serialization.msgpack_serialize({"leaves": _leaves(state)}))
    except OSError as error:
        raise ConfigError("path", path, f"a file that can be written; {error.strerror}") from error


def load_state(path: str | Path, config: Config) -> TrainState:
    """Read a train state that `save_state` has written; `update` goes on from it as from the one that was saved.

    Args:
        path: the file.
        config: that it was trained with, or one that differs in numbers only.

    Raises:
        ConfigError: a file that can't be read, or of a state of another config.
    """
    try:
        content = serialization.msgpack_restore(Path(path).read_bytes())
        leaves = [content["leaves"][str(i)] for i in range(len(content["leaves"]))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("path", path, f"a file of save_state's that can be read; {error}") from error
    state: TrainState = restore(leaves, jax.eval_shape(partial(init, config), jax.random.key(0)))
    return state


def restore(saved: Sequence[Any], like: Any) -> Any:
    """The pytree whose leaves were saved; `like` has its structure, shapes and types.

    Raises:
        ConfigError: they are of something else.
    """
    shapes, structure = jax.tree.flatten(like)
    if len(shapes) != len(saved):
        raise ConfigError("checkpoint", f"{len(saved)} arrays", f"one of {len(shapes)} arrays")
    leaves = []
    for array, shape in zip(saved, shapes, strict=True):
        if not isinstance(array, np.ndarray | np.generic | dict):
            raise ConfigError("checkpoint", type(array).__name__, "an array")
        if is_key := isinstance(array, dict):
            leaf = jax.random.wrap_key_data(jnp.asarray(array["data"]), impl=array["kind"])
        else:
            leaf = jnp.asarray(array)
        alike = _is_key(shape) if is_key else leaf.dtype == shape.dtype  # keys may be of any kind
        if leaf.shape != shape.shape or not alike:
            raise ConfigError("checkpoint", f"{leaf.dtype}{leaf.shape}", f"{shape.dtype}{shape.shape} here")
        leaves.append(leaf)
    return jax.tree.unflatten(structure, leaves)


def _leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by number; keys as their kind and data."""

    def saved(leaf: Any) -> Any:
        if not _is_key(leaf):
            return np.asarray(leaf)
        return {"kind": str(jax.random.key_impl(leaf)), "data": np.asarray(jax.random.key_data(leaf))}

    return {str(i): saved(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

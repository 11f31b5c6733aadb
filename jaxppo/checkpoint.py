"""Where training stands, in one file: enough to go on bit for bit. Of one agent's state, or of a sweep's agents."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from jaxppo.config import Config
from jaxppo.fields import ConfigError, check
from jaxppo.files import write_whole
from jaxppo.states import check_train_state
from jaxppo.training import init
from jaxppo.types import TrainState

__all__ = ["Checkpoint", "load_state", "read_checkpoint", "restore", "save_state", "write_checkpoint"]


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


def write_checkpoint(
    path: Path,
    agents: list[int],
    num_agents: int,
    done: int,
    seconds: float,
    metrics: dict[str, np.ndarray],
    tree: Any,
) -> None:
    """Write a checkpoint of a pytree of arrays, whole or not at all; see `Checkpoint`."""
    content = {"agents": agents, "num_agents": num_agents, "done": done, "seconds": seconds}
    content |= {"metrics": dict(metrics), "leaves": _leaves(tree)}
    write_whole(path, serialization.msgpack_serialize(content, in_place=True))  # a copy would have its names sorted


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        ConfigError: it can't be read.
    """
    try:
        content = serialization.msgpack_restore(path.read_bytes())
        leaves = [content["leaves"][str(i)] for i in range(len(content["leaves"]))]
        return Checkpoint(**{**content, "leaves": leaves})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError("out", path, f"a readable checkpoint, or no such file; {error}") from error


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

"""Where agents under way stand, in one file: enough to go on bit for bit."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

from jaxppo.fields import ConfigError
from jaxppo.files import write_whole

__all__ = ["Checkpoint", "read_checkpoint", "restore", "write_checkpoint"]


class Checkpoint(NamedTuple):
    """Agents under way.

    Attributes:
        agents: their numbers.
        num_agents: how many the program trains at once, those that fill it up included.
        done: updates done.
        seconds: time spent training.
        metrics: [R, done] each, by name.
        leaves: of what else they are made of, in the order of `jax.tree.leaves`; keys as their data.
    """

    agents: list[int]
    num_agents: int
    done: int
    seconds: float
    metrics: dict[str, np.ndarray]
    leaves: list[np.ndarray]


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
    leaves = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(tree)]
    arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.device_get(leaves))}
    content = {"agents": agents, "num_agents": num_agents, "done": done, "seconds": seconds}
    content |= {"metrics": dict(metrics), "leaves": arrays}
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


def restore(checkpoint: Checkpoint, like: Any) -> Any:
    """The pytree that was saved; `like` has its structure, shapes and types.

    Raises:
        ConfigError: the checkpoint is of something else.
    """
    shapes, structure = jax.tree.flatten(like)
    if len(shapes) != len(checkpoint.leaves):
        raise ConfigError("checkpoint", f"{len(checkpoint.leaves)} arrays", f"one of {len(shapes)} arrays")
    leaves = []
    for saved, shape in zip(checkpoint.leaves, shapes, strict=True):
        leaf = jnp.asarray(saved)
        if _is_key(shape):
            leaf = jax.random.wrap_key_data(leaf)
        if (leaf.shape, leaf.dtype) != (shape.shape, shape.dtype):
            raise ConfigError("checkpoint", f"{leaf.dtype}{leaf.shape}", f"{shape.dtype}{shape.shape} here")
        leaves.append(leaf)
    return jax.tree.unflatten(structure, leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

"""The metrics of each gradient step as one row of a table, where each by itself would be a kernel that writes it."""

from collections.abc import Callable
from typing import Any

import jax
from flax import struct
from jax.flatten_util import ravel_pytree

from jaxppo import backend
from jaxppo.interop import default_promotion

__all__ = ["as_row", "from_rows"]


class _Row(struct.PyTreeNode):
    """Metrics as one vector, or as many as there are axes in front."""

    values: jax.Array
    unpack: Callable[[jax.Array], Any] = struct.field(pytree_node=False)


def as_row(metrics: dict[str, jax.Array]) -> Any:
    """What a gradient step should return in place of its metrics []."""
    if not backend.launches_count():
        return metrics
    with default_promotion():
        return _Row(*ravel_pytree(metrics))


def from_rows(rows: Any) -> dict[str, jax.Array]:
    """The metrics, with the axes [num_epochs, num_minibatches] that two scans have put in front."""
    return jax.vmap(jax.vmap(rows.unpack))(rows.values) if isinstance(rows, _Row) else rows

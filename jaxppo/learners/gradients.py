"""The gradient of a loss on a minibatch: at once, part by part, or in one kernel of a GPU."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxppo.learners.minibatches import Samples, num_parts

__all__ = ["Loss", "in_kernel", "over_parts"]

Loss = Callable[[jax.Array, Samples], tuple[jax.Array, dict[str, Any]]]
"""Of parameters as one vector [P] and a minibatch: the loss, and metrics."""


def over_parts(loss: Loss, vector: jax.Array, minibatch: Samples, divides: bool) -> tuple[jax.Array, dict[str, Any]]:
    """The gradient [P] and the metrics on a minibatch; on a large one as means over its parts, where it `divides`.

    On a CPU they are then worked off one by one, so that what the layers keep for the way back stays in its caches.
    """
    gradient = jax.grad(loss, has_aux=True)

    def add(total: jax.Array, part: Samples) -> tuple[jax.Array, dict[str, Any]]:
        grad, metrics = gradient(vector, part)
        return total + grad, metrics

    count = num_parts(len(minibatch.value)) if divides else 1
    if count == 1:
        return gradient(vector, minibatch)
    parts = jax.tree.map(lambda x: x.reshape((count, -1, *x.shape[1:])), minibatch)
    total, metrics = jax.lax.scan(add, jnp.zeros_like(vector), parts)

    def over_all(name: str, each: Any) -> Any:
        return jax.tree.map(partial(jnp.max if name == "ratio_max" else jnp.mean, axis=0), each)

    return total / count, {name: over_all(name, each) for name, each in metrics.items()}


def in_kernel(
    loss: Callable[..., Any] | None, vector: jax.Array, unravel: Callable[[jax.Array], Any], minibatch: Samples
) -> tuple[jax.Array, dict[str, Any]] | None:
    """The same by one kernel of a GPU, of `loss(params, minibatch=part)`; None, as without a loss, if it is XLA's."""
    if loss is None:
        return None
    # Imported here, since it takes a second that no CPU has a use for.
    from jaxppo.kernels.mean import mean_over_parts

    def gradient(params: Any, part: Samples) -> tuple[Any, jax.Array]:
        grad, metrics = jax.grad(loss, has_aux=True)(params, minibatch=part)
        ratio_max = metrics.pop("ratio_max")
        return (grad, metrics), ratio_max

    results = mean_over_parts(gradient, vector, unravel, minibatch)
    if results is None:
        return None
    (grad, metrics), ratio_max = results
    return ravel_pytree(grad)[0], {**metrics, "ratio_max": ratio_max}

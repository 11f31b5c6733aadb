"""Agents from Python, spread over the devices."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.compilation import program
from jaxppo.config import Config, field_name
from jaxppo.devices import fill, spread
from jaxppo.fields import check
from jaxppo.keys import typed_keys
from jaxppo.training import train
from jaxppo.types import Result

__all__ = ["train_agents"]


def train_agents(config: Config, keys: jax.Array) -> Result:
    """Train an agent with each of the keys: `jax.vmap(jaxppo.train)`, but on all local devices at once.

    Agents of which a device has several are trained side by side, and on a CPU a few at a time. A single agent has the
    devices of a CPU to itself, if its minibatches are large enough to divide, or two of them if no limit of the
    gradient's norm joins policy and value. What each agent becomes does not depend on any of that, but for rounding
    (with JAX's own kind of keys, threefry). Works inside `jax.jit`.

    Args:
        config: what to train and how. Numbers in it are for all agents alike, and arrays [R, …] have one for each.
        keys: R of them, as from `jax.random.split`. Consumed.

    Returns:
        As of `train`, with leaves [R, …], each agent's where it was trained: those of a single one on several devices.

    Raises:
        ConfigError: keys that are no row of keys, or an array in the config that is not as long.
        TypeError: differentiation of a single agent whose policy and value two devices learn; `train` has derivatives.
    """
    keys = typed_keys(keys)
    for path, leaf in jax.tree_util.tree_leaves_with_path(config):
        allowed = f"one number, or {len(keys)} in a row, as there are keys"
        check(
            np.ndim(leaf) == 0 or len(leaf) == len(keys), field_name(path), f"array of shape {np.shape(leaf)}", allowed
        )
    return _train_agents(*jax.device_put((config, keys), spread(config, len(keys)).everywhere))


@program
def _train_agents(config: Config, keys: jax.Array) -> Result:
    num_agents = len(keys)
    agents = spread(config, num_agents)
    each = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_agents, *x.shape)) if x.ndim == 0 else x, config)
    everyone = agents.over(lambda _, *agent: train(*agent))
    return jax.tree.map(lambda x: x[:num_agents], everyone(None, *fill((each, keys), agents.num_agents)))

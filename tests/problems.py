"""A small learning problem with everything at hand: network, parameters, and a batch of another policy."""

import jax
import jax.numpy as jnp

import jaxppo
from jaxppo.envs import Discrete
from jaxppo.types import Batch

T, N = 8, 4
M = T * N


def perturbed(params, scale, seed):
    """The parameters with noise on every one."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [scale * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [leaf + x for leaf, x in zip(leaves, noise, strict=True)])


def problem(space=None, distance=0.3, seed=0):
    """A network, its parameters, and a batch that a policy at some distance collected."""
    network = jaxppo.MLP(hidden=(8,)).build(jax.ShapeDtypeStruct((3,), jnp.float32), space or Discrete(3))
    params = perturbed(network.init(jax.random.key(seed)), 0.5, seed + 1)
    keys = jax.random.split(jax.random.key(seed + 2), 4)
    obs = jax.random.normal(keys[0], (T, N, 3))
    old_params = perturbed(params, distance, seed + 3)
    _, old, value = network.apply(old_params, (), obs.reshape(M, 3), jnp.zeros(M, bool))
    action = old.sample(keys[1])

    def shaped(x):
        return x.reshape(T, N, *x.shape[1:])

    advantage = 1 + 2 * jax.random.normal(keys[2], (T, N))
    target = shaped(value) + jax.random.normal(keys[3], (T, N))
    batch = Batch(
        obs=obs,
        reset=jnp.zeros((T, N), bool),
        carry=(),
        action=shaped(action),
        old=jax.tree.map(shaped, old),
        value=shaped(value),
        advantage=advantage,
        target=target,
    )
    return network, params, batch


def rows(x):
    """[T, N, …] as [T·N, …]."""
    return x.reshape(M, *x.shape[2:])

"""Which parameters are the policy's, and which the value's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxppo
from jaxppo.distributions import Gaussian
from jaxppo.learners.halves import halves
from jaxppo.networks import Network

KEY = jax.random.key(0)


def division(config):
    """Parameters, and how they divide."""
    network = config.make_network()
    params = network.init(KEY)
    return params, halves(network, params, config.make_env().observation)


def names(params, found):
    """Of the value's parameters."""
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(params)]
    return {path.split("/")[0] for path, own in zip(paths, found.is_value, strict=True) if own}


NETWORKS = {
    "perceptron": (jaxppo.MLP(), {"critic_0", "critic_1", "value"}),
    "normalised, with memory": (
        jaxppo.MLP(hidden=(8,), layer_norm=True, memory="gru", memory_size=4),
        {"critic_0", "critic_0_norm", "critic_memory", "value"},
    ),
    "a module": (jaxppo.Custom(module=nn.Dense(4)), {"critic_module", "value"}),
}


@pytest.mark.parametrize(("network", "expected"), NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_parameters_of_the_value(network, expected, env):
    """Those of the critic; all others, a deviation that no state changes among them, are the policy's."""
    params, found = division(jaxppo.Config(env=env, network=network))
    assert names(params, found) == expected


def test_convolutions():
    """Each torso has its own."""
    params, found = division(jaxppo.Config(env="Breakout-MinAtar", network=jaxppo.CNN()))
    assert names(params, found) == {"critic_0_conv_0", "critic_0", "value"}


def test_shared_layers_do_not_divide():
    """Nor does a network with anything in common."""
    assert division(jaxppo.Config(network=jaxppo.MLP(shared=True)))[1] is None


def test_a_carry_takes_along():
    """What one step leaves in it, the next may compute a value from."""

    def apply(params, carry, obs, reset):
        state = jnp.tanh(obs @ params["in"] + carry @ params["on"])
        return state, Gaussian(state, state), (carry @ params["value"])[:, 0]

    sizes = {"in": (3, 4), "on": (4, 4), "value": (4, 1), "unused": (2,)}
    params = {name: jnp.ones(size) for name, size in sizes.items()}
    observation = jax.ShapeDtypeStruct((3,), jnp.float32)
    network = Network(lambda key: params, lambda num_envs: jnp.zeros((num_envs, 4)), apply)
    assert halves(network, params, observation) is None

    def forgetful(params, carry, obs, reset):
        _, distribution, _ = apply(params, jnp.zeros_like(carry), obs, reset)
        return carry + 1, distribution, (carry @ params["value"])[:, 0]

    found = halves(network._replace(apply=forgetful), params, observation)
    assert names(params, found) == {"value"}


def test_there_and_back():
    """Halves of vectors are those of trees, and make the whole again."""
    params, found = division(jaxppo.Config(env="Pendulum-v1"))
    vector, unravel = jax.flatten_util.ravel_pytree(params)
    numbers = jnp.arange(len(vector), dtype=jnp.float32)
    policy, value = (found.half_of_vector(numbers, of_value) for of_value in (False, True))
    assert not set(policy.tolist()) & set(value.tolist())
    np.testing.assert_array_equal(found.join_vectors(policy, value), numbers)
    tree = unravel(numbers)
    for of_value, own in ((False, policy), (True, value)):
        leaves = found.half(tree, of_value)
        np.testing.assert_array_equal(jnp.concatenate([x.ravel() for x in leaves]), own)
        changed = found.put(tree, [-x for x in leaves], of_value)
        for name, of_critic in (("actor_0", False), ("critic_0", True)):
            sign = -1 if of_critic is of_value else 1
            np.testing.assert_array_equal(changed[name]["kernel"], sign * tree[name]["kernel"])

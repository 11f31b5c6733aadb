"""Counted operations against hand counts: two for each multiplication and addition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxppo
from jaxppo.envs.base import Discrete
from jaxppo.flops import count_work

KEY = jax.random.key(0)


def forward(network, params, obs, carry=()):
    """Sum of the value and of what the distribution is made of: everything that both heads give."""
    rows = jax.tree.leaves(obs)[0].shape[0]
    _, distribution, value = network.apply(params, carry, obs, jnp.zeros(rows, bool))
    return sum(map(jnp.sum, jax.tree.leaves((distribution, value))))


def counts(network, obs):
    """Operations forward, and forward and backward with respect to the parameters."""
    params = jax.eval_shape(network.init, KEY)
    carry = network.initial_carry(obs.shape[0])
    once = count_work(lambda params: forward(network, params, obs, carry), params).flops
    return once, count_work(jax.value_and_grad(lambda params: forward(network, params, obs, carry)), params).flops


@pytest.mark.parametrize("actions", [2, 6])
def test_mlp(actions):
    """Two torsos of 4 → 64 → 64 and heads, narrow (a sum of products) or not; the observation needs no gradient."""
    network = jaxppo.MLP().build(jax.ShapeDtypeStruct((4,), jnp.float32), Discrete(actions))
    layers = 2 * 4 * 64 + 2 * 64 * 64 + 64 * actions + 64 * 1
    once, both = counts(network, jnp.zeros((10, 4)))
    assert once == 10 * 2 * layers
    assert both == 10 * 2 * (3 * layers - 2 * 4 * 64)


def test_shared_mlp():
    """One torso."""
    network = jaxppo.MLP(shared=True).build(jax.ShapeDtypeStruct((4,), jnp.float32), Discrete(2))
    assert counts(network, jnp.zeros((10, 4)))[0] == 10 * 2 * (4 * 64 + 64 * 64 + 64 * 2 + 64)


@pytest.mark.parametrize("own", [False, True])
def test_convolution(own):
    """16 filters of 3×3×4 at 8×8 places of a 10×10 image: as patches times a matrix, or as flax's convolution."""

    class Convolved(nn.Module):
        @nn.compact
        def __call__(self, obs):
            x = nn.Conv(16, (3, 3), padding="VALID")(obs)
            return nn.relu(x).reshape(obs.shape[0], -1)

    spec = jaxppo.Custom(module=Convolved(), hidden=(128,)) if own else jaxppo.CNN()
    network = spec.build(jax.ShapeDtypeStruct((10, 10, 4), jnp.float32), Discrete(3))
    convolution, dense = 8 * 8 * 16 * 3 * 3 * 4, 8 * 8 * 16 * 128
    once, both = counts(network, jnp.zeros((5, 10, 10, 4)))
    assert once == 5 * 2 * (2 * (convolution + dense) + 128 * 3 + 128)
    assert both == 5 * 2 * (2 * (2 * convolution + 3 * dense) + 3 * (128 * 3 + 128))


@pytest.mark.parametrize(("memory", "gates"), [("gru", 3), ("lstm", 4)])
def test_recurrence_over_a_segment(memory, gates):
    """Each step of a scan counts: an input and a recurrent matrix for every gate, for policy and value."""
    spec = jaxppo.MLP(hidden=(8,), memory=memory, memory_size=16)
    network = spec.build(jax.ShapeDtypeStruct((4,), jnp.float32), Discrete(2))
    params, carry = jax.eval_shape(network.init, KEY), network.initial_carry(3)
    obs, reset = jnp.zeros((7, 3, 4)), jnp.zeros((7, 3), bool)
    work = count_work(network.replay, params, carry, obs, reset)
    assert work.flops == 7 * 3 * 2 * (2 * (4 * 8 + 8 * gates * 16 + 16 * gates * 16) + 16 * 2 + 16)
    recurrent = [product for product in work.products if product.left == (3, 16)]
    assert [work.products[product] for product in recurrent] == [2 * 7]


def test_products_under_vmap_and_in_branches():
    """Agents side by side multiply the work; of two branches the dearer one counts; whole numbers don't."""
    a, b = jnp.zeros((5, 2, 3)), jnp.zeros((5, 3, 4))
    assert count_work(jax.vmap(jnp.matmul), a, b).flops == 5 * 2 * 2 * 3 * 4
    branches = count_work(lambda x, y: jax.lax.cond(x[0, 0] > 0, lambda: x @ y, lambda: jnp.zeros((2, 4))), a[0], b[0])
    assert branches.flops == 2 * 2 * 3 * 4
    assert count_work(jnp.matmul, a[0].astype(jnp.int32), b[0].astype(jnp.int32)).flops == 0


def test_a_loop_of_unknown_length_is_not_known():
    """NaN if there are products in it, and nothing if not."""
    square = jnp.zeros((3, 3))
    grow = count_work(lambda n: jax.lax.fori_loop(0, n, lambda _, x: x @ x, square), 4)
    assert np.isnan(grow.flops)
    assert count_work(lambda n: jax.lax.fori_loop(0, n, lambda _, x: x + x, square), 4).flops == 0


def test_what_nothing_depends_on_is_no_work():
    """A product whose result is thrown away."""
    square = jnp.zeros((3, 3))
    assert count_work(lambda x: (x @ x, x + x)[1], square).flops == 0


def test_an_update_of_cartpole():
    """The default config does about 228 kFLOP per environment step.

    Collection is a pass forward of 17,792 operations. Each of 4 epochs is one forward and one backward without the
    gradient of the observations, 52,352, and each of its 4 steps takes the norm of the gradient. The last and the
    truncated observation of each environment get a value. The rest is a few sums of products per sample in the loss.
    """
    config = jaxppo.Config()
    state = jax.eval_shape(lambda: jaxppo.init(config, KEY))
    flops = count_work(lambda state: jaxppo.update(config, state), state).flops
    values = 2 * 4 * 2 * (4 * 64 + 64 * 64 + 64)
    norms = 4 * 4 * 2 * (2 * (4 * 64 + 64 + 64 * 64 + 64) + (64 * 2 + 2) + (64 + 1))
    rest = flops - 512 * (17_792 + 4 * 52_352) - values - norms
    assert 0 <= rest < 512 * 4 * 50
    assert flops / 512 == pytest.approx(228_000, rel=0.005)

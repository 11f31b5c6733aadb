"""Networks: initial weights, what is shared, what goes in and what comes out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo.distributions import Categorical, Gaussian
from jaxppo.envs import Box, Discrete

KEY = jax.random.key(0)
BOX = Box(-1.0, 1.0, (2, 3))


def build(spec, space, shape=(6,), dtype=jnp.float32):
    """The network and fresh parameters."""
    network = spec.build(jax.ShapeDtypeStruct(shape, dtype), space)
    return network, network.init(KEY)


def run(network, params, obs):
    """Distribution and value of a batch."""
    carry, distribution, value = network.apply(params, (), obs, jnp.zeros(len(obs), bool))
    assert carry == ()
    return distribution, value


@pytest.mark.parametrize(("space", "outputs"), [(Discrete(3), 3), (Discrete(1), 1), (BOX, 6), (Box(-1, 1, (1,)), 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_orthogonal_layers_with_their_gains(space, outputs, shared):
    """Every weight matrix is gain × orthonormal: √2 hidden, 0.01 policy, 1 value; every bias is 0."""
    _, params = build(jaxppo.MLP(hidden=(16, 8), shared=shared), space)
    assert params["policy"]["kernel"].shape == (8, outputs)
    for name, layer in params.items():
        if name == "log_std":
            continue
        gain = {"policy": 0.01, "value": 1.0}.get(name, 2**0.5)
        w = np.asarray(layer["kernel"], np.float64)
        gram = w.T @ w if w.shape[0] >= w.shape[1] else w @ w.T
        np.testing.assert_allclose(gram, gain**2 * np.eye(len(gram)), atol=1e-5 * gain**2)
        np.testing.assert_array_equal(layer["bias"], np.zeros(w.shape[1]))


def test_not_orthogonal_on_request():
    """With orthogonal=False the hidden weights are not orthonormal."""
    _, params = build(jaxppo.MLP(hidden=(16,), orthogonal=False), Discrete(2))
    w = np.asarray(params["actor_0"]["kernel"])
    assert np.abs(w @ w.T - np.diag(np.diag(w @ w.T))).max() > 0.01


def test_torsos_start_different():
    """The actor's and the critic's hidden layers are drawn apart."""
    _, params = build(jaxppo.MLP(hidden=(16, 8)), Discrete(2))
    assert jnp.abs(params["actor_0"]["kernel"] - params["critic_0"]["kernel"]).max() > 0.1


def test_separate_torsos_do_not_touch_each_other():
    """The policy's gradient is zero in the critic's layers, and the value's in the actor's."""
    network, params = build(jaxppo.MLP(hidden=(8,)), Discrete(3))
    obs = jax.random.normal(KEY, (5, 6))
    policy = jax.grad(lambda p: jnp.sum(run(network, p, obs)[0].log_prob(jnp.zeros(5, jnp.int32))))(params)
    value = jax.grad(lambda p: jnp.sum(run(network, p, obs)[1]))(params)
    assert set(params) == {"actor_0", "critic_0", "policy", "value"}
    for name in params:
        moved = [any(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(grad[name])) for grad in (policy, value)]
        assert moved == ([True, False] if name in ("actor_0", "policy") else [False, True])


def test_a_shared_torso_gets_both_gradients():
    """With shared=True there is one torso, moved by the policy and by the value."""
    network, params = build(jaxppo.MLP(hidden=(8,), shared=True), Discrete(3))
    obs = jax.random.normal(KEY, (5, 6))
    assert set(params) == {"shared_0", "policy", "value"}
    for loss in (
        lambda p: jnp.sum(run(network, p, obs)[0].log_prob(jnp.zeros(5, jnp.int32))),
        lambda p: jnp.sum(run(network, p, obs)[1]),
    ):
        assert jnp.any(jax.grad(loss)(params)["shared_0"]["kernel"] != 0)


@pytest.mark.parametrize("log_std_init", [0.0, -0.7])
def test_log_std_is_a_parameter_that_ignores_the_state(log_std_init):
    """The Gaussian's log-std starts where the config says and is the same for every observation."""
    network, params = build(jaxppo.MLP(log_std_init=log_std_init), BOX)
    np.testing.assert_array_equal(params["log_std"], np.full(6, log_std_init, np.float32))
    distribution, _ = run(network, params, jax.random.normal(KEY, (5, 6)))
    np.testing.assert_array_equal(distribution.log_std, np.full((5, 6), log_std_init, np.float32))


@pytest.mark.parametrize(("space", "kind", "sample"), [(Discrete(4), Categorical, (5,)), (BOX, Gaussian, (5, 6))])
def test_shapes(space, kind, sample):
    """A batch of five observations makes five distributions and five values."""
    network, params = build(jaxppo.MLP(), space, shape=(2, 3))
    distribution, value = run(network, params, jnp.ones((5, 2, 3)))
    assert isinstance(distribution, kind)
    assert distribution.sample(KEY).shape == sample
    assert distribution.entropy().shape == value.shape == (5,)
    assert network.initial_carry(5) == ()


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.bool_, jnp.float16])
@pytest.mark.parametrize("shape", [(), (4,), (2, 2, 3)])
def test_observations_of_any_numeric_dtype_and_shape(dtype, shape):
    """Observations are flattened and cast: what comes out is what float32 gives."""
    network, params = build(jaxppo.MLP(), Discrete(2), shape, dtype)
    obs = jax.random.bernoulli(KEY, 0.5, (7, *shape))
    distribution, value = run(network, params, obs.astype(dtype))
    flat_network, _ = build(jaxppo.MLP(), Discrete(2), (int(np.prod(shape)),))
    expected, expected_value = run(flat_network, params, obs.astype(jnp.float32).reshape(7, -1))
    np.testing.assert_array_equal(distribution.logits, expected.logits)
    np.testing.assert_array_equal(value, expected_value)
    assert distribution.logits.dtype == value.dtype == jnp.float32


@pytest.mark.parametrize(
    ("activation", "function"),
    [("tanh", np.tanh), ("relu", lambda x: np.maximum(x, 0)), ("swish", lambda x: x / (1 + np.exp(-x)))],
)
def test_forward_pass_in_numpy(activation, function):
    """The value of a two-layer network, multiplied out by hand."""
    network, params = build(jaxppo.MLP(hidden=(8, 5), activation=activation), Discrete(3))
    params = jax.tree.map(lambda x: x + 0.1, params)
    obs = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    distribution, value = run(network, params, jnp.asarray(obs))
    for torso, head, found in (("actor", "policy", distribution.logits), ("critic", "value", value[:, None])):
        x = obs
        for layer in (params[f"{torso}_0"], params[f"{torso}_1"]):
            x = function(x @ layer["kernel"] + np.asarray(layer["bias"])[None])
        x = x @ params[head]["kernel"] + np.asarray(params[head]["bias"])[None]
        if head == "policy":
            x = x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))
        np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", [Discrete(3), Discrete(2), Box(-1, 1, (1,)), BOX], ids=str)
def test_rows_do_not_depend_on_the_batch(space):
    """An observation's outputs are the same to the bit in batches of any size, so that ratios are exactly 1."""
    network, params = build(jaxppo.MLP(), space)
    params = jax.tree.map(lambda x: x + 0.05, params)
    apply = jax.jit(lambda obs: run(network, params, obs)[0])
    obs = jax.random.normal(KEY, (512, 6))
    whole = apply(obs)
    for size in (4, 128):
        parts = [apply(part) for part in jnp.split(obs, 512 // size)[:3]]
        found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[: len(a)]), found, whole)

"""Networks: initial weights, what is shared, what goes in and what comes out."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy.stats import beta, kstest, truncnorm

import jaxppo
from jaxppo.distributions import Beta, Categorical, Gaussian, TanhGaussian
from jaxppo.envs import Box, Discrete, MultiDiscrete
from jaxppo.networks.heads import policy_head
from jaxppo.networks.layers import Conv, NarrowDense, Recurrent

KEY = jax.random.key(0)
BOX = Box(-1.0, 1.0, (2, 3))


def build(spec, space, shape=(6,), dtype=jnp.float32):
    """The network and fresh parameters."""
    network = spec.build(jax.ShapeDtypeStruct(shape, dtype), space)
    return network, network.init(KEY)


def run(network, params, obs):
    """Distribution and value of a batch."""
    carry, distribution, value = network.apply(params, (), obs, jnp.zeros(len(jax.tree.leaves(obs)[0]), bool))
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


def test_orthogonal_layers_are_uniformly_distributed():
    """An element of a random unit vector of 8, squared, has the distribution Beta(1/2, 7/2), in layers of any shape."""
    network, _ = build(jaxppo.MLP(hidden=(8, 8)), Discrete(2), shape=(3,))
    params = jax.jit(jax.vmap(network.init))(jax.random.split(KEY, 2000))
    kernels = {name: np.asarray(layer["kernel"]) for name, layer in params.items()}
    gains = {name: {"policy": 0.01, "value": 1.0}.get(name, 2**0.5) for name in kernels}
    assert {kernel.shape[1:] for kernel in kernels.values()} == {(3, 8), (8, 8), (8, 2), (8, 1)}
    for name, kernel in kernels.items():
        element = kernel[:, -1, -1] / gains[name]
        assert kstest(element**2, beta(0.5, 3.5).cdf).pvalue > 1e-3
        assert abs(np.mean(element > 0) - 0.5) < 0.05
    apart = np.corrcoef([kernel[:, 0, 0] for kernel in kernels.values()]) - np.eye(len(kernels))
    assert np.abs(apart).max() < 0.1


def test_not_orthogonal_on_request():
    """With orthogonal=False the hidden weights are not orthonormal."""
    _, params = build(jaxppo.MLP(hidden=(16,), orthogonal=False), Discrete(2))
    w = np.asarray(params["actor_0"]["kernel"])
    assert np.abs(w @ w.T - np.diag(np.diag(w @ w.T))).max() > 0.01


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        (jaxppo.MLP(hidden=(8, 5), orthogonal=False), (3,)),
        (jaxppo.MLP(hidden=(4,), memory="gru", memory_size=4, orthogonal=False), (3,)),
        (jaxppo.CNN(hidden=(4,), filters=(2,), orthogonal=False), (4, 4, 2)),
    ],
    ids=["mlp", "gru", "cnn"],
)
def test_lecun_layers(spec, shape):
    """With orthogonal=False weights are truncated normal ones of variance one over the inputs; biases are 0."""
    network, _ = build(spec, Discrete(2), shape)
    params = jax.jit(jax.vmap(network.init))(jax.random.split(KEY, 20_000))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    corners = []
    for path, leaf in leaves:
        values = np.asarray(leaf)
        if path[-1].key == "bias":
            np.testing.assert_array_equal(values, 0)
            continue
        inputs = values.shape[1]
        assert abs(values.var() * inputs - 1) < 0.03
        for element in (values[:, 0, 0], values[:, -1, -1]):
            scaled = element * np.sqrt(inputs) * truncnorm(-2, 2).std()
            assert kstest(scaled, truncnorm(-2, 2).cdf).pvalue > 1e-4
            corners.append(scaled)
    assert len(corners) >= 12
    assert np.abs(np.corrcoef(corners) - np.eye(len(corners))).max() < 0.04


def test_a_module_of_ones_own_draws_its_weights():
    """With orthogonal=False too, and not from the key of the other layers."""
    module = nn.Dense(5, kernel_init=nn.initializers.uniform(1.0))
    _, params = build(jaxppo.Custom(module=module, hidden=(4,), orthogonal=False), Discrete(2))
    drawn = np.asarray(params["actor_module"]["kernel"])
    assert drawn.shape == (6, 5)
    assert 0 <= drawn.min() < 0.2
    assert 0.8 < drawn.max() <= 1
    assert np.unique(drawn).size == drawn.size


def test_weights_are_of_single_precision():
    """Also where JAX draws in double precision unless told otherwise."""
    with jax.enable_x64(True):
        for orthogonal in (True, False):
            _, params = build(jaxppo.MLP(hidden=(4,), orthogonal=orthogonal), Discrete(2))
            assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}


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


@pytest.mark.parametrize("log_std_init", [0.0, -0.7])
@pytest.mark.parametrize("box_policy", ["gaussian", "tanh"])
def test_a_log_std_of_outputs(box_policy, log_std_init):
    """It starts where the config says where outputs are 0, and is otherwise that of a softplus with a floor."""
    spec = jaxppo.MLP(state_dependent_std=True, log_std_init=log_std_init, box_policy=box_policy)
    network, params = build(spec, BOX)
    assert "log_std" not in params
    assert params["policy"]["kernel"].shape == (64, 12)
    obs = jax.random.normal(KEY, (5, 6))
    silent = {**params, "policy": jax.tree.map(jnp.zeros_like, params["policy"])}
    np.testing.assert_allclose(run(network, silent, obs)[0].log_std, np.full((5, 6), log_std_init), atol=1e-6)

    loud = {**params, "policy": {**params["policy"], "kernel": 300 * params["policy"]["kernel"]}}
    distribution, _ = run(network, loud, obs)
    x = np.asarray(obs, np.float64)
    for name in ("actor_0", "actor_1"):
        x = np.tanh(x @ np.asarray(params[name]["kernel"], np.float64))
    mean, spread = np.split(x @ np.asarray(loud["policy"]["kernel"], np.float64), 2, axis=1)
    std = np.exp(log_std_init) * (np.log1p(np.exp(spread)) + 0.001) / (np.log(2) + 0.001)
    np.testing.assert_allclose(distribution.mean, mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.exp(distribution.log_std), std, rtol=1e-4)
    assert np.ptp(std, axis=0).min() > 0.1


def test_a_log_std_of_outputs_stays_finite():
    """And its gradient, however small the standard deviation should become: no less than 0.001 before it is scaled."""
    head = policy_head(BOX, "gaussian", None, 0.0)
    for output in (-1e4, -100.0, 100.0, 1e4):
        outputs = jnp.full((1, 12), output)
        log_std, grad = jax.value_and_grad(lambda x: head.distribution(x, None, None).log_std.sum())(outputs)
        assert np.isfinite(log_std)
        assert np.all(np.isfinite(grad))
        assert log_std / 6 >= np.log(0.001 / (np.log(2) + 0.001)) - 1e-3


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


def differences_by_batch(space):
    """Largest differences between outputs in a batch of 512 and in batches of 4 and of 128."""
    network, params = build(jaxppo.MLP(), space)
    params = jax.tree.map(lambda x: x + 0.05, params)
    apply = jax.jit(lambda obs: run(network, params, obs)[0])
    obs = jax.random.normal(KEY, (512, 6))
    whole = apply(obs)
    for size in (4, 128):
        parts = [apply(part) for part in jnp.split(obs, 512 // size)[:3]]
        found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(whole), strict=True):
            yield np.max(np.abs(a - b[: len(a)]))


@pytest.mark.rounding
@pytest.mark.parametrize("space", [Discrete(3), Discrete(2), Box(-1, 1, (1,))], ids=str)
def test_rows_do_not_depend_on_the_batch(space):
    """An observation's outputs are the same in batches of any size, so that ratios are 1; on JAX 0.9 to the bit."""
    assert max(differences_by_batch(space)) <= (0 if jax.__version_info__ < (0, 11) else 2e-6)


@pytest.mark.parametrize("num_inputs", [5, 32, 50, 64, 96])
def test_a_narrow_layer_against_a_matrix_product(num_inputs):
    """Also its gradients, whether its inputs are whole runs of what is summed up at once or not."""
    layer = NarrowDense(3, nn.initializers.normal())
    x = jax.random.normal(jax.random.key(0), (7, num_inputs))
    weights = layer.init(jax.random.key(1), x)
    weights = jax.tree.map(lambda w: w + 1, weights)  # biases too
    dy = jax.random.normal(jax.random.key(2), (7, 3))
    outputs, backward = jax.vjp(layer.apply, weights, x)
    of_weights, of_x = backward(dy)
    kernel, bias, rows, wanted = (
        np.asarray(each, np.float64) for each in (weights["params"]["kernel"], weights["params"]["bias"], x, dy)
    )
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    close(outputs, rows @ kernel + bias)
    close(of_x, wanted @ kernel.T)
    close(of_weights["params"]["kernel"], rows.T @ wanted)
    close(of_weights["params"]["bias"], wanted.sum(0))


def test_rows_of_a_wide_head_depend_on_the_batch_by_rounding_only():
    """Its product may be summed in another order, which depends on the processor."""
    assert max(differences_by_batch(BOX)) < 2e-6


def sequences(kind, obs_size=3, num_steps=7, num_envs=4):
    """A recurrent network with perturbed parameters, a carry, and observations with resets here and there."""
    network, params = build(jaxppo.MLP(hidden=(5,), memory=kind, memory_size=6), Discrete(3), (obs_size,))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(KEY, x.shape), params)
    keys = jax.random.split(jax.random.key(1), 3)
    carry = jax.tree.map(lambda x: jax.random.normal(keys[0], x.shape), network.initial_carry(num_envs))
    obs = jax.random.normal(keys[1], (num_steps, num_envs, obs_size))
    return network, params, carry, obs, jax.random.bernoulli(keys[2], 0.3, (num_steps, num_envs))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_recurrent_layers_against_flax(kind):
    """Outputs over a segment with resets are those of flax's cell, given the same weights, one step after the other."""
    size, gates = 6, {"gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}[kind]
    layer = Recurrent(kind, size, nn.initializers.normal(0.5))
    keys = jax.random.split(KEY, 4)
    x, reset = jax.random.normal(keys[0], (9, 4, 5)), jax.random.bernoulli(keys[1], 0.3, (9, 4))
    h = jax.random.normal(keys[2], (4, size))
    carry = (0.3 * h, h) if kind == "lstm" else h
    params = layer.init(keys[3], carry, x, reset)["params"]
    bias = 0.1 * jnp.arange(size * len(gates), dtype=jnp.float32)
    params["input"]["bias"] = bias
    last, found = layer.apply({"params": params}, carry, x, reset)

    into, across = (jnp.split(k, len(gates), axis=1) for k in (params["input"]["kernel"], params["recurrent"]))
    biases = jnp.split(bias, len(gates))
    cell_params = {}
    for gate, w, u, b in zip(gates, into, across, biases, strict=True):
        cell_params[f"i{gate}"] = {"kernel": w} if kind == "lstm" else {"kernel": w, "bias": b}
        cell_params[f"h{gate}"] = {"kernel": u, "bias": b} if kind == "lstm" else {"kernel": u}
    if kind == "gru":
        cell_params["hn"]["bias"] = jnp.zeros(size)
    cell = (nn.OptimizedLSTMCell if kind == "lstm" else nn.GRUCell)(size)
    for t in range(len(x)):
        carry = jax.tree.map(lambda c, t=t: jnp.where(reset[t][:, None], 0.0, c), carry)
        with jax.numpy_rank_promotion("allow"):
            carry, expected = cell.apply({"params": cell_params}, carry, x[t])
        np.testing.assert_allclose(found[t], expected, rtol=1e-4, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), last, carry)


@pytest.mark.parametrize("kind", ["none", "gru", "lstm"])
@pytest.mark.parametrize("by_hand", [False, True])
def test_a_segment_at_once_or_step_by_step(kind, by_hand):
    """`replay` gives what `apply` gives at each step, also for a network that has no `unroll` of its own."""
    network, params, carry, obs, reset = sequences(kind)
    assert network.recurrent == (kind != "none")
    if by_hand:
        network = network._replace(unroll=None)
    distribution, value = network.replay(params, carry, obs, reset)
    for t in range(len(obs)):
        carry, expected, expected_value = network.apply(params, carry, obs[t], reset[t])
        np.testing.assert_allclose(distribution.logits[t], expected.logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(value[t], expected_value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_memory_reaches_back_to_the_reset_and_no_further(kind):
    """Outputs depend on what the episode showed before, and on nothing before the episode."""
    network, params, carry, obs, _ = sequences(kind)
    reset = jnp.zeros(obs.shape[:2], bool).at[3].set(True)
    value = network.replay(params, carry, obs, reset)[1]
    for changed, reaches in ((2, 3), (4, 7)):
        other = network.replay(params, carry, obs.at[changed].add(1.0), reset)[1]
        np.testing.assert_array_equal(
            np.any(value != other, axis=1), (np.arange(7) >= changed) & (np.arange(7) < reaches)
        )


def test_recurrent_weights_start_orthogonal():
    """Both matrices of a recurrent layer have gain 1, and its bias is 0."""
    _, params = build(jaxppo.MLP(hidden=(16,), memory="lstm", memory_size=4), Discrete(2))
    assert set(params) == {"actor_0", "actor_memory", "critic_0", "critic_memory", "policy", "value"}
    for w in (params["actor_memory"]["input"]["kernel"], params["actor_memory"]["recurrent"]):
        gram = np.asarray(w @ w.T if w.shape[0] < w.shape[1] else w.T @ w)
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    np.testing.assert_array_equal(params["actor_memory"]["input"]["bias"], np.zeros(16))


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_against_flax(stride):
    """Patches times a matrix is a convolution without padding."""
    x = jax.random.normal(KEY, (2, 9, 8, 3))
    layer = Conv(5, 3, stride, nn.initializers.normal(0.5))
    params = layer.init(KEY, x)["params"]
    reference = nn.Conv(5, (3, 3), (stride, stride), padding="VALID")
    weights = {"kernel": params["patches"]["kernel"].reshape(3, 3, 3, 5), "bias": params["patches"]["bias"]}
    with jax.numpy_rank_promotion("allow"):
        expected = reference.apply({"params": weights}, x)
        np.testing.assert_allclose(layer.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)


def test_images_and_the_rest_of_an_observation():
    """A CNN convolves what is an image and adds what isn't: each part of an observation changes the value."""
    spec = jaxppo.CNN(filters=(4, 4), hidden=(8,), activation="tanh")
    parts = {"image": (6, 6, 2), "speed": (3,), "count": ()}
    network = spec.build({name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in parts.items()}, Discrete(2))
    params = network.init(KEY)
    assert params["actor_1_conv_0"]["patches"]["kernel"].shape == (3 * 3 * 2, 4)
    assert params["actor_0"]["kernel"].shape == (2 * 2 * 4 + 3 + 1, 8)
    obs = {name: jnp.ones((2, *shape), jnp.int32) for name, shape in parts.items()}
    value = run(network, params, obs)[1]
    for name in parts:
        assert np.all(run(network, params, {**obs, name: 5 * obs[name]})[1] != value)


@pytest.mark.parametrize(
    ("spec", "shape", "words"),
    [
        (jaxppo.CNN(), (4,), "network=cnn: must be another"),
        (jaxppo.CNN(filters=(4, 4, 4)), (6, 6, 1), "kernel_size=3: must be at most 2"),
    ],
)
def test_observations_that_a_cnn_cannot_take(spec, shape, words):
    """No image, or one too small for the filters."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        build(spec, Discrete(2), shape)


class Torso(nn.Module):
    """One's own encoder, of as many dimensions as asked for."""

    ndim: int = 2

    @nn.compact
    def __call__(self, obs):
        x = nn.relu(nn.Dense(7, name="mine")(obs))
        return x if self.ndim == 2 else x[:, None]


@pytest.mark.parametrize("shared", [False, True])
def test_a_module_of_ones_own(shared):
    """It is there once for each head, or once for both, and features go to the heads."""
    network, params = build(jaxppo.Custom(module=Torso(), shared=shared), Discrete(3))
    modules = {"shared_module"} if shared else {"actor_module", "critic_module"}
    assert set(params) == modules | {"policy", "value"}
    assert all(params[name]["mine"]["kernel"].shape == (6, 7) for name in modules)
    distribution, value = run(network, params, jnp.ones((4, 6)))
    assert distribution.logits.shape == (4, 3)
    assert value.shape == (4,)


def test_submodules_held_as_attributes_are_not_shared():
    """A `Sequential` too is there once for the policy and once for the value."""
    _, params = build(jaxppo.Custom(module=nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(5)])), Discrete(3))
    assert set(params) == {"actor_module", "critic_module", "policy", "value"}
    first, second = (jax.tree.map(jnp.shape, params[name]) for name in ("actor_module", "critic_module"))
    assert first == second


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Torso(ndim=3), r"one that makes \[B, F\]"),
        (nn.BatchNorm(use_running_average=True), "parameters only, not .*batch_stats"),
        (nn.Dropout(0.5, deterministic=False), "needs nothing but parameters"),
    ],
)
def test_a_module_that_cannot_be_used(module, words):
    """One that makes no features, or needs more than parameters, is refused when the network is built."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        build(jaxppo.Custom(module=module), Discrete(3))


def test_no_module():
    """It must be an object, not a class."""
    for wrong in (None, Torso):
        with pytest.raises(jaxppo.ConfigError, match=r"module=.*must be a flax\.linen module"):
            jaxppo.Custom(module=wrong)


def test_layer_norm():
    """With it, hidden units have mean 0 and variance 1 before the activation, so scaled observations change nothing."""
    network, params = build(jaxppo.MLP(hidden=(8,), layer_norm=True), Discrete(2))
    obs = jax.random.normal(KEY, (5, 6))
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(run(network, params, obs)[1], run(network, params, 100 * obs)[1], rtol=1e-2)


@pytest.mark.parametrize(("space", "size"), [(Discrete(3), 3), (MultiDiscrete((2, 3)), 5)], ids=str)
def test_masked_actions_have_no_probability(space, size):
    """The mask in an observation decides what may be done, and is nothing that the network sees."""
    observation = {"place": jax.ShapeDtypeStruct((4,), jnp.float32), "action_mask": jax.ShapeDtypeStruct((size,), bool)}
    network = jaxppo.MLP(hidden=(8,)).build(observation, space)
    params = network.init(KEY)
    mask = jnp.tile(jnp.arange(size) % 2 == 0, (6, 1))
    obs = {"place": jax.random.normal(KEY, (6, 4)), "action_mask": mask}
    distribution, value = run(network, params, obs)
    np.testing.assert_array_equal(jnp.exp(distribution.logits) == 0, ~mask)
    free = {**obs, "action_mask": jnp.ones_like(mask)}
    np.testing.assert_array_equal(run(network, params, free)[1], value)


@pytest.mark.parametrize(("space", "size"), [(Discrete(3), 2), (BOX, 6)], ids=str)
def test_masks_of_another_size(space, size):
    """A mask must have an entry for each action, and Box actions have no mask."""
    observation = {"place": jax.ShapeDtypeStruct((4,), jnp.float32), "action_mask": jax.ShapeDtypeStruct((size,), bool)}
    with pytest.raises(jaxppo.ConfigError, match=r"^action_mask="):
        jaxppo.MLP().build(observation, space)


@pytest.mark.parametrize(("policy", "kind"), [("gaussian", Gaussian), ("tanh", TanhGaussian), ("beta", Beta)])
def test_policies_for_boxes(policy, kind):
    """Each gives its distribution; those that scale to bounds refuse a Box that has none."""
    network, params = build(jaxppo.MLP(box_policy=policy), BOX)
    distribution, _ = run(network, params, jnp.ones((5, 6)))
    assert type(distribution) is kind
    assert distribution.mode().shape == (5, 6)
    if policy != "gaussian":
        with pytest.raises(jaxppo.ConfigError, match=f"box_policy={policy}: must be gaussian"):
            build(jaxppo.MLP(box_policy=policy), Box(-np.inf, np.inf, (2,)))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [(jaxppo.MLP(layer_norm=True), (6,)), (jaxppo.CNN(), (5, 5, 2)), (jaxppo.MLP(memory="gru"), (6,))],
)
def test_bfloat16_computes_what_float32_does(spec, shape):
    """The same parameters, float32 outputs and gradients, close to those in float32 and not the same."""
    network, params = build(spec, Discrete(3), shape)
    halved = dataclasses.replace(spec, precision="bfloat16").build(
        jax.ShapeDtypeStruct(shape, jnp.float32), Discrete(3)
    )
    jax.tree.map(np.testing.assert_array_equal, params, halved.init(KEY))
    obs = jax.random.normal(KEY, (32, *shape))

    def loss(params, network):
        _, distribution, value = network.apply(params, network.initial_carry(32), obs, jnp.zeros(32, bool))
        return jnp.mean(value**2) + jnp.mean(distribution.logits**2), (distribution.logits, value)

    grads, outputs = jax.grad(loss, has_aux=True)(params, network)
    low_grads, low_outputs = jax.grad(loss, has_aux=True)(params, halved)
    for low, high in zip(low_outputs, outputs, strict=True):
        assert low.dtype == jnp.float32
        assert 0 < jnp.linalg.norm(low - high) < 0.02 * jnp.linalg.norm(high)
    for low, high in zip(jax.tree.leaves(low_grads), jax.tree.leaves(grads), strict=True):
        assert low.dtype == jnp.float32
        assert jnp.linalg.norm(low - high) <= 0.1 * jnp.linalg.norm(high) + 1e-6

"""The kernels of a GPU, done by JAX on a CPU (`interpret`), against what XLA makes of the same functions."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_same

import jaxppo
from jaxppo import backend, kernels, rollout
from jaxppo.kernels import mean, padded, scan
from jaxppo.needed import needed
from jaxppo.networks import layers
from jaxppo.profiling import profile_update

KEY = jax.random.key(0)
MLP, SGD = jaxppo.MLP, jaxppo.SGD


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    """Where resets are drawn ahead whatever they take, and no layer has its sums in runs."""
    monkeypatch.setattr(rollout, "FEW_OPERATIONS", 0)
    monkeypatch.setattr(layers, "RUN", 2**30)


@pytest.fixture
def in_kernels(monkeypatch):
    """`in_kernels(True)`: what is traced from then on is for kernels; the list says which of them could be."""
    done = []

    def record(name, function):
        def call(*args):
            result = function(*args, interpret=True)
            done.append((name, result is not None))
            return result

        return call

    monkeypatch.setattr(scan, "scan", record("scan", scan.scan))
    monkeypatch.setattr(mean, "mean_over_parts", record("mean", mean.mean_over_parts))

    def choose(available):
        monkeypatch.setattr(kernels, "available", lambda: available and not kernels._left_to_xla)
        jax.clear_caches()
        return done

    yield choose
    jax.clear_caches()


TRAINED = {
    "as it comes": {},
    "continuous actions, all that is normalised, a limit on the divergence": {
        "env": "Pendulum-v1",
        "num_envs": 20,
        "normalize_obs": True,
        "normalize_reward": True,
        "learner": SGD(kl_limit=1e-2, learning_rate=1e-2, vf_clip_eps=None),
    },
    "shared layers of odd widths, normalised, and many environments": {
        "env": "MountainCar-v0",
        "num_envs": 40,
        "network": MLP(hidden=(24, 17), activation="relu", shared=True, layer_norm=True),
        "learner": SGD(dual_clip=3.0, num_minibatches=1),
    },
    "a penalty, squashed actions": {
        "env": "Pendulum-v1",
        "num_envs": 16,
        "network": MLP(hidden=(16,), activation="swish", box_policy="tanh"),
        "learner": SGD(objective=jaxppo.AdaptiveKL(), num_minibatches=2),
    },
}


@pytest.mark.parametrize("fields", TRAINED.values(), ids=TRAINED.keys())
def test_training_is_the_same(in_kernels, fields):
    """The state, environments and random numbers with it, and all metrics, of three updates."""
    config = jaxppo.Config(**{"num_envs": 8, "num_steps": 16, "total_timesteps": 1920, **fields})
    in_kernels(False)
    expected = jaxppo.train(config, KEY)
    done = in_kernels(True)
    result = jaxppo.train(config, KEY)
    assert set(done) == {("scan", True), ("mean", True)}
    assert_same(result, expected)
    assert [x.dtype for x in jax.tree.leaves(result)] == [x.dtype for x in jax.tree.leaves(expected)]


def test_many_agents(in_kernels):
    """Under `vmap`, over keys and over a hyperparameter."""
    config = jaxppo.Config(num_envs=4, num_steps=16, total_timesteps=128, network=MLP(hidden=(16, 16)))
    rates = jnp.float32([1e-4, 1e-3])
    keys = jax.random.split(KEY, 2)

    def train(rate, key):
        return jaxppo.train(jaxppo.Config(**{**vars(config), "learner": SGD(learning_rate=rate)}), key)

    in_kernels(False)
    expected = jax.vmap(train)(rates, keys)
    done = in_kernels(True)
    assert_same(jax.vmap(train)(rates, keys), expected)
    assert set(done) == {("scan", True), ("mean", True)}


LEFT = {
    "random numbers within a step": ({"env": "Acrobot-v1"}, [False, True]),
    "gathers, and many inputs": ({"env": "Breakout-MinAtar", "num_envs": 8}, [False, False]),
    "actions that are drawn from keys": ({"env": "Pendulum-v1", "network": MLP(box_policy="beta")}, [False, False]),
    "minibatches in no parts of 16": (
        {"num_envs": 4, "num_steps": 6, "learner": SGD(num_minibatches=1)},
        [True, False],
    ),
    "minibatches in too many parts": (
        {"num_envs": 520, "num_steps": 8, "learner": SGD(num_minibatches=1)},
        [True, False],
    ),
    "memory": ({"network": MLP(memory="gru"), "learner": SGD(num_minibatches=1)}, [False]),
    "wide layers": ({"network": MLP(hidden=(256, 256))}, [False, False]),
    "half precision": ({"network": MLP(precision="bfloat16")}, [False, False]),
}


@pytest.mark.parametrize(("fields", "expected"), LEFT.values(), ids=LEFT.keys())
def test_the_rest_is_left_to_xla(in_kernels, fields, expected):
    """Whether collection, and then a gradient, is done in a kernel."""
    config = jaxppo.Config(**{"num_envs": 8, "num_steps": 16, "total_timesteps": 8192, **fields})
    done = in_kernels(True)
    jax.eval_shape(lambda: jaxppo.update(config, jaxppo.init(config, KEY)))
    assert [could for _, could in dict.fromkeys(done)] == expected


def test_environments_with_settings_of_their_own(in_kernels):
    """Which a kernel would give to other rows: they are left to XLA."""
    env_params = {"gravity": np.linspace(5.0, 15.0, 8)}
    config = jaxppo.Config(num_envs=8, num_steps=16, total_timesteps=256, env_params=env_params)
    in_kernels(False)
    expected = jaxppo.train(config, KEY)
    done = in_kernels(True)
    assert_same(jaxppo.train(config, KEY), expected)
    assert set(done) == {("mean", True)}


@pytest.mark.parametrize("num_rows", [1, 16, 17])
def test_scan(num_rows):
    """A carry that is read and not written, one that is written and not read, and rows that fill no program."""
    carry = {"sum": jnp.zeros((num_rows, 3)), "scale": jnp.arange(1.0, num_rows + 1), "last": jnp.zeros(num_rows, bool)}
    xs = jax.random.normal(KEY, (5, num_rows, 3))
    shared = jnp.float32([0.5, -1.0, 2.0])

    def step(carry, x):
        total = carry["sum"] + x * carry["scale"][:, None] * shared[None]
        return {**carry, "sum": total, "last": total[:, 1] > 0}, (jnp.max(total, axis=1), x)

    found = scan.scan(step, carry, xs, interpret=True)
    assert_same(found, jax.lax.scan(step, carry, xs))


def test_rows_stay_apart():
    """A step that looks at several rows is none that the kernel may divide."""
    carry, xs = jnp.zeros((20, 3)), jnp.ones((4, 20, 3))
    for mix in (
        lambda x: x - jnp.sum(x, axis=0, keepdims=True),
        lambda x: x.at[0].set(0.0),
        lambda x: jnp.flip(x, axis=0),
        lambda x: x + x[:1],
        lambda x: jnp.ones((20, 20))[: len(x), : len(x)] @ x,
    ):
        assert scan.scan(lambda carry, x, mix=mix: (carry + mix(x), ()), carry, xs, interpret=True) is None


def test_steps_for_a_number_of_rows():
    """They are none for a kernel; nor are those that give something else than rows."""
    carry, xs, table = jnp.zeros((21, 3)), jnp.ones((4, 21, 3)), jnp.ones((21, 3))
    assert scan.scan(lambda carry, x: (carry + table, x), carry, xs, interpret=True) is None
    assert scan.scan(lambda carry, x: (carry, 3.0), carry, xs, interpret=True) is None
    assert scan.scan(lambda carry, x: (carry, table[0]), carry, xs, interpret=True) is None


A, B = (np.random.default_rng(i).normal(size=(5, 3)).astype(np.float32) for i in range(2))
WIDE = np.random.default_rng(2).normal(size=(20, 33)).astype(np.float32)
OPERATIONS = {
    "sum": lambda a, b: jnp.sum(a, axis=1),
    "sum of all": lambda a, b: jnp.sum(a),
    "max": lambda a, b: jnp.max(a, axis=0),
    "min": lambda a, b: jnp.min(a, axis=1),
    "argmax": lambda a, b: jnp.argmax(a, axis=1).astype(jnp.int32),
    "log-softmax": lambda a, b: jax.nn.log_softmax(a),
    "column": lambda a, b: a[:, 2] - b[:, 0],
    "column of truths": lambda a, b: (a > b)[:, 1],
    "transpose": lambda a, b: a.T,
    "stack": lambda a, b: jnp.stack([a[:, 0], b[:, 1], a[:, 2]], axis=1),
    "stack in front": lambda a, b: jnp.stack([a, b]),
    "concatenate": lambda a, b: jnp.concatenate([a, b, a], axis=1),
    "unstack": lambda a, b: sum(jnp.unstack(a, axis=1)),
    "product": lambda a, b: a @ b.T,
    "product, transposed": lambda a, b: a.T @ b,
    "large product": lambda a, b: WIDE @ WIDE.T @ WIDE[:, 1:],
    "one-hot": lambda a, b: jax.nn.one_hot(jnp.argmax(a, axis=1).astype(jnp.int32), 3),
    "gradient of a column": jax.grad(lambda a, b: jnp.sum(a[:, 1] ** 2 * b[:, 1])),
    "choice": lambda a, b: jnp.where(a > 0, a, 2 * b),
    "integers": lambda a, b: (a * 10).astype(jnp.int32) % 3,
    "elementwise": lambda a, b: jnp.tanh(a) + jnp.exp(b) * jnp.cos(a) / (1 + b**2) - jnp.clip(a, -0.5, 0.5),
    "of numbers known before": lambda a, b: a * jnp.negative(jnp.float32(3)) + jnp.sin(jnp.float32(2)),
}


@pytest.mark.parametrize("function", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operations(function):
    """What lies beyond an array's own sides makes no difference, whatever it is."""
    closed = jax.make_jaxpr(function)(A, B)
    part = needed(closed)

    def surrounded(x):
        wide = np.full(padded.pad(x.shape), np.nan, x.dtype)
        wide[tuple(map(slice, x.shape))] = x
        return jnp.asarray(wide)

    values = {var: surrounded((A, B)[i]) for i, var in part.inputs.items()}
    values |= {var: surrounded(np.asarray(const)) for var, const in part.consts.items()}
    padded.rehearse(part.jaxpr, part.given)
    (found,) = padded.evaluate(part.jaxpr, values)
    expected = np.asarray(function(A, B))
    assert found.shape == padded.pad(expected.shape)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found[tuple(map(slice, expected.shape))], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        jnp.sort,
        jnp.cumsum,
        jnp.linalg.inv,
        lambda a: a[:2],
        lambda a: a[::2],
        lambda a: a.reshape(-1),
        lambda a: jnp.tensordot(a, a, 2),
        lambda a: jax.lax.argmax(a, 1, jnp.uint32),
        lambda a: a + jax.pure_callback(lambda: np.float32(1), jax.ShapeDtypeStruct((), jnp.float32)),
        lambda a: a.astype(jnp.float16),
        lambda a: jnp.maximum(a > 0, a < 1),
        lambda a: jax.lax.select_n((a > 0).astype(jnp.int32), a, 2 * a),
    ],
)
def test_unknown_operations(function):
    """They are found before anything is compiled."""
    part = needed(jax.make_jaxpr(function)(A[:3]))
    with pytest.raises(padded.UnsupportedError):
        padded.rehearse(part.jaxpr, part.given)


def test_mean_and_maximum():
    """Against numpy, over three parts."""
    samples, weights = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32), {"w": jnp.float32([1, 2, 3])}

    def function(params, part):
        products = part * params["w"][None]
        return {"mean": jnp.mean(products, axis=0), "number": jnp.mean(products)}, jnp.max(products)

    averaged, largest = mean.mean_over_parts(
        function, weights["w"], lambda vector: {"w": vector}, jnp.asarray(samples), interpret=True
    )
    products = samples * np.float32([1, 2, 3])
    np.testing.assert_allclose(averaged["mean"], products.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(averaged["number"], products.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(largest, products.max(), rtol=1e-6)


def test_operations_are_counted_without(in_kernels):
    """A profile counts what an update has to do, in kernels or not."""
    config = jaxppo.Config(num_envs=4, num_steps=16, total_timesteps=128, network=MLP(hidden=(16,)))
    counts = []
    for available in (False, True):
        done = in_kernels(available)
        counts.append([part.flops for part in profile_update(config, KEY, repeats=1).parts])
    assert ("scan", True) in done
    np.testing.assert_allclose(counts[1], counts[0], rtol=0.02)


def test_where_they_are_used(monkeypatch):
    """On one large NVIDIA GPU, unless the environment says no."""
    assert not kernels.available()
    device = SimpleNamespace(platform="gpu", compute_capability="9.0")
    with backend.tracing_for(device):
        assert kernels.available()
        with kernels.left_to_xla():
            assert not kernels.available()
        assert kernels.available()
        monkeypatch.setenv("JAXPPO_KERNELS", "0")
        assert not kernels.available()
        monkeypatch.delenv("JAXPPO_KERNELS")
        with monkeypatch.context() as several:
            several.setattr("jaxppo.together.num_devices", lambda: 2)
            assert not kernels.available()
        for capability in ("7.5", "gfx942"):
            device.compute_capability = capability
            assert not kernels.available()
    assert not kernels.available()


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="this JAX translates for a GPU only where there is one")
def test_translation_for_a_gpu(monkeypatch):
    """As far as Triton's own language, which needs no GPU."""
    monkeypatch.setattr(kernels, "available", lambda: True)
    jax.clear_caches()
    config = jaxppo.Config(num_envs=4, num_steps=16, total_timesteps=128)
    lowered = jax.jit(functools.partial(jaxppo.train, config)).trace(KEY).lower(lowering_platforms=("cuda",))
    jax.clear_caches()
    assert lowered.as_text().count("custom_call @__gpu$xla.gpu.triton") == 2

"""What is arranged for devices on which every operation is a launch, run on a CPU: the same numbers, to rounding."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.test_util import check_grads
from trees import assert_same

import jaxppo
from jaxppo import backend, columns, rollout
from jaxppo.envs.base import Discrete
from jaxppo.flops import count_work
from jaxppo.learners.minibatches import Samples, predict

KEY = jax.random.key(0)
SMALL = {"num_envs": 4, "num_steps": 16, "total_timesteps": 192, "network": jaxppo.MLP(hidden=(16, 16))}


@pytest.fixture
def launches(monkeypatch):
    """`launches(True)` or `launches(False)` says whether what is traced from then on is for such a device."""
    monkeypatch.setattr(rollout, "UNROLL", 2)  # LLVM takes long for more

    def choose(count):
        monkeypatch.setattr(backend, "launches_count", lambda: count)
        jax.clear_caches()

    yield choose
    jax.clear_caches()


TRAINED = {
    "continuous actions, all that is normalised, a limit on the divergence": {
        "env": "Pendulum-v1",
        "normalize_obs": True,
        "normalize_reward": True,
        "learner": jaxppo.SGD(kl_limit=1e-2, learning_rate=1e-2),
    },
    "squashed actions, layer normalisation": {
        "env": "Reacher-misc",
        "network": jaxppo.MLP(hidden=(16, 8), layer_norm=True, box_policy="tanh"),
    },
    "memory": {
        "network": jaxppo.MLP(hidden=(8,), memory="gru", memory_size=8),
        "learner": jaxppo.SGD(num_minibatches=2),
    },
    "trust region, discrete actions": {"learner": jaxppo.TrustRegion()},
}


@pytest.mark.parametrize("fields", TRAINED.values(), ids=TRAINED.keys())
def test_training_is_the_same(launches, fields):
    """The state, environments and random numbers with it, and all metrics, of several updates."""
    config = jaxppo.Config(**{**SMALL, **fields})
    launches(False)
    expected = jaxppo.train(config, KEY)
    launches(True)
    result = jaxppo.train(config, KEY)
    assert_same(result, expected)
    assert [x.dtype for x in jax.tree.leaves(result)] == [x.dtype for x in jax.tree.leaves(expected)]


def test_one_head_takes_one_torso(launches):
    """Products of actor and critic side by side only where both are needed: no more operations than one by one."""
    network = jaxppo.MLP().build(jax.ShapeDtypeStruct((4,), jnp.float32), Discrete(2))
    params = jax.eval_shape(network.init, KEY)
    samples = Samples(jnp.ones((32, 4)), jnp.zeros(32, bool), (), *[None] * 5)

    def flops(count, head):
        launches(count)

        def loss(params):
            return sum(map(jnp.sum, jax.tree.leaves(predict(network, params, samples, both=False)[head])))

        return count_work(jax.grad(loss), params).flops

    for head in (0, 1):
        np.testing.assert_allclose(flops(True, head), flops(False, head), rtol=0.02)


def test_values_of_a_segment_take_one_torso(launches):
    """The least that an update of one gradient step has to do is the same, too."""
    config = jaxppo.Config(**SMALL, learner=jaxppo.SGD(num_epochs=1, num_minibatches=1))

    def flops(count):
        launches(count)
        state = jax.eval_shape(lambda: jaxppo.init(config, KEY))
        return count_work(lambda state: jaxppo.update(config, state), state).flops

    np.testing.assert_allclose(flops(True), flops(False), rtol=0.02)


NUMBERS = np.random.default_rng(0).normal(scale=3, size=(5, 9)).astype(np.float32)


@pytest.mark.parametrize("count", [True, False])
@pytest.mark.parametrize("width", [1, 2, 8, 9])
def test_columns(launches, count, width):
    """Against numpy and scipy, with few columns and more, one by one and not."""
    launches(count)
    x = NUMBERS[:, :width]
    np.testing.assert_allclose(columns.total(jnp.asarray(x)), x.sum(axis=-1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        columns.log_softmax(jnp.asarray(x)), scipy.special.log_softmax(x, axis=-1), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_array_equal(columns.argmax(jnp.asarray(x)), x.argmax(axis=-1))
    np.testing.assert_array_equal(columns.repeat(jnp.asarray(x[0]), 3), np.tile(x[0], (3, 1)))
    check_grads(columns.log_softmax, (jnp.asarray(x),), order=2, modes=["rev", "fwd"], rtol=0.02)


@pytest.mark.parametrize("count", [True, False])
def test_columns_at_their_limits(launches, count):
    """Logits far apart, those of forbidden actions, and ties."""
    launches(count)
    far = jnp.array([[1e30, -1e30, 0.0], [-1e30, 5.0, 5.0]])
    np.testing.assert_allclose(jnp.exp(columns.log_softmax(far)), [[1, 0, 0], [0, 0.5, 0.5]], atol=1e-6)
    np.testing.assert_array_equal(columns.argmax(far), [0, 1])
    assert bool(jnp.isfinite(jax.jacobian(columns.log_softmax)(far)).all())


def test_the_device_that_is_traced_for():
    """The one that JAX takes, by default or as it is told, or another that need not be there."""
    [*_, last] = cpus = jax.devices("cpu")
    assert backend.device() == cpus[0]
    for told in ("cpu", last):
        with jax.default_device(told):
            assert backend.device() == (last if told is last else cpus[0])
    gpu = SimpleNamespace(platform="gpu", compute_capability="9.0")
    with jax.default_device(last), backend.tracing_for(gpu):
        assert backend.device() is gpu
        assert backend.launches_count()
        with backend.tracing_for(last):
            assert not backend.launches_count()
        assert backend.launches_count()
    with pytest.raises(ZeroDivisionError), backend.tracing_for(gpu):
        1 / 0  # noqa: B018
    assert not backend.launches_count()


@pytest.mark.parametrize(
    ("found", "expected"), [("9.0", "9.0"), ("12.1", "12.1"), ("gfx942", None), ("gfx9.0a", None), ("9.0a", None)]
)
def test_the_compute_capability(found, expected):
    """Of NVIDIA's GPUs: others have names there, and a CPU has none."""
    with backend.tracing_for(SimpleNamespace(platform="gpu", compute_capability=found)):
        assert backend.compute_capability() == expected
    assert backend.compute_capability() is None

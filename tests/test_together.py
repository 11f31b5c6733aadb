"""An agent that devices train together is the one that a single device trains."""

import dataclasses
import re
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gymnax.environments.classic_control.cartpole import CartPole
from trees import assert_same

import jaxppo
from jaxppo import devices, results, together
from jaxppo.fields import hyperparameters
from jaxppo.progress import Silent
from jaxppo.run import train_run

KEY = jax.random.key(0)
SMALL = {"num_steps": 16, "total_timesteps": 256, "network": jaxppo.MLP(hidden=(32,))}


@pytest.fixture
def worth(monkeypatch):
    """However few samples and environments are worth a device."""
    monkeypatch.setattr(devices, "PARTNER_SAMPLES", 1)
    monkeypatch.setattr(together, "ENVS", 1)


@hyperparameters
class Whole(jaxppo.Clip):
    """Not known to be a mean over the samples."""

    mean_over_samples: ClassVar[bool] = False


def one_more(tree):
    """Leaves as of one agent among many."""
    return jax.tree.map(lambda x: x[None], tree)


DIVIDED = {
    "images": {"env": "Asterix-MinAtar", "total_timesteps": 128},
    "a gaussian, all that is normalised": {"env": "Pendulum-v1", "normalize_obs": True, "normalize_reward": True},
    "memory, truncations": {
        "network": jaxppo.MLP(hidden=(8,), memory="lstm", memory_size=8),
        "learner": jaxppo.SGD(num_minibatches=2),
        "env_params": {"max_steps_in_episode": 7},
    },
    "adaptive penalty, a setting for each environment": {
        "learner": jaxppo.SGD(objective=jaxppo.AdaptiveKL(), learning_rate=1e-2),
        "env_params": {"gravity": np.array([5.0, 8.0, 11.0, 14.0])},
    },
    "few steps, rows in order": {
        "learner": jaxppo.SGD(kl_limit=1e-3, learning_rate=1e-2, shuffle=False, normalize_advantage=False)
    },
}


@pytest.mark.parametrize("fields", DIVIDED.values(), ids=DIVIDED.keys())
@pytest.mark.usefixtures("worth")
def test_agent_is_that_of_one_device(fields):
    """Its state, environments and random numbers with it, and all metrics."""
    config = jaxppo.Config(**{**SMALL, **fields})
    assert len(devices.partners(config)) == 2
    stacked = jax.tree.map(lambda x: x[None] if np.ndim(x) else x, config)
    both = jaxppo.train_agents(stacked, KEY[None])
    assert_same(both, one_more(jaxppo.train(config, KEY)))
    assert len(both.metrics.entropy.devices()) == 2


NO_LIMIT = jaxppo.SGD(max_grad_norm=None, learning_rate=1e-2)
APART = {
    "environments of both": {},
    "environments of each, all that is normalised": {
        "env": "Pendulum-v1",
        "num_envs": 8,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    "memory": {"network": jaxppo.MLP(hidden=(8,), memory="lstm", memory_size=8)},
    "adaptive penalty": {"learner": jaxppo.SGD(max_grad_norm=None, objective=jaxppo.AdaptiveKL(), dual_clip=3.0)},
    "an objective that is no mean over samples": {"learner": jaxppo.SGD(max_grad_norm=None, objective=Whole())},
    "a module of one's own": {"network": jaxppo.Custom(module=nn.Dense(8), hidden=(8,))},
}


@pytest.mark.parametrize("fields", APART.values(), ids=APART.keys())
def test_policy_and_value_apart(fields):
    """Without a limit of the gradient's norm each device learns one of them, and the agent is that of one device."""
    config = jaxppo.Config(**{**SMALL, "learner": NO_LIMIT, **fields})
    assert len(devices.partners(config)) == 2
    stacked = jax.tree.map(lambda x: x[None] if np.ndim(x) else x, config)
    assert_same(jaxppo.train_agents(stacked, KEY[None]), one_more(jaxppo.train(config, KEY)))


def test_no_message_in_a_gradient_step():
    """The devices exchange what they learned once in an update, and each computes with its own half alone."""
    config = jaxppo.Config(**SMALL, learner=NO_LIMIT)
    lowered = jax.jit(jaxppo.train_agents).lower(config, KEY[None]).as_text()
    assert "stablehlo.case" in lowered or "stablehlo.if" in lowered
    assert "all_reduce" not in lowered
    assert lowered.count('"stablehlo.all_gather"') == 1
    adam = {int(size) for size in re.findall(r"stablehlo.sqrt .*tensor<(\d+)xf32>", lowered)}
    params = jaxppo.init(config, KEY).policy.params
    sizes = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in params.items()}
    assert adam == {sizes["actor_0"] + sizes["policy"], sizes["critic_0"] + sizes["value"]}


WHOLE = {
    "trust region": {"learner": jaxppo.TrustRegion()},
    "minibatches of one": {"learner": jaxppo.SGD(num_minibatches=64, normalize_advantage=False)},
}


@pytest.mark.parametrize("fields", WHOLE.values(), ids=WHOLE.keys())
def test_learning_that_does_not_divide(fields):
    """Each device does all of it, and they agree."""
    config = jaxppo.Config(**{**SMALL, **fields})
    assert len(devices.partners(config)) == 1
    train = together.everyone(lambda key: jaxppo.train(config, key), tuple(jax.local_devices()))
    assert_same(jax.jit(train)(KEY), jaxppo.train(config, KEY))


@pytest.mark.usefixtures("worth")
def test_work_is_divided():
    """Products have half the rows, in collection as in the gradient, and gradients are summed."""
    lowered = jax.jit(jaxppo.train_agents).lower(jaxppo.Config(**SMALL), KEY[None]).as_text()
    rows = {int(found) for found in re.findall(r"dot_general.*-> tensor<(\d+)x32xf32>", lowered)}
    assert {2, 8} <= rows  # of 4 environments, and of minibatches of 16
    assert 16 not in rows
    assert "all_reduce" in lowered
    assert "all_gather" in lowered


def test_what_is_known_of_configs_is_bounded(monkeypatch):
    """It holds their environments, and answers the same for one that it has forgotten."""
    monkeypatch.setattr(devices, "_known_apart", {})
    monkeypatch.setattr(devices, "MOST_KNOWN", 2)
    alone = jaxppo.SGD(max_grad_norm=None)
    networks = [jaxppo.MLP(hidden=(8,)), jaxppo.MLP(shared=True), jaxppo.MLP(hidden=(4,))]
    for _ in range(2):
        found = [len(devices.partners(jaxppo.Config(learner=alone, network=network))) for network in networks]
        assert found == [2, 1, 2]
        assert len(devices._known_apart) == 2


def test_who_trains_together():
    """As many as divide environments and minibatches, or whole sequences, with enough samples for each."""

    def count(**fields):
        return len(devices.partners(jaxppo.Config(total_timesteps=10**6, **fields)))

    assert count() == 1
    assert count(num_envs=32) == 2
    assert count(num_envs=33) == 1  # does not divide
    assert count(num_envs=32, learner=jaxppo.SGD(num_minibatches=8)) == 1  # minibatches of 512
    assert count(num_envs=32, learner=jaxppo.TrustRegion()) == 1
    alone = jaxppo.SGD(max_grad_norm=None)
    assert count(learner=alone) == 2  # a network each
    assert count(learner=jaxppo.SGD(max_grad_norm=float("inf"))) == 1  # a number, whatever it is
    assert count(learner=jaxppo.SGD(max_grad_norm=None, kl_limit=0.1)) == 1
    assert count(learner=jaxppo.SGD(max_grad_norm=None, num_epochs=1, num_minibatches=2)) == 1  # few steps
    assert count(learner=alone, network=jaxppo.MLP(shared=True)) == 1
    halves = jaxppo.Custom(module=nn.Dense(8, dtype=jnp.float32, param_dtype=jnp.bfloat16))
    assert count(learner=alone, network=halves) == 1  # a vector of dtypes that only all parameters together have
    assert count(learner=alone, network=jaxppo.MLP(hidden=(512, 512))) == 1  # large products
    memory = jaxppo.MLP(memory="gru")
    assert count(num_envs=32, network=memory) == 2
    assert count(num_envs=36, num_steps=256, network=memory) == 1  # nine sequences in a minibatch


def test_numbers_across_devices():
    """Shares are parts in order; gathering undoes sharing; mean and largest are over all of them."""
    tree = {"a": jnp.arange(8.0).reshape(4, 2), "b": jnp.arange(4) > 1, "keys": jax.random.split(KEY, 4)}

    def function(tree):
        own = together.share(tree)
        index = jax.lax.axis_index(together.AXIS).astype(jnp.float32)
        averaged = together.mean({"x": own["a"], "y": index})
        across = together.gather({"a": together.share(tree["a"], axis=1), "own": own}, axis={"a": 1, "own": 0})
        return together.gather(own), averaged, together.largest(index), together.num_devices(), across

    both = tuple(jax.local_devices())
    again, averaged, largest, count, across = jax.jit(together.everyone(function, both))(tree)
    assert_same(again, tree)
    assert_same(across, {"a": tree["a"], "own": tree})
    np.testing.assert_allclose(averaged["x"], [[2, 3], [4, 5]])
    assert (averaged["y"], largest, count) == (0.5, 1, 2)


def test_large_arrays_and_small_ones(monkeypatch):
    """They are gathered alike, small ones in one message."""
    tree = {"large": jnp.arange(64.0).reshape(8, 8), "small": jnp.arange(2), "z": jnp.array([1j, 2.0])}
    monkeypatch.setattr(together, "MESSAGE", 64)
    everyone = together.everyone(lambda x: together.gather(together.share(x)), tuple(jax.local_devices()))
    lowered = jax.jit(everyone).lower(tree)
    assert_same(lowered.compile()(tree), tree)
    assert lowered.as_text().count('"stablehlo.all_gather"') == 3


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_whatever_an_environment_holds(packed, axis, monkeypatch):
    """Keys, images and arrays without elements, in one message or in their own."""
    tree = {
        "keys": jax.random.split(KEY, (4, 4)),
        "image": jnp.arange(96).reshape(4, 4, 3, 2),
        "number": jnp.arange(16.0).reshape(4, 4),
    }
    monkeypatch.setattr(together, "MESSAGE", 64)  # some of them are too large for it

    def there_and_back(tree):
        # Not an argument, nor a result: XLA of JAX 0.11 fails to compile for several devices with those.
        empty = {"empty": jnp.zeros((4, 4, 0, 3))}
        whole = together.gather(together.share({**tree, **empty}, axis), axis, packed=packed)
        assert whole.pop("empty").shape == (4, 4, 0, 3)
        return whole

    found = jax.jit(together.everyone(there_and_back, tuple(jax.local_devices()[:2])))(tree)
    found["keys"], tree["keys"] = map(jax.random.key_data, (found["keys"], tree["keys"]))
    jax.tree.map(np.testing.assert_array_equal, found, tree)


@pytest.mark.usefixtures("worth")
def test_derivatives_through_messages():
    """Those of a run divided by samples are the ones on a single device; of policy and value apart there are none."""

    def gradient(train, config):
        def loss(rate):
            learner = dataclasses.replace(config.learner, learning_rate=rate)
            return jnp.sum(train(dataclasses.replace(config, learner=learner), KEY).metrics.entropy)

        return jax.grad(loss)(jnp.float32(1e-2))

    def one_agent(config, key):
        return jaxppo.train_agents(config, key[None])

    config = jaxppo.Config(**{**SMALL, "num_envs": 8})
    alone = gradient(jaxppo.train, config)
    assert abs(alone) > 0.1
    assert len(devices.partners(config)) == 2
    np.testing.assert_allclose(gradient(one_agent, config), alone, rtol=1e-2)
    with pytest.raises(TypeError, match=r"max_grad_norm=None.*jaxppo\.train"):
        gradient(one_agent, dataclasses.replace(config, learner=NO_LIMIT))


def test_two_functions_apart():
    """Both devices have the results of both, of any shapes and dtypes, and each computed one of them."""
    mine, others = jnp.float32("nan"), {"x": jnp.arange(5), "yes": jnp.array([True, False])}

    def function():
        index = jax.lax.axis_index(together.AXIS)
        return together.apart(lambda: (mine, index), lambda: {**others, "index": index})

    (found, first), second = jax.jit(together.everyone(function, tuple(jax.local_devices())))()
    assert np.isnan(found)
    assert (first, second.pop("index")) == (0, 1)
    assert_same(second, others)


def test_few_environments_are_not_divided():
    """With fewer than `ENVS` for each device, both step all of them."""

    def function(x):
        own = together.share_envs(x)
        return together.gather_envs(own, len(x)), jnp.zeros(len(own))

    both = tuple(jax.local_devices())
    for size, each in ((2 * together.ENVS, together.ENVS), (2 * together.ENVS - 2, 2 * together.ENVS - 2), (9, 9)):
        again, own = jax.jit(together.everyone(function, both))(jnp.arange(size))
        np.testing.assert_array_equal(again, np.arange(size))
        assert len(own) == each


def test_alone_there_is_nothing_to_share():
    """Outside of such a program the functions leave everything as it is."""
    x = jnp.arange(3.0)
    assert together.num_devices() == 1
    for function in (together.share, together.gather, together.mean, together.largest):
        assert function(x) is x


def test_a_run_on_two_devices(tmp_path, monkeypatch):
    """The same metrics as on one, and a policy that evaluates."""
    config = jaxppo.Config(**{**SMALL, "total_timesteps": 2560})
    for name, samples in (("one", 10**6), ("two", 1)):
        monkeypatch.setattr(devices, "PARTNER_SAMPLES", samples)
        results.open_run(tmp_path / name, config, 0)
        outcome = train_run(config, 0, tmp_path / name, Silent(), eval_episodes=4)
        assert outcome.status == "finished"
        assert outcome.returns.shape == (4,)
    one, two = (results.read_metrics(tmp_path / name) for name in ("one", "two"))
    for name in ("entropy", "value_loss", "ratio_max", "grad_norm"):
        assert len(one[name]) == len(two[name]) == 40
        np.testing.assert_allclose(one[name][:10], two[name][:10], rtol=5e-3, atol=1e-5)


@hyperparameters
class Counting(jaxppo.Clip):
    """With a metric that is a whole number, and one that is the mean of the samples."""

    def loss(self, aux, new, old, action, advantage):
        loss, metrics = super().loss(aux, new, old, action, advantage)
        return loss, {**metrics, "two": jnp.int32(2), "mean": jnp.mean(advantage**2)}


@pytest.mark.usefixtures("worth")
def test_metrics_of_an_objective_of_ones_own():
    """Means over the samples are what they are on one device, and whole numbers stay."""
    config = jaxppo.Config(**SMALL, learner=jaxppo.SGD(objective=Counting()))
    extra = jaxppo.train_agents(config, KEY[None]).metrics.extra
    expected = jaxppo.train(config, KEY).metrics.extra
    for name in ("two", "mean"):
        np.testing.assert_allclose(extra[name][0], expected[name], rtol=1e-3)
    assert set(extra["two"][0].tolist()) == {2}


class Called(CartPole):
    """Its rewards come from Python."""

    def step_env(self, key, state, action, params):
        obs, state, reward, done, info = super().step_env(key, state, action, params)
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        reward = jax.pure_callback(
            lambda x: np.float32(2) * x, shape, reward.astype(jnp.float32), vmap_method="expand_dims"
        )
        return obs, state, reward, done, info


@pytest.mark.usefixtures("worth")
def test_an_environment_that_calls_python():
    """From every device."""
    config = jaxppo.Config(**{**SMALL, "env": Called()})
    assert_same(jaxppo.train_agents(config, KEY[None]).state.policy, one_more(jaxppo.train(config, KEY).state.policy))

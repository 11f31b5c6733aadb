"""Every environment that gymnax registers trains, and so do a user's own."""

import gzip
import struct

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.struct import dataclass as struct_dataclass
from gymnax.environments import environment, spaces
from gymnax.utils import load_mnist

import jaxppo
from jaxppo import envs
from jaxppo.envs.gymnax import make, names

KEY = jax.random.key(0)
NEEDS_DATA = {"MNISTBandit-bsuite"}
REGISTERED = sorted(gymnax.registered_envs)


def test_all_of_them_are_here():
    """The 26 that gymnax 1.0 comes with, at least."""
    assert len(REGISTERED) >= 26
    assert set(REGISTERED) <= set(names())


@pytest.mark.parametrize("name", [name for name in REGISTERED if name not in NEEDS_DATA])
def test_an_update_of_two_agents(name):
    """With the preset's network and options: shapes and dtypes stay, nothing is NaN, and agents differ."""
    settings = {"num_envs": 4, "num_steps": 8, "total_timesteps": 64, "num_minibatches": 2, "num_epochs": 1}
    config = jaxppo.preset(name, **settings)
    state = jax.vmap(jaxppo.init, in_axes=(None, 0))(config, jax.random.split(KEY, 2))
    after, metrics = jax.vmap(jaxppo.update, in_axes=(None, 0))(config, state)
    assert jax.tree.map(jax.typeof, after) == jax.tree.map(jax.typeof, state)
    for leaf in jax.tree.leaves((after.policy, after.learner, after.loop.episode_return)):
        assert np.all(np.isfinite(leaf))
    assert np.all(np.isfinite(metrics.value_loss) & np.isfinite(metrics.kl) & np.isfinite(metrics.grad_norm))
    np.testing.assert_array_equal(metrics.env_steps, [32, 32])
    first, second = (jax.flatten_util.ravel_pytree(jax.tree.map(lambda x, i=i: x[i], after.policy))[0] for i in (0, 1))
    assert np.any(first != second)


def test_missing_data(monkeypatch):
    """Where the data of an environment can't be had, the error says what to put where."""

    def refuse():
        raise OSError("no network")

    monkeypatch.setattr(load_mnist, "load_mnist", refuse)
    with pytest.raises(
        jaxppo.ConfigError, match=r"^env=MNISTBandit-bsuite: .*train-images-idx3-ubyte\.gz.* /tmp/mnist"
    ):
        make.__wrapped__("MNISTBandit-bsuite")


@struct_dataclass
class SwitchesState(environment.EnvState):
    """The positions wanted."""

    goal: jax.Array


class Switches(environment.Environment):
    """A user's own: two switches to set as shown. A dict to observe, a tuple of choices to act, three steps."""

    @property
    def default_params(self):
        return environment.EnvParams(max_steps_in_episode=3)

    def reset_env(self, key, params):
        state = SwitchesState(time=0, goal=self.goal(key))
        return self.observe(state), state

    def step_env(self, key, state, action, params):
        reward = jnp.sum(jnp.stack(action) == state.goal)
        state = SwitchesState(time=state.time + 1, goal=self.goal(key))
        return self.observe(state), state, reward, False, {"discount": 1.0}

    def goal(self, key):
        return jax.random.randint(key, (2,), 0, jnp.array([2, 3]))

    def observe(self, state):
        return {"first": state.goal[0], "second": jax.nn.one_hot(state.goal[1], 3), "time": state.time}

    def observation_space(self, params):
        return spaces.Dict(
            {"first": spaces.Discrete(2), "second": spaces.Box(0, 1, (3,)), "time": spaces.Box(0, 3, (), jnp.int32)}
        )

    def action_space(self, params=None):
        return spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))

    @property
    def name(self):
        return "Switches"


def switches_config(env, **options):
    """Enough steps to learn it."""
    learner = jaxppo.SGD(learning_rate=5e-3, ent_coef=0.0)
    return jaxppo.Config(env=env, num_envs=16, num_steps=16, total_timesteps=20_000, learner=learner, **options)


def test_an_environment_of_ones_own():
    """An object, or a name given to `gymnax.register`: both switches are set right by the end, which pays 6."""
    env = Switches()
    config = switches_config(env)
    assert config.make_env().action_space(None) == envs.MultiDiscrete((2, 3))
    result = jaxppo.train(config, KEY)
    assert jnp.mean(jaxppo.evaluate(config, result.state, KEY)) == 6
    if "Switches-test" not in gymnax.registered_envs:
        gymnax.register("Switches-test", Switches)
    again = jaxppo.train(switches_config("Switches-test"), KEY)
    np.testing.assert_array_equal(again.metrics.episode_return, result.metrics.episode_return)


def test_the_limit_of_another_clock_is_not_relied_on():
    """Only gymnax's own clocks are known to tick once a step from zero."""
    own, gymnaxs = envs.make(Switches()), envs.make("CartPole-v1")
    assert own.max_steps(own.params) is None
    assert gymnaxs.max_steps(gymnaxs.params) == 500


def test_data_that_can_be_had(tmp_path, monkeypatch):
    """With its files in place the MNIST bandit is an environment like any other."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 5)):
        images = rng.integers(0, 128, (count, 28, 28), np.uint8)
        header = struct.pack(">IIII", 2051, count, 28, 28)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = rng.integers(0, 10, count, np.uint8).tobytes()
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, count) + labels))
    load = load_mnist.load_mnist
    monkeypatch.setattr(load_mnist, "load_mnist", lambda: load(str(tmp_path)))
    config = jaxppo.Config(env=gymnax.make("MNISTBandit-bsuite")[0], total_timesteps=1024, network=jaxppo.MLP((8,)))
    metrics = jaxppo.train(config, KEY).metrics
    np.testing.assert_array_equal(metrics.episodes, [512, 512])
    assert np.all(np.abs(metrics.episode_return) <= 1)

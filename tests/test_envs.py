"""gymnax environments behind the protocol: shapes, dtypes, ends, and names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo import envs

NAMES = [
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCarContinuous-v0",
    "Catch-bsuite",
    "DeepSea-bsuite",
    "UmbrellaChain-bsuite",
    "Breakout-MinAtar",
    "FourRooms-misc",
    "FrozenLake-misc",
    "BernoulliBandit-misc",
    "PointRobot-misc",
    "Reacher-misc",
]


def some_action(space):
    """Any action of the space."""
    return jnp.zeros((), jnp.int32) if isinstance(space, envs.Discrete) else jnp.zeros(space.shape)


@pytest.fixture(params=[name for name in NAMES if name in envs.names()])
def env(request):
    """Each environment in turn."""
    return envs.make(request.param)


def test_dtypes(env):
    """Rewards are float32, ends boolean, observations as declared, and the state keeps its types, none of them weak."""
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key, env.params)
    action = some_action(env.action_space(env.params))
    after, timestep = jax.eval_shape(lambda s: env.step(key, s, action, env.params), state)

    def kind(x):
        return (x.shape, x.dtype, x.weak_type)

    assert jax.tree.map(kind, after) == jax.tree.map(kind, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, obs, timestep)))
    for seen in (obs, timestep.obs):
        assert (seen.shape, seen.dtype) == (env.observation.shape, env.observation.dtype)
    assert kind(timestep.reward) == ((), jnp.float32, False)
    assert kind(timestep.terminated) == kind(timestep.truncated) == ((), jnp.bool_, False)


def test_the_clock_starts_at_zero_and_ticks_by_one(env):
    """So that an episode is truncated after `max_steps` steps and never sooner, which the bootstrap relies on."""
    key = jax.random.key(0)
    state, _ = jax.jit(env.reset)(key, env.params)
    assert state.time == 0
    after, _ = env.step(key, state, some_action(env.action_space(env.params)), env.params)
    assert after.time == 1
    assert env.max_steps(env.params) >= env.params.max_steps_in_episode


def test_the_limit_truncates():
    """Pendulum never terminates, and is truncated at its 200th step."""
    env = envs.make("Pendulum-v1")
    state, _ = env.reset(jax.random.key(0), env.params)
    for time, truncated in ((198, False), (199, True)):
        late = state.replace(time=jnp.int32(time))
        _, timestep = env.step(jax.random.key(1), late, jnp.zeros(1), env.params)
        assert (bool(timestep.terminated), bool(timestep.truncated)) == (False, truncated)


def test_limit_of_overridden_parameters():
    """A limit given as a number is known, one given as an array is not."""
    env = envs.make("CartPole-v1")
    assert env.max_steps(envs.override(env, {})) == 500
    assert env.max_steps(envs.override(env, {"max_steps_in_episode": 7})) == 7
    assert env.max_steps(envs.override(env, {"max_steps_in_episode": jnp.array(7)})) is None


def test_overrides_keep_the_type_of_the_default():
    """A whole number given for a float parameter becomes a float, and arrays take the default's dtype."""
    env = envs.make("CartPole-v1")
    params = envs.override(env, {"gravity": 9, "length": jnp.array([1, 2]), "max_steps_in_episode": np.float32(3)})
    assert isinstance(params.gravity, float)
    assert params.length.dtype == jnp.float32
    assert jnp.result_type(params.max_steps_in_episode) == jnp.int32
    assert params.masscart == env.params.masscart


def test_discrete_observations_become_one_hot():
    """FrozenLake's cell number comes as a one-hot vector."""
    env = envs.make("FrozenLake-misc")
    _, obs = env.reset(jax.random.key(0), env.params)
    np.testing.assert_array_equal(obs, np.eye(16, dtype=np.float32)[0])


def test_action_spaces():
    """Discrete spaces give their count, boxes their bounds and shape."""
    cartpole, pendulum = envs.make("CartPole-v1"), envs.make("Pendulum-v1")
    assert cartpole.action_space(cartpole.params) == envs.Discrete(2)
    box = pendulum.action_space(pendulum.params)
    assert (np.max(box.low), np.min(box.high), box.shape) == (-2, 2, (1,))


def test_integer_rewards_and_observations_train():
    """Environments with int32 rewards, and with int32 observations, train under strict promotion."""
    for name in ("UmbrellaChain-bsuite", "FourRooms-misc"):
        config = jaxppo.Config(env=name, num_steps=16, total_timesteps=64, network=jaxppo.MLP(hidden=(4,)))
        _, metrics = jaxppo.update(config, jaxppo.init(config, jax.random.key(0)))
        assert np.isfinite(metrics.value_loss)

"""Environments side by side, with parameters of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo import envs
from jaxppo.config import canonical
from jaxppo.distributions import Gaussian
from jaxppo.envs import Box
from jaxppo.envs.batch import batch
from jaxppo.rollout import env_action

KEY = jax.random.key(0)
SETTINGS = {"g": jnp.array([1.0, 10.0, 20.0]), "max_torque": jnp.array([0.5, 1.0, 2.0])}


def test_each_environment_has_its_own_parameters():
    """A batch with three gravities and bounds steps as three pendulums do, each with its own."""
    env = envs.make("Pendulum-v1")
    many = batch(env, envs.override(env, SETTINGS), 3, 3)
    keys = jax.random.split(KEY, 3)
    states, obs = many.reset(keys)
    actions = jnp.full((3, 1), 5.0)
    act = lambda action, space: env_action(Gaussian(action, action), action, space)  # noqa: E731
    after, timesteps = many.step(keys, states, actions, act)
    for n in range(3):
        params = env.params.replace(g=float(SETTINGS["g"][n]), max_torque=float(SETTINGS["max_torque"][n]))
        state, first = env.reset(keys[n], params)
        np.testing.assert_allclose(obs[n], first, rtol=1e-6)
        state, timestep = env.step(keys[n], state, jnp.full(1, params.max_torque), params)
        np.testing.assert_allclose(timesteps.obs[n], timestep.obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(timesteps.reward[n], timestep.reward, rtol=1e-5)
        np.testing.assert_allclose(after.theta_dot[n], state.theta_dot, rtol=1e-5)


def test_more_environments_than_settings_go_round():
    """As evaluation needs it: the settings are gone through again."""
    env = envs.make("Pendulum-v1")
    many = batch(env, envs.override(env, {"g": SETTINGS["g"]}), 7, 3)
    keys = jnp.stack([KEY] * 7)
    states, _ = many.reset(keys)
    _, timesteps = many.step(keys, states, jnp.zeros((7, 1)), lambda action, space: action)
    obs = np.asarray(timesteps.obs)
    np.testing.assert_array_equal(obs, obs[np.arange(7) % 3])
    assert len({row.tobytes() for row in obs}) == 3


def config(g, **options):
    """A small pendulum run."""
    network = jaxppo.MLP(hidden=(8,))
    return jaxppo.Config(
        env="Pendulum-v1", num_envs=3, num_steps=16, total_timesteps=96, env_params={"g": g}, network=network, **options
    )


def test_agents_with_a_setting_each_and_agents_with_one_per_environment():
    """`vmap` over settings is the agents one by one; an agent whose environments differ is another."""
    learner = jaxppo.SGD(num_minibatches=3)
    g = jnp.array([5.0, 10.0])
    stacked = config(g, learner=learner)
    both = jax.vmap(jaxppo.train, in_axes=(jaxppo.batch_axes(stacked), None))(stacked, KEY).metrics
    for i in range(2):
        alone = jaxppo.train(config(g[i], learner=learner), KEY).metrics
        np.testing.assert_allclose(both.value_loss[i], alone.value_loss, rtol=1e-3)
    same = jaxppo.train(config(jnp.full(3, 5.0), learner=learner), KEY).metrics
    np.testing.assert_allclose(same.value_loss, both.value_loss[0], rtol=1e-3)
    mixed = config(jnp.array([5.0, 10.0, 15.0]), learner=learner)
    result = jaxppo.train(mixed, KEY)
    assert np.all(np.abs(result.metrics.value_loss - same.value_loss) > 1e-3)
    returns = jaxppo.evaluate(mixed, result.state, KEY, num_episodes=8)
    assert returns.shape == (8,)
    assert np.all(np.isfinite(returns))


def test_agents_whose_environments_differ_side_by_side():
    """Two axes: one agent per row, one environment per column."""
    learner = jaxppo.SGD(num_minibatches=3)
    g = jnp.array([[5.0, 10.0, 15.0], [1.0, 2.0, 3.0]])
    stacked = config(g, learner=learner)
    both = jax.vmap(jaxppo.train, in_axes=(jaxppo.batch_axes(stacked), None))(stacked, KEY).metrics
    alone = jaxppo.train(config(g[1], learner=learner), KEY).metrics
    np.testing.assert_allclose(both.value_loss[1], alone.value_loss, rtol=1e-3)


def test_settings_of_another_number():
    """Neither one, nor one for each environment; or a number where an array belongs."""
    with pytest.raises(jaxppo.ConfigError, match=r"env_params=g of shape \(2,\): must be one number.*num_envs=3.*vmap"):
        jaxppo.train(config(jnp.array([5.0, 10.0]), learner=jaxppo.SGD(num_minibatches=3)), KEY)
    torque = jaxppo.Config(env="Acrobot-v1", env_params={"available_torque": 1.0})
    with pytest.raises(jaxppo.ConfigError, match=r"available_torque, a number: must be an array of \(3,\)"):
        jaxppo.train(torque, KEY)


@pytest.mark.parametrize(
    ("policy", "torque"),
    [
        ("gaussian", jnp.float32(1.0)),
        ("tanh", SETTINGS["max_torque"]),
        ("beta", jnp.float32(1.0)),
        ("beta", SETTINGS["max_torque"]),
    ],
)
def test_bounds_that_are_arrays(policy, torque):
    """Every policy trains within traced bounds, one for all or one for each; `act` wants one."""
    spec = jaxppo.MLP(hidden=(4,), box_policy=policy)
    options = {"env_params": {"max_torque": torque}, "num_envs": 3, "num_steps": 4, "total_timesteps": 24}
    bounded = jaxppo.Config(env="Pendulum-v1", network=spec, learner=jaxppo.SGD(num_minibatches=3), **options)
    result = jaxppo.train(bounded, KEY)
    assert np.all(np.isfinite(result.metrics.value_loss))
    if jnp.ndim(torque):
        with pytest.raises(ValueError, match=r"^env_params: must give one set of bounds"):
            jaxppo.act(bounded, result.state, jnp.zeros((3, 3)), greedy=True)
    else:
        assert np.all(np.abs(jaxppo.act(bounded, result.state, 10 * jnp.ones((3, 3)), KEY)) <= 1)


@pytest.mark.parametrize("policy", ["tanh", "beta"])
def test_bounds_that_are_arrays_of_jax(policy):
    """Made outside of what is traced, as an environment of one's own may have them."""
    low, high = -jnp.ones(1), jnp.ones(1)
    env = dataclasses.replace(envs.make("Pendulum-v1"), action_space=lambda _: Box(low, high, (1,)))
    config = jaxppo.Config(env=env, network=jaxppo.MLP(hidden=(4,), box_policy=policy), num_steps=4)
    state = jax.eval_shape(jaxppo.init, config, KEY)
    assert jax.tree.leaves(state.policy)


def test_integers_for_a_float_parameter_do_not_compile_again():
    """Arrays take the dtype of the default before anything is traced."""
    floats, integers = (canonical(config(jnp.arange(1, 4, dtype=dtype))) for dtype in (jnp.float32, jnp.int32))
    assert jax.tree.map(jax.typeof, floats) == jax.tree.map(jax.typeof, integers)

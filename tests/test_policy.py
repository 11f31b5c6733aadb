"""Acting, valuing and evaluating with what was trained."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

import jaxppo
from jaxppo.training import build

KEY = jax.random.key(0)


def trained(env, **options):
    """A config with a small network, and its state after two updates with large steps."""
    learner = jaxppo.SGD(learning_rate=0.05, anneal_lr=False)
    network = jaxppo.MLP(hidden=(8,))
    config = jaxppo.Config(env=env, num_steps=32, total_timesteps=256, network=network, learner=learner, **options)
    return config, jaxppo.train(config, KEY).state


@pytest.fixture(scope="module")
def cartpole():
    """CartPole without normalisation."""
    return trained("CartPole-v1")


@pytest.fixture(scope="module")
def pendulum():
    """Pendulum with normalised observations and rewards."""
    return trained("Pendulum-v1", normalize_obs=True, normalize_reward=True)


def pendulum_obs(size):
    """Observations far from standardised."""
    return 5 + 3 * jax.random.normal(KEY, (size, 3))


def seen(state, obs):
    """Observations as the network sees them, in numpy."""
    moments = state.policy.obs_moments
    z = (np.asarray(obs) - np.asarray(moments.mean)) / np.sqrt(np.asarray(moments.var) + 1e-8)
    return jnp.asarray(np.clip(z, -10, 10), jnp.float32)


def forward(config, state, obs):
    """The network's distribution and value, without normalisation."""
    _, network = build(config)
    _, distribution, value = network.apply(state.policy.params, (), obs, jnp.ones(len(obs), bool))
    return distribution, value


def test_discrete_actions(cartpole):
    """Actions are int32 [B] below the count of actions; greedy ones are the distribution's mode."""
    obs = jax.random.normal(KEY, (300, 4))
    sampled, greedy = jaxppo.act(*cartpole, obs, KEY), jaxppo.act(*cartpole, obs, greedy=True)
    assert sampled.shape == greedy.shape == (300,)
    assert sampled.dtype == greedy.dtype == jnp.int32
    assert set(np.asarray(sampled).tolist()) == {0, 1}
    logits = forward(*cartpole, obs)[0].logits
    np.testing.assert_array_equal(greedy, np.argmax(logits, axis=1))
    assert np.any(np.asarray(sampled) != np.asarray(greedy))


def test_samples_depend_on_the_key_and_greedy_actions_do_not(cartpole):
    """Another key gives other samples, and the same greedy actions."""
    obs = jnp.zeros((100, 4))
    first, again, other = (jaxppo.act(*cartpole, obs, key) for key in (KEY, KEY, jax.random.key(5)))
    np.testing.assert_array_equal(first, again)
    assert np.any(np.asarray(first) != np.asarray(other))
    greedy = [jaxppo.act(*cartpole, obs, key, greedy=True) for key in (KEY, jax.random.key(5), None)]
    np.testing.assert_array_equal(greedy[0], greedy[1])
    np.testing.assert_array_equal(greedy[0], greedy[2])


def test_continuous_actions_keep_the_bounds(pendulum):
    """Actions are float32 [B, 1] within ±2; greedy ones are the clipped mean."""
    config, state = pendulum
    wide = jax.tree.map(lambda x: x, state.policy.params)
    wide["log_std"] = jnp.full(1, 2.0)
    policy = state.policy.replace(params=wide)
    sampled = jaxppo.act(config, policy, pendulum_obs(200), KEY)
    assert (sampled.shape, sampled.dtype) == ((200, 1), jnp.float32)
    assert (np.min(sampled), np.max(sampled)) == (-2, 2)
    mean = forward(config, state, seen(state, pendulum_obs(200)))[0].mean
    greedy = jaxppo.act(config, state, pendulum_obs(200), greedy=True)
    np.testing.assert_allclose(greedy, np.clip(mean, -2, 2), rtol=1e-4, atol=1e-5)


def test_values_normalise_inside(pendulum):
    """`value` takes raw observations: it equals the network on observations normalised by hand."""
    config, state = pendulum
    obs = pendulum_obs(20)
    found = jaxppo.value(config, state, obs)
    assert (found.shape, found.dtype) == ((20,), jnp.float32)
    np.testing.assert_allclose(found, forward(config, state, seen(state, obs))[1], rtol=1e-4, atol=1e-5)
    assert np.all(np.abs(np.asarray(found) - np.asarray(forward(config, state, obs)[1])) > 1e-4)


def test_clipped_observations(pendulum):
    """Observations beyond the clip are worth what those at the clip are."""
    config, state = pendulum
    far = jnp.full((1, 3), 1e6)
    np.testing.assert_array_equal(jaxppo.value(config, state, far), jaxppo.value(config, state, 10 * far))


def test_a_policy_is_enough(pendulum):
    """What is saved with a run does all that the train state does."""
    config, state = pendulum
    obs = pendulum_obs(5)
    np.testing.assert_array_equal(jaxppo.value(config, state, obs), jaxppo.value(config, state.policy, obs))
    np.testing.assert_array_equal(jaxppo.act(config, state, obs, KEY), jaxppo.act(config, state.policy, obs, KEY))
    returns = [jaxppo.evaluate(config, which, KEY, num_episodes=2) for which in (state, state.policy)]
    np.testing.assert_array_equal(*returns)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 4, 1), (2, 2, 4)])
def test_observations_of_another_shape(cartpole, shape):
    """Observations must be [B, 4]; the message says so, also where the batch axis was forgotten."""
    for call in (jaxppo.value, lambda config, state, obs: jaxppo.act(config, state, obs, KEY)):
        with pytest.raises(ValueError, match="obs") as error:
            call(*cartpole, jnp.zeros(shape))
        assert str(shape) in str(error.value)
        assert "4" in str(error.value)


def test_sampling_needs_a_key(cartpole):
    """Without a key only greedy actions can be had."""
    with pytest.raises(ValueError, match="key"):
        jaxppo.act(*cartpole, jnp.zeros((1, 4)))


@pytest.mark.parametrize("num_episodes", [0, -1])
def test_at_least_one_episode(cartpole, num_episodes):
    """Zero episodes are refused."""
    with pytest.raises(ValueError, match=f"num_episodes={num_episodes}"):
        jaxppo.evaluate(*cartpole, KEY, num_episodes=num_episodes)


def test_an_environment_without_a_time_limit():
    """Episodes that never end are cut at `max_steps` and count what they earned."""
    env = dataclasses.replace(probes.time_limit(10**9, terminates=False), max_steps=lambda params: None)
    config = jaxppo.Config(env=env)
    state = jaxppo.init(config, KEY)
    returns = jaxppo.evaluate(config, state, KEY, num_episodes=2, max_steps=37)
    np.testing.assert_array_equal(returns, [37, 37])


def test_returns_of_known_episodes():
    """Every episode of five steps that pay 1 returns 5, whichever way it ends."""
    for terminates in (True, False):
        env = probes.time_limit(5, terminates=terminates)
        returns = jaxppo.evaluate(*trained(env, normalize_reward=True), KEY, num_episodes=7)
        np.testing.assert_array_equal(returns, np.full(7, 5, np.float32))


def test_greedy_evaluation_against_a_loop(cartpole):
    """Greedy returns lie where a Python loop over gymnax with the same policy finds them: equal means."""
    config, state = cartpole
    returns = jaxppo.evaluate(config, state, KEY, num_episodes=200)
    assert (returns.shape, returns.dtype) == ((200,), jnp.float32)
    env, params = gymnax.make("CartPole-v1")
    obs, env_state = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(1), 200), params)
    step = jax.jit(jax.vmap(env.step_env, in_axes=(None, 0, 0, None)))
    alive, lengths = np.ones(200, bool), np.zeros(200)
    for _ in range(500):
        action = jaxppo.act(config, state, obs, greedy=True)
        with jax.numpy_dtype_promotion("standard"):
            obs, env_state, _, terminated, _ = step(KEY, env_state, action, params)
        lengths += alive
        alive &= ~np.asarray(terminated)
        if not alive.any():
            break
    error = np.sqrt((lengths.var() + np.var(returns)) / 200)
    assert abs(lengths.mean() - np.mean(returns)) < 5 * error + 1e-6
    assert np.min(returns) >= 1
    assert np.max(returns) <= 500


def test_sampled_evaluation_differs_from_greedy(cartpole):
    """Sampling follows the key; greedy evaluation is played from the same starts."""
    config, state = cartpole
    sampled = [jaxppo.evaluate(config, state, key, num_episodes=50, greedy=False) for key in (KEY, jax.random.key(1))]
    assert np.any(np.asarray(sampled[0]) != np.asarray(sampled[1]))
    greedy = jaxppo.evaluate(config, state, KEY, num_episodes=50)
    assert np.any(np.asarray(greedy) != np.asarray(sampled[0]))


def test_evaluation_under_vmap():
    """Each agent of a vmapped training is evaluated as it is alone."""
    network = jaxppo.MLP(hidden=(8,))
    config = jaxppo.Config(env="CartPole-v1", num_steps=32, total_timesteps=256, network=network)
    keys = jax.random.split(KEY, 3)
    states = jax.vmap(jaxppo.train, in_axes=(None, 0))(config, keys).state
    many = jax.vmap(lambda state, key: jaxppo.evaluate(config, state, key, num_episodes=4))(states, keys)
    assert many.shape == (3, 4)
    for i in range(3):
        alone = jaxppo.evaluate(config, jax.tree.map(lambda x, i=i: x[i], states), keys[i], num_episodes=4)
        np.testing.assert_allclose(many[i], alone)

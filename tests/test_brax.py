"""brax's tasks behind the protocol: brax's own trajectories, time limits kept apart from ends, and names."""

import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo import envs
from jaxppo.interop import default_promotion

NAMES = [name for name in envs.names() if name.startswith("brax/")]
N, T = 3, 50
LIMITS = np.array([20, 50, 20])


@pytest.fixture(scope="module")
def pendulum():
    """The smallest task."""
    return envs.make("brax/inverted_pendulum")


@pytest.fixture(scope="module")
def actions():
    """Random actions [T, N, 1]: gentle ones in the first environment, and all 1 in the last, which topples it."""
    uniform = jax.random.uniform(jax.random.key(1), (T, N, 1), minval=-1, maxval=1)
    return uniform.at[:, 0].multiply(0.1).at[:, -1].set(1.0)


@pytest.fixture(scope="module")
def trajectory(pendulum, actions):
    """Observations after the reset, and the time steps [T, N] that the actions lead to, with a limit each."""
    limits = envs.override(pendulum, {"max_steps_in_episode": LIMITS})

    def step(states, actions):
        return jax.vmap(pendulum.step)(jax.random.split(jax.random.key(2), N), states, actions, limits)

    @jax.jit
    def run(actions):
        states, obs = jax.vmap(pendulum.reset)(jax.random.split(jax.random.key(0), N), limits)
        return obs, jax.lax.scan(step, states, actions)[1]

    return run(actions)


@pytest.fixture(scope="module")
def reference(actions):
    """The same trajectory by brax alone."""
    with default_promotion(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brax.envs import get_environment

        env = get_environment("inverted_pendulum", backend="spring")
        reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
        states = [reset(jax.random.split(jax.random.key(0), N))]
        for action in actions:
            states.append(step(states[-1], action))
        return states


@pytest.mark.parametrize("name", NAMES)
def test_types(name):
    """Rewards are float32, ends boolean, observations as declared, and the state keeps its types, none of them weak."""
    env = envs.make(name)
    key, space = jax.random.key(0), env.action_space(env.params)
    state, obs = jax.eval_shape(lambda: env.reset(key, env.params))
    after, timestep = jax.eval_shape(lambda s: env.step(key, s, jnp.zeros(space.shape), env.params), state)

    def kind(x):
        return (x.shape, x.dtype, x.weak_type)

    assert jax.tree.map(kind, after) == jax.tree.map(kind, state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, obs, timestep)))
    assert obs == timestep.obs == env.observation
    assert kind(timestep.reward) == ((), jnp.float32, False)
    assert kind(timestep.terminated) == kind(timestep.truncated) == ((), jnp.bool_, False)
    assert (space.low, space.high, len(space.shape)) == (-1, 1, 1)
    assert env.max_steps(env.params) == 1000


def test_same_as_brax(trajectory, reference):
    """Observations, rewards and ends along a trajectory are brax's, the steps after the limit included."""
    first, timesteps = trajectory
    np.testing.assert_allclose(first, reference[0].obs, rtol=1e-5, atol=1e-6)
    for t, state in enumerate(reference[1:]):
        np.testing.assert_allclose(timesteps.obs[t], state.obs, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(timesteps.reward[t], state.reward, rtol=1e-5)
        np.testing.assert_array_equal(timesteps.terminated[t], state.done.astype(bool))


def test_a_fall_terminates_and_the_limit_truncates(trajectory):
    """Each says so on its own: the first environment gets to its limit, the last falls before; later both are set."""
    _, timesteps = trajectory
    fell = np.abs(timesteps.obs[..., 1]) > 0.2
    assert [int(np.argmax(fell[:, n])) >= LIMITS[n] for n in (0, -1)] == [True, False]
    np.testing.assert_array_equal(timesteps.terminated, fell)
    np.testing.assert_array_equal(timesteps.truncated, np.arange(1, T + 1)[:, None] >= LIMITS)


def test_limits_known_and_not(pendulum):
    """A limit given as a number is known, one given as an array is not; there are no other parameters."""
    assert pendulum.max_steps(envs.override(pendulum, {"max_steps_in_episode": 7})) == 7
    assert pendulum.max_steps(envs.override(pendulum, {"max_steps_in_episode": jnp.array(7)})) is None
    with pytest.raises(jaxppo.ConfigError, match="did you mean max_steps_in_episode"):
        envs.override(pendulum, {"gravity": 9.0})


def test_trains():
    """Two updates, in which every episode is cut short."""
    config = jaxppo.Config(
        env="brax/inverted_pendulum",
        env_params={"max_steps_in_episode": 4},
        total_timesteps=2 * 2 * 16,
        num_envs=2,
        num_steps=16,
        network=jaxppo.MLP(hidden=(4,)),
    )
    metrics = jaxppo.train(config, jax.random.key(0)).metrics
    assert np.isfinite(metrics.value_loss).all()
    assert (np.asarray(metrics.episode_length) == 4).all()


def test_made_once():
    """The same object for the same name, so that nothing is compiled twice."""
    assert envs.make("brax/reacher") is envs.make("brax/reacher")


def test_names():
    """The seven tasks of the PPO paper are listed, and what is like none of them is refused with a hint."""
    assert len(NAMES) == 7
    with pytest.raises(jaxppo.ConfigError, match=r"env=brax/hoper: .*did you mean brax/hopper"):
        envs.make("brax/hoper")
    with pytest.raises(jaxppo.ConfigError, match=r"env=mujoco/hopper: .*brax/hopper"):
        envs.make("mujoco/hopper")


def test_without_brax():
    """Without brax its names are still listed, and making one tells what to install; gymnax's work."""
    code = """
import sys
sys.modules["brax"] = None
from jaxppo import envs
envs.make("CartPole-v1")
assert "brax/hopper" in envs.names()
envs.make("brax/hopper")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    message = "env=brax/hopper: must be an environment that can be constructed here; brax is missing: pip install"
    assert message in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("'jaxppo[brax]'")


def test_making_is_silent_and_leaves_no_file(tmp_path):
    """Neither brax's warnings nor mujoco's reach the user, and mujoco writes no log."""
    code = """
from jaxppo import envs
envs.make("brax/halfcheetah")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr, list(tmp_path.iterdir())) == (0, "", "", [])


def test_gae_is_that_of_brax():
    """Without truncation, at which it drops the step's error, brax's value targets are V plus our advantages."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from brax.training.agents.ppo.losses import compute_gae
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 30, 4)).astype(np.float32)
    last = rng.normal(size=4).astype(np.float32)
    terminated = rng.random((30, 4)) < 0.2
    with default_promotion():
        targets, _ = compute_gae(
            np.zeros((30, 4), np.float32), terminated.astype(np.float32), reward, value, last, lambda_=0.8, discount=0.9
        )
    next_value = np.concatenate([value[1:], last[None]])
    ours = jaxppo.gae(reward, value, next_value, terminated, np.zeros_like(terminated), 0.9, 0.8)
    np.testing.assert_allclose(value + ours, targets, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_learns_to_balance():
    """The inverted pendulum, which random actions topple after 23 of 1000 steps: sixteen seeds of 300,000 steps.

    Single ones end anywhere between 150 and 815, and elsewhere with other rounding; the mean was 478 ± 44.
    """
    config = jaxppo.Config(
        env="brax/inverted_pendulum",
        total_timesteps=300_000,
        num_envs=64,
        num_steps=64,
        normalize_obs=True,
        normalize_reward=True,
        learner=jaxppo.SGD(learning_rate=1e-3, num_epochs=4, num_minibatches=8, ent_coef=0.0),
    )
    result = jax.vmap(jaxppo.train, in_axes=(None, 0))(config, jax.random.split(jax.random.key(42), 16))
    tail = np.asarray(result.metrics.episode_return)[:, -(config.num_updates // 10) :]
    assert np.nanmean(tail, axis=1).mean() >= 300

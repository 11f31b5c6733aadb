"""Real training runs, five seeds at once: the mean return over the last tenth of the updates."""

import jax
import numpy as np
import pytest

import jaxppo

pytestmark = pytest.mark.slow


def final_return(config: jaxppo.Config) -> float:
    """Mean over the seeds of the mean return over the last tenth of the updates."""
    result = jax.vmap(jaxppo.train, in_axes=(None, 0))(config, jax.random.split(jax.random.key(42), 5))
    tail = np.asarray(result.metrics.episode_return)[:, -(config.num_updates // 10) :]
    return float(np.nanmean(tail, axis=1).mean())


def test_cartpole():
    """CartPole with the settings spelled out, in 500,000 steps."""
    learner = jaxppo.SGD(
        learning_rate=2.5e-4, num_epochs=4, num_minibatches=4, ent_coef=0.01, vf_coef=0.5, max_grad_norm=0.5
    )
    config = jaxppo.Config(
        env="CartPole-v1",
        total_timesteps=500_000,
        num_envs=4,
        num_steps=128,
        network=jaxppo.MLP(hidden=(64, 64), activation="tanh"),
        learner=learner,
    )
    assert final_return(config) >= 475


@pytest.mark.parametrize(
    ("env", "steps", "level"),
    [
        ("Acrobot-v1", 500_000, -100),
        ("Pendulum-v1", 1_000_000, -300),
        ("Catch-bsuite", 100_000, 0.95),
        ("Breakout-MinAtar", 1_000_000, 8),
    ],
)
def test_preset_reaches_its_level(env, steps, level):
    """Each preset, in the given number of steps."""
    config = jaxppo.preset(env)
    assert config.total_timesteps == steps
    assert final_return(config) >= level


@pytest.mark.parametrize("method", ["adaptive-kl", "fixed-kl", "unclipped", "trpo"])
def test_every_surrogate_solves_cartpole(method):
    """In 500,000 steps, each with its preset."""
    config = jaxppo.preset("CartPole-v1", method)
    assert config.total_timesteps == 500_000
    assert final_return(config) >= 475


@pytest.mark.parametrize("method", ["policy-gradient", "a2c", "reinforce"])
def test_on_policy_methods_learn_cartpole(method):
    """In 1,000,000 steps, since each sample is used once."""
    config = jaxppo.preset("CartPole-v1", method)
    assert config.total_timesteps == 1_000_000
    assert final_return(config) >= 400


@pytest.mark.parametrize("method", ["adaptive-kl", "fixed-kl", "trpo"])
def test_penalties_and_trust_region_learn_pendulum(method):
    """In 1,000,000 steps; without any restraint the policy is lost there."""
    config = jaxppo.preset("Pendulum-v1", method)
    assert config.total_timesteps == 1_000_000
    assert final_return(config) >= -300


def test_breakout_has_the_shape_asked_for():
    """64 environments of 128 steps, and a multi-layer perceptron over the pixels."""
    config = jaxppo.preset("Breakout-MinAtar")
    assert (config.num_envs, config.num_steps) == (64, 128)
    assert isinstance(config.network, jaxppo.MLP)

"""Observations of zeros and ones, which segments keep as bools."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gymnax.environments.minatar.breakout import MinBreakout

import jaxppo
from jaxppo import envs
from jaxppo.envs.gymnax import from_gymnax
from jaxppo.training import collect_segment, draw_segment, init_step

KEY = jax.random.key(0)
SMALL = {"env": "Breakout-MinAtar", "num_envs": 4, "num_steps": 16, "total_timesteps": 256}


def segment(config):
    """The trajectory of a first segment."""
    state = init_step(config, KEY)
    return collect_segment(config, state, draw_segment(config, state)[1])[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Breakout-MinAtar", True),
        ("Freeway-MinAtar", True),
        ("SpaceInvaders-MinAtar", True),
        ("Asterix-MinAtar", False),  # made of whole numbers
        ("Seaquest-MinAtar", False),  # made of floats
        ("CartPole-v1", False),
    ],
)
def test_which_environments(name, expected):
    """Those whose observations are made of bools; while an environment runs they are floats as ever."""
    env = envs.make(name)
    assert env.truths is expected
    assert env.observation.dtype == jnp.float32


class Half(MinBreakout):
    """With observations of zeros and halves."""

    def get_obs(self, state, params=None, key=None):
        return super().get_obs(state, params, key) / 2


class Sometimes(MinBreakout):
    """With other numbers at the start of an episode."""

    def reset_env(self, key, params):
        obs, state = super().reset_env(key, params)
        return obs + 0.5, state


class Again(MinBreakout):
    """With observations out of a function that JAX computes twice."""

    def get_obs(self, state, params=None, key=None):
        return jax.checkpoint(lambda state: MinBreakout.get_obs(self, state))(state)


class Turns(MinBreakout):
    """With observations out of a loop that makes bools, were there a turn of it."""

    def get_obs(self, state, params=None, key=None):
        obs = super().get_obs(state, params, key) / 2
        return jax.lax.fori_loop(0, 0, lambda _, x: (x > 0).astype(jnp.float32), obs)


class Repeated(MinBreakout):
    """Which takes a parameter for a number of Python's."""

    def step_env(self, key, state, action, params):
        for _ in range(params.max_steps_in_episode // params.max_steps_in_episode):
            result = super().step_env(key, state, action, params)
        return result


@pytest.mark.parametrize("kind", [Half, Sometimes, Again, Turns, Repeated])
def test_other_numbers_are_noticed(kind):
    """Wherever they come from."""
    assert not from_gymnax(kind(), kind.__name__).truths


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"frame_stack": 2},
        {"network": jaxppo.CNN(hidden=(16,), filters=(4,))},
        {"network": jaxppo.MLP(hidden=(16,), memory="gru", memory_size=8)},
        {"network": jaxppo.Custom(module=nn.Sequential([lambda x: 1 - x.reshape(len(x), -1), nn.Dense(8)]))},
        {"learner": jaxppo.TrustRegion(vf_minibatches=2)},
        {"env_params": {"max_steps_in_episode": 5}},
    ],
    ids=["mlp", "frames", "cnn", "memory", "custom", "trust region", "truncations"],
)
def test_agents_are_the_same(fields):
    """With bools in place of floats, to the bit."""
    config = jaxppo.Config(**{**SMALL, **fields})
    assert segment(config).obs.dtype == bool
    plain = dataclasses.replace(config, env=dataclasses.replace(envs.make(config.env), truthful=()))
    assert segment(plain).obs.dtype == jnp.float32
    np.testing.assert_array_equal(segment(config).obs, segment(plain).obs)
    found, expected = (jaxppo.train(each, KEY) for each in (config, plain))
    for a, b in zip(jax.tree.leaves(found.state.policy), jax.tree.leaves(expected.state.policy), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("entropy", "value_loss", "explained_variance"):
        np.testing.assert_array_equal(getattr(found.metrics, name), getattr(expected.metrics, name))


def test_another_step_is_not_taken_for_the_same():
    """An environment with other observations made of this one."""
    env = envs.make("Breakout-MinAtar")

    def step(key, state, action, params):
        state, timestep = env.step(key, state, action, params)
        return state, timestep._replace(obs=timestep.obs / 2)

    half = dataclasses.replace(env, step=step)
    assert not half.truths
    assert segment(jaxppo.Config(**{**SMALL, "env": half, "truncation_is_terminal": True})).obs.dtype == jnp.float32


def test_what_is_no_such_array_stays():
    """Normalised observations, and those with the last action and reward beside them."""
    assert segment(jaxppo.Config(**SMALL, normalize_obs=True)).obs.dtype == jnp.float32
    beside = segment(jaxppo.Config(**SMALL, observe_last=True)).obs
    assert {x.dtype for x in jax.tree.leaves(beside)} == {jnp.dtype(jnp.float32)}


def test_a_network_sees_numbers():
    """Also one that somebody brought."""
    seen = []

    class Look(nn.Module):
        @nn.compact
        def __call__(self, obs):
            seen.append(obs.dtype)
            return nn.Dense(8)(obs.reshape(len(obs), -1))

    jax.eval_shape(lambda: jaxppo.train(jaxppo.Config(**SMALL, network=jaxppo.Custom(module=Look())), KEY))
    assert set(seen) == {jnp.dtype(jnp.float32)}

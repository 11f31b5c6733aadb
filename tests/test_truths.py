"""Observations of zeros and ones, which segments keep as bools, and perhaps without what is always zero."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from gymnax.environments.minatar.breakout import MinBreakout

import jaxppo
from jaxppo import envs
from jaxppo.envs.gymnax import from_gymnax
from jaxppo.envs.zeros import always_zero
from jaxppo.fields import hyperparameters
from jaxppo.training import collect_segment, draw_segment, init_step

KEY = jax.random.key(0)
SMALL = {"env": "Breakout-MinAtar", "num_envs": 4, "num_steps": 16, "total_timesteps": 256}


FIELDS = {
    "mlp": {},
    "frames": {"frame_stack": 2},
    "cnn": {"network": jaxppo.CNN(hidden=(16,), filters=(4,))},
    "memory": {"network": jaxppo.MLP(hidden=(16,), memory="gru", memory_size=8)},
    "shared": {"network": jaxppo.MLP(hidden=(16, 16), shared=True, layer_norm=True)},
    "no layers": {"network": jaxppo.MLP(hidden=())},
    "custom": {"network": jaxppo.Custom(module=nn.Sequential([lambda x: 1 - x.reshape(len(x), -1), nn.Dense(8)]))},
    "trust region": {"learner": jaxppo.TrustRegion(vf_minibatches=2)},
    "truncations": {"env_params": {"max_steps_in_episode": 5}},
}
NARROW = {"mlp", "frames", "memory", "shared", "trust region", "truncations"}  # with fewer inputs


def segment(config):
    """The trajectory of a first segment."""
    state = init_step(config, KEY)
    return collect_segment(config, state, draw_segment(config, state)[1])[1]


def without_truths(config):
    """The same, but that nothing is known of observations."""
    return dataclasses.replace(config, env=dataclasses.replace(envs.make(config.env), truthful=()))


def without_zeros(config):
    """The same, but that nothing is known of observations besides that they are zeros and ones."""
    env = envs.make(config.env)

    def reset(key, params):
        state, obs = env.reset(key, params)
        return state, jax.lax.optimization_barrier(obs)

    return dataclasses.replace(config, env=dataclasses.replace(env, reset=reset, truthful=(reset, env.step)))


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


@pytest.mark.parametrize("name", FIELDS)
def test_agents_are_the_same(name):
    """With bools in place of floats, to the bit; where what is always zero is left out, but for rounding."""
    config = jaxppo.Config(**{**SMALL, **FIELDS[name]})
    plain = without_truths(config)
    obs = np.asarray(segment(plain).obs)
    assert obs.dtype == np.float32
    expected = jaxppo.train(plain, KEY)
    if name in NARROW:
        entries = np.flatnonzero(~always_zero(config.make_env()))
        assert 0 < len(entries) < 0.7 * obs[0, 0].size
        kept, found = segment(config).obs, jaxppo.train(config, KEY)
        assert kept.dtype == bool
        np.testing.assert_array_equal(kept, obs.reshape(*obs.shape[:2], -1)[..., entries])
        for a, b in zip(jax.tree.leaves(found.state.policy), jax.tree.leaves(expected.state.policy), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.metrics.entropy, expected.metrics.entropy, rtol=1e-5)
        config = without_zeros(config)
    kept, found = segment(config).obs, jaxppo.train(config, KEY)
    assert kept.dtype == bool
    np.testing.assert_array_equal(kept, obs)
    for a, b in zip(jax.tree.leaves(found.state.policy), jax.tree.leaves(expected.state.policy), strict=True):
        np.testing.assert_array_equal(a, b)
    for metric in ("entropy", "value_loss", "explained_variance"):
        np.testing.assert_array_equal(getattr(found.metrics, metric), getattr(expected.metrics, metric))


@pytest.mark.parametrize("shared", [False, True])
def test_a_network_of_fewer_inputs_is_the_same(shared):
    """In what it computes of observations, and in its gradient, which is zero for weights of what is always zero."""
    config = jaxppo.Config(**SMALL, network=jaxppo.MLP(hidden=(32,), shared=shared))
    network, zero = config.make_network(), always_zero(config.make_env())
    obs = jnp.where(zero[None], 0, jax.random.bernoulli(KEY, 0.5, (3, *zero.shape)).astype(jnp.float32))
    params, reset = network.init(KEY), jnp.zeros(3, bool)

    def loss(params, obs):
        _, distribution, value = network.apply(params, (), obs, reset)
        return jnp.sum(jnp.sin(distribution.logits)) + jnp.sum(jnp.cos(value))

    kept = network.keep(obs)
    assert kept.shape == (3, 240)
    assert kept.dtype == bool
    (found, found_grad), (expected, expected_grad) = (jax.value_and_grad(loss)(params, x) for x in (kept, obs))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert jax.tree.structure(found_grad) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(found_grad), jax.tree.leaves(expected_grad), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for name in ("shared_0",) if shared else ("actor_0", "critic_0"):
        assert np.all(found_grad[name]["kernel"][zero.ravel()] == 0)
        assert np.any(found_grad[name]["kernel"][~zero.ravel()] != 0)


def test_learners_of_ones_own_see_all_of_an_observation():
    """Nor is a network of one's own taken for one whose first layer is known."""

    @hyperparameters
    class Mine(jaxppo.SGD):
        pass

    @hyperparameters
    class Brighter(jaxppo.MLP):
        def encode(self, obs, name, parent):
            return super().encode(obs, name, parent) + 1

    assert segment(jaxppo.Config(**SMALL, learner=Mine())).obs.shape == (16, 4, 10, 10, 4)

    @dataclasses.dataclass(frozen=True)
    class Around:
        def build(self, observation, action_space):
            network = jaxppo.MLP().build(observation, action_space)

            def apply(params, carry, obs, reset):
                return network.apply(params["mlp"], carry, jnp.flip(1 - obs, 1), reset)

            return network._replace(init=lambda key: {"mlp": network.init(key)}, apply=apply, unroll=None)

    assert segment(jaxppo.Config(**SMALL, network=Brighter())).obs.shape == (16, 4, 10, 10, 4)
    config = jaxppo.Config(**SMALL, network=Around())
    state, trajectory = jaxppo.init(config, KEY), segment(config)
    for obs, value in zip(trajectory.obs, trajectory.value, strict=True):
        np.testing.assert_allclose(value, jaxppo.value(config, state, obs), rtol=1e-5)


def test_whole_observations_may_be_bools_too():
    """Whoever has them asks for values and actions."""
    config = jaxppo.Config(**SMALL)
    state, _ = jaxppo.update(config, jaxppo.init(config, KEY))
    assert np.any(state.loop.obs != 0)
    found, expected = (jaxppo.value(config, state, state.loop.obs.astype(dtype)) for dtype in (bool, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_agents_with_fewer_inputs_side_by_side():
    """Under vmap each is what it is alone."""
    config = jaxppo.Config(**SMALL)
    keys = jax.random.split(KEY, 2)
    both = jax.vmap(partial(jaxppo.train, config))(keys)
    for i, key in enumerate(keys):
        alone = jaxppo.train(config, key)
        for a, b in zip(jax.tree.leaves(both.state.policy), jax.tree.leaves(alone.state.policy), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=0, atol=1e-5)


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

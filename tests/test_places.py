"""Choices in place of scatters: the same numbers, fewer operations."""

import functools
from types import SimpleNamespace

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.struct import dataclass as struct_dataclass
from trees import assert_same, raw

import jaxppo
from jaxppo import envs
from jaxppo.envs.base import Discrete, Env, TimeStep, some_action
from jaxppo.envs.batch import batch
from jaxppo.envs.places import by_choice
from jaxppo.flops import primitives

KEY = jax.random.key(0)
X = jnp.arange(12.0).reshape(3, 4)
KEYS = jax.random.split(KEY, 5)


def scatters(function, *args):
    """How many there are in a function's operations."""
    return list(primitives(jax.make_jaxpr(function)(*args).jaxpr)).count("scatter")


def in_a_loop(x, i):
    """A write in each turn, one in a branch and one in a function among them."""
    write = jax.jit(lambda x, i: x.at[i, 0].set(-1.0))

    def turn(k, x):
        x = jax.lax.cond(k == i, lambda x: x.at[:, k].set(5.0), lambda x: x, x)
        return (
            write(x, k % 3).at[0].set(jax.lax.scan(lambda row, j: (row.at[j].set(2.0), None), x[0], jnp.arange(2))[0])
        )

    return jax.lax.fori_loop(0, 4, turn, x)


def in_a_while(x, i):
    """As often as the numbers have it."""
    return jax.lax.while_loop(
        lambda c: c[1] < 3, lambda c: (c[0].at[c[1], 1].set(9.0), c[1] + 1), (x, jnp.clip(i, -3, 3))
    )[0]


def scatter(new, window, inserted, indexed):
    """JAX's own, with one index more for each axis than for the one before."""
    numbers = jax.lax.ScatterDimensionNumbers(window, inserted, indexed)
    return lambda x, i: jax.lax.scatter(x, i + jnp.arange(len(indexed), dtype=i.dtype), jnp.asarray(new), numbers)


@jax.custom_jvp
def own_derivative(x, i):
    """A function that JAX is told how to differentiate."""
    return x.at[i, 1].set(7.0)


own_derivative.defjvps(lambda t, out, x, i: t, None)

CHOSEN = {
    "a number": (lambda x, i: x.at[i, 1].set(7.0), X),
    "a row": (lambda x, i: x.at[i].set(jnp.arange(4.0)), X),
    "a column": (lambda x, i: x.at[:, i].set(jnp.arange(3.0)), X),
    "between others": (lambda x, i: x.at[1, :, i].set(jnp.arange(4.0)), jnp.ones((2, 4, 3))),
    "axes in another order": (scatter(7.0, (), (0, 1), (1, 0)), X),
    "whole numbers": (lambda x, i: x.at[i].set(i), jnp.arange(4)),
    "truths": (lambda x, i: x.at[i, i].set(True), jnp.zeros((3, 4), bool)),
    "keys": (lambda x, i: x.at[i].set(x[0]), KEYS),
    "all of it": (lambda x, i: x.at[:].set(x[::-1] * i.astype(float)), X),
    "beyond the end clipped": (lambda x, i: x.at[i, 3].set(7.0, mode="clip"), X),
    "promised to be within": (lambda x, i: x.at[jnp.clip(i, 0, 2), 3].set(7.0, mode="promise_in_bounds"), X),
    "no wrap of negative numbers": (lambda x, i: x.at[i, 3].set(7.0, wrap_negative_indices=False), X),
    "in loops": (in_a_loop, X),
    "in a loop of unknown length": (in_a_while, X),
    "in a function with a derivative of its own": (own_derivative, X),
    "in what is computed anew for derivatives": (jax.checkpoint(lambda x, i: x.at[i, 1].set(7.0)), X),
}


@pytest.mark.parametrize(("function", "x"), CHOSEN.values(), ids=CHOSEN.keys())
def test_the_same_numbers(function, x):
    """At both ends and beyond them, one by one and batched; no scatter is left."""
    indices = jnp.int32([0, 2, -1, -3, 3, 200, -200, 2**31 - 1, -(2**31)])
    chosen = by_choice(function)
    one, other = jax.jit(function), jax.jit(chosen)
    expected = [one(x, index) for index in indices]
    assert jax.typeof(other(x, indices[0])) == jax.typeof(expected[0])
    assert all(jnp.array_equal(other(x, index), each) for index, each in zip(indices, expected, strict=True))
    assert jnp.array_equal(jax.vmap(chosen, in_axes=(None, 0))(x, indices), jnp.stack(expected))
    assert scatters(function, x, indices[0])
    assert not scatters(chosen, x, indices[0])


LEFT = {
    "several places": lambda x, i: x.at[jnp.stack([i, i + 1])].set(1.0),
    "part of a row": lambda x, i: x.at[i, 1:3].set(1.0),
    "a function of what is there": lambda x, i: x.at[i].apply(jnp.sin),
    "a window": scatter(np.ones((2, 4), np.float32), (0, 1), (), (0,)),
    "part of a row, from its beginning": scatter(np.ones(2, np.float32), (0,), (0,), (0,)),
    "rows that begin elsewhere": lambda x, i: scatter(jnp.ones(3), (0,), (1,), (0,))(x[:, :3], i),
    "an index that may not count that far": lambda x, i: scatter(1.0, (), (0, 1), (0, 1))(x, i.astype(jnp.uint8)),
    "a large array": lambda x, i: jnp.resize(x, (100, 50)).at[i, 1].set(1.0),
    "a place of each of several arrays": lambda x, i: jax.vmap(lambda row, k: row.at[k + i].set(1.0))(x, jnp.arange(3)),
}


@pytest.mark.parametrize("function", LEFT.values(), ids=LEFT.keys())
def test_other_scatters_are_left(function):
    """They are what they were."""
    index = jnp.int32(1)
    assert scatters(by_choice(function), X, index) == scatters(function, X, index) == 1
    np.testing.assert_array_equal(by_choice(function)(X, index), function(X, index))


def test_names_and_places_in_code_are_kept():
    """Those of the scatter, for profiles and errors."""

    def named(x, i):
        with jax.named_scope("bricks"):
            return x.at[i].set(1.0)

    found, expected = (
        str(jax.make_jaxpr(each)(X, 1).eqns[-1].source_info.name_stack) for each in (by_choice(named), named)
    )
    assert found == expected == "bricks"


def test_without_jit():
    """Operation by operation, as for debugging."""
    with jax.disable_jit():
        np.testing.assert_array_equal(by_choice(lambda x, i: x.at[i].set(1.0))(X, 2), X.at[2].set(1.0))


def test_derivatives():
    """With respect to what was there, and to what is written."""

    def loss(function, x, y):
        return jnp.sum(function(x, y, jnp.int32(1)) ** 2)

    def write(x, y, i):
        return x.at[i, 2].set(y)

    found, expected = (jax.grad(loss, (1, 2))(each, X, 3.0) for each in (by_choice(write), write))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


# Scatters of a step, and those that are left: Breakout's bricks come back in three rows at once, for example.
SCATTERS = {
    "Asterix-MinAtar": (52, 0),
    "Breakout-MinAtar": (6, 1),
    "Catch-bsuite": (2, 0),
    "DeepSea-bsuite": (1, 0),
    "Freeway-MinAtar": (73, 8),
    "DiscountingChain-bsuite": (2, 0),
    "MemoryChain-bsuite": (3, 1),
    "Pong-misc": (11, 1),
    "Seaquest-MinAtar": (17, 0),
    "SpaceInvaders-MinAtar": (21, 1),
    "UmbrellaChain-bsuite": (3, 0),
}


@pytest.mark.parametrize("name", SCATTERS)
def test_environments(monkeypatch, name):
    """They make the same of random actions, resets among them, to the bit."""
    env = envs.make(name)
    action = jnp.broadcast_to(some_action(env.action_space(env.params)), 3)
    keys = jax.random.split(KEY, 3)

    def play(by_choices):
        monkeypatch.setattr("jaxppo.backend.launches_count", lambda: by_choices)
        environments = batch(env, env.params, 3, 3)
        step = functools.partial(environments.step, act=lambda action, _: action)

        def turn(state, key):
            moves = jax.random.randint(key, action.shape, 0, 2)
            state, timestep = step(jax.random.split(key, 3), state, moves)
            return state, (state, timestep)

        def run(keys):
            state, obs = environments.reset(keys)
            return obs, jax.lax.scan(turn, state, jax.random.split(KEY, 40))

        results = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})(keys)
        return results, scatters(step, keys, jax.eval_shape(environments.reset, keys)[0], action)

    (expected, before), (found, after) = play(False), play(True)
    jax.tree.map(np.testing.assert_array_equal, raw(found), raw(expected))
    assert (before, after) == SCATTERS[name]


def test_environments_without_scatters():
    """All others that gymnax has: a new one with some is one to add above."""
    for name in set(gymnax.registered_envs) - set(SCATTERS) - {"MNISTBandit-bsuite"}:
        env = envs.make(name)
        step, state = functools.partial(env.step, params=env.params), jax.eval_shape(env.reset, KEY, env.params)[0]
        assert not scatters(step, KEY, state, some_action(env.action_space(env.params))), name


@struct_dataclass
class Params:
    """Some that a user may have."""

    size: int = 3
    speed: float = 1.0
    moves: bool = True


@pytest.mark.parametrize("settings", [{}, {"speed": np.float32([1, 2, 3, 4])}], ids=["one for all", "one for each"])
def test_parameters_that_shapes_depend_on(monkeypatch, settings):
    """Those of an environment that all copies share are numbers of Python's, whatever else there is of each."""

    def reset(key, params):
        del key
        return jnp.int32(0), jnp.zeros(params.size)

    def step(key, state, action, params):
        del key
        obs = jnp.zeros(params.size).at[action].set(params.speed if params.moves else 0.0)
        return state + 1, TimeStep(obs, jnp.sum(obs), state > 5, jnp.array(False))

    env = Env(
        "own", Params(), jax.ShapeDtypeStruct((3,), jnp.float32), reset, step, lambda _: Discrete(3), lambda _: None
    )
    config = jaxppo.Config(env=env, env_params=settings, num_envs=4, num_steps=8, total_timesteps=64)
    expected = jaxppo.train(config, KEY)
    monkeypatch.setattr("jaxppo.envs.batch.backend", SimpleNamespace(launches_count=lambda: True))
    jax.clear_caches()
    assert_same(jaxppo.train(config, KEY), expected)
    environments = batch(env, Params(**settings), 4, 4)
    step = functools.partial(environments.step, act=lambda action, _: action)
    keys = jax.random.split(KEY, 4)
    assert not scatters(step, keys, jnp.zeros(4, jnp.int32), jnp.zeros(4, jnp.int32))


def test_training_is_the_same(monkeypatch):
    """With choices, as on a GPU, and with scatters, as on a CPU: one after the other on the latter."""
    config = jaxppo.Config(env="Breakout-MinAtar", num_envs=4, num_steps=16, total_timesteps=192)

    def train(by_choices):
        with monkeypatch.context() as patched:
            if by_choices:
                patched.setattr("jaxppo.envs.batch.backend", SimpleNamespace(launches_count=lambda: True))
            jax.clear_caches()
            result = jaxppo.train(config, KEY)
            return result, scatters(lambda: jaxppo.update(config, result.state))

    (expected, before), (found, after) = train(by_choices=False), train(by_choices=True)
    assert_same(found, expected)
    assert (before, after) == (11, 2)  # those of resets among them

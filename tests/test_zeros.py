"""What is always zero in an observation, found in the functions of an environment."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from probes import bundle, timestep

from jaxppo import envs
from jaxppo.envs import Discrete, wrappers
from jaxppo.envs.zeros import always_zero, run

KEY = jax.random.key(0)
GAMES = ("Breakout-MinAtar", "Freeway-MinAtar", "SpaceInvaders-MinAtar")


def known(function, inputs, num_unknown):
    """What `run` says of a function's only result, with all but the last arguments known."""
    closed = jax.make_jaxpr(function)(*inputs)
    parts = [run(jax.make_jaxpr(lambda x=x: x)(), [])[0] for x in inputs[: len(inputs) - num_unknown]]
    return run(closed, parts)[0]


def test_breakout_by_its_rules():
    """The paddle stays in the last row, and bricks in the three that they are laid in."""
    expected = np.ones((10, 10, 4), bool)
    expected[9, :, 0] = False  # the paddle
    expected[:, :, 1:3] = False  # the ball, now and before
    expected[1:4, :, 3] = False  # bricks
    np.testing.assert_array_equal(always_zero(envs.make("Breakout-MinAtar")), expected)


@pytest.mark.parametrize(("name", "channel"), [("Freeway-MinAtar", 1), ("SpaceInvaders-MinAtar", 0)])
def test_other_games_by_their_rules(name, channel):
    """Cars drive in the eight rows between the first and the last, and the cannon stays in the last."""
    zero = always_zero(envs.make(name))[:, :, channel]
    expected = np.zeros((10, 10), bool)
    expected[[0, 9] if name.startswith("Freeway") else slice(9)] = True
    np.testing.assert_array_equal(zero, expected)


@pytest.mark.parametrize("name", GAMES)
def test_in_play(name):
    """Nothing else is ever seen there, but much elsewhere."""
    env = envs.make(name)
    num_actions = env.action_space(env.params).n

    def play(key):
        def step(carry, key):
            state, seen = carry
            keys = jax.random.split(key, 3)
            action = jax.random.randint(keys[0], (), 0, num_actions)
            state, after = env.step(keys[1], state, action, env.params)
            fresh, obs = env.reset(keys[2], env.params)
            state = jax.tree.map(lambda new, old: jnp.where(after.terminated, new, old), fresh, state)
            return (state, seen | (after.obs != 0) | (obs != 0)), None

        state, obs = env.reset(key, env.params)
        return jax.lax.scan(step, (state, obs != 0), jax.random.split(key, 1000))[0][1]

    seen = np.any(np.asarray(jax.jit(jax.vmap(play))(jax.random.split(KEY, 64))), axis=0)
    zero = always_zero(env)
    assert not np.any(seen & zero)
    assert np.sum(seen) > 0.6 * np.sum(~zero)


def test_wrapped_environments():
    """Frames are each as one is alone, and real ends change nothing."""
    env = envs.make("Breakout-MinAtar")
    zero = always_zero(env)
    np.testing.assert_array_equal(always_zero(wrappers.truncation_is_terminal(env)), zero)
    np.testing.assert_array_equal(always_zero(wrappers.stack_frames(env, 3)), np.concatenate([zero] * 3, axis=-1))


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "MountainCar-v0"])
def test_floats_are_never_taken_for_zeros(name):
    """Whether a control problem's numbers are those of a mask nobody can tell."""
    assert not np.any(always_zero(envs.make(name)))


class Register(NamedTuple):
    """Numbers of which each follows the one before it."""

    numbers: jax.Array


def register(length):
    """What an action puts into its front comes out at its end after so many steps; another number stays zero."""

    def show(numbers):
        return jnp.stack([numbers[-1], jnp.zeros((), jnp.int32)]).astype(jnp.float32)

    def reset(key):
        return Register(jnp.zeros(length, jnp.int32)), show(jnp.zeros(length, jnp.int32))

    def step(key, state, action):
        numbers = jnp.concatenate([action[None], state.numbers[:-1]])
        return Register(numbers), timestep(show(numbers), 0)

    return bundle("register", 2, reset, step, Discrete(2))


@pytest.mark.parametrize(("length", "expected"), [(1, [False, True]), (40, [False, True]), (200, [False, False])])
def test_what_takes_many_steps(length, expected):
    """To be something else than zero; where it takes more than are looked at, nothing is said to be zero."""
    np.testing.assert_array_equal(always_zero(register(length)), expected)


def test_parameters_may_be_others():
    """What they make other than zero is not always zero."""

    class Params(NamedTuple):
        size: float = 0.0

    def reset(key, params):
        return jnp.zeros((), jnp.int32), jnp.stack([jnp.float32(0), jnp.asarray(params.size, jnp.float32)])

    def step(key, state, action, params):
        return state, timestep(reset(key, params)[1], 0)

    env = envs.Env("size", Params(), jax.ShapeDtypeStruct((2,), jnp.float32), reset, step, lambda _: Discrete(2), None)
    np.testing.assert_array_equal(always_zero(env), [True, False])


def test_what_cannot_be_traced():
    """Nothing is said of an environment that wants Python's own numbers for parameters."""

    def reset(key, params):
        return jnp.zeros((), jnp.int32), jnp.zeros(2)

    def step(key, state, action, params):
        return state, timestep(jnp.zeros(2) if params[0] > 0 else jnp.ones(2), 0)

    env = envs.Env("flag", (1,), jax.ShapeDtypeStruct((2,), jnp.float32), reset, step, lambda _: Discrete(2), None)
    np.testing.assert_array_equal(always_zero(env), [False, False])


def test_the_first_observation_counts():
    """What only a reset shows is not always zero, nor what only steps show."""

    def reset(key):
        return jnp.zeros((), jnp.int32), jnp.array([1.0, 0.0, 0.0])

    def step(key, state, action):
        return state, timestep(jnp.array([0.0, 1.0, 0.0]), 0)

    np.testing.assert_array_equal(always_zero(bundle("first", 3, reset, step, Discrete(2))), [False, False, True])


A, B = np.arange(12, dtype=np.int32).reshape(3, 4) % 5, np.arange(12, dtype=np.int32).reshape(3, 4) % 3
FUNCTIONS = {
    "sum": (lambda a, b, x: a + b, 12),
    "sum with what is unknown": (lambda a, b, x: a + x, 0),
    "a row of it": (lambda a, b, x: a.at[1].set(x[0]), 8),
    "known numbers over it": (lambda a, b, x: x.at[1:3].set(a[:2]), 0),  # a place for several indices
    "known numbers at a place": (lambda a, b, x: jnp.concatenate([x, a]).at[3, 1].set(7), 12),
    "a number somewhere in a row": (lambda a, b, x: a.at[1, x[0, 0]].set(9), 8),
    "the same numbers somewhere": (lambda a, b, x: jnp.ones((3, 4), jnp.int32).at[x[0, 0]].set(1), 12),
    "a number far outside": (lambda a, b, x: a.at[7, 1].set(x[0, 0]), 9),  # dropped; a column may lose what it was
    "one of two": (lambda a, b, x: jnp.where(x > 0, a, b), int(np.sum(A == B))),
    "a known one of two": (lambda a, b, x: jnp.where(a > b, a, x), int(np.sum(A > B))),
    "a partly known one of two": (
        lambda a, b, x: jnp.where(jnp.concatenate([x, a]) > 1, jnp.concatenate([a, a]), jnp.concatenate([b, b])),
        12 + int(np.sum(A == B)),
    ),
    "rolled": (lambda a, b, x: jnp.roll(jnp.concatenate([a, x]), 1, axis=0), 12),
    "turned": (lambda a, b, x: jnp.flip(jnp.concatenate([a, x]).T, 0), 12),
    "a slice": (lambda a, b, x: jnp.concatenate([a, x])[::2, 1:3], 4),
    "bools and back": (lambda a, b, x: ((a != 0) & ~(b == 1) | (a < 1)).astype(jnp.float32), 12),
    "as whole numbers": (lambda a, b, x: a.astype(jnp.float32).astype(jnp.int32), 0),
    "floats": (lambda a, b, x: a.astype(jnp.float32) * 0.5, 0),
    "of floats the larger": (lambda a, b, x: jnp.maximum(a.astype(jnp.float32), 2.5), 12),
    "a function's": (lambda a, b, x: jax.jit(lambda x, a: (x, a - 1))(x, a)[1], 12),
    "a sum of them": (lambda a, b, x: jnp.sum(a), 0),
    "a function of a row": (lambda a, b, x: a.at[1].apply(lambda row: row + 7), 0),
    "in Fortran's order": (lambda a, b, x: jnp.concatenate([a, x]).reshape(-1, order="F"), 12),
    "a case beyond the last": (lambda a, b, x: jax.lax.select_n(a, a, b, a + b), 12),
    "a case before the first": (lambda a, b, x: jax.lax.select_n(a - 3, a, b, a + b), 12),
    "of many cases": (lambda a, b, x: jax.lax.select_n(a, *[a * k for k in range(70)]), 12),
    "of a single number": (lambda a, b, x: jnp.where(x[0, 0] > 0, 1, 1).at[()].set(x[0, 0]), 0),
    "a float that a processor may flush": (lambda a, b, x: jnp.float32(1e-40) * (a == a).astype(jnp.float32) == 0, 0),
    "a tiny float": (lambda a, b, x: jnp.full((3, 4), 1e-40).astype(bool), 0),
    "a narrower float": (lambda a, b, x: a.astype(jnp.float32).astype(jnp.float16), 0),
    "wrapped around": (lambda a, b, x: (a + 250).astype(jnp.uint8) * jnp.uint8(3) - jnp.uint8(7), 12),
    "a loop's": (lambda a, b, x: jax.lax.fori_loop(0, 3, lambda _, a: a + 1, a), 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_known_is_so(name):
    """Whatever the rest is, and so many numbers are known."""
    function, count = FUNCTIONS[name]
    found = known(function, (A, B, np.zeros((3, 4), np.int32)), 1)
    assert (0 if found is None else np.sum(found.known)) == count
    for x in range(-2, 3):
        result = np.asarray(function(jnp.asarray(A), jnp.asarray(B), jnp.full((3, 4), x, jnp.int32)))
        if found is not None:
            np.testing.assert_array_equal(found.value[found.known], result[found.known])


@pytest.mark.parametrize("seed", range(20))
def test_of_random_programs(seed):
    """Numbers said to be known are what comes out for every input."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 11, 12)

    def program(a, x):
        for kind, i, j in zip(steps, rng_of(seed), rng_of(seed + 100), strict=False):
            a = [
                lambda a=a, i=i: a + i,
                lambda a=a: a * a - a,
                lambda a=a, i=i, j=j: a.at[i, j].set(x[0]),
                lambda a=a, i=i: a.at[i, x[1]].set(3),
                lambda a=a, i=i: a.at[x[2] % 4, :].set(i),
                lambda a=a: jnp.where(a > 1, a, x[None]),
                lambda a=a, i=i: jnp.where(x[3] > 0, a, i),
                lambda a=a: a.T,
                lambda a=a, i=i: jnp.roll(a, i, axis=0),
                lambda a=a: jnp.minimum(a, 2) + (a == 0).astype(jnp.int32),
                lambda a=a, j=j: a.at[:, j].set(a[j]),
            ][kind]()
        return a

    def rng_of(seed):
        return np.random.default_rng(seed).integers(0, 4, 12).tolist()

    a = rng.integers(0, 3, (4, 4)).astype(np.int32)
    found = known(program, (a, np.zeros(4, np.int32)), 1)
    compiled = jax.jit(program)
    results = np.stack([compiled(a, rng.integers(-2, 6, 4).astype(np.int32)) for _ in range(50)])
    if found is not None:
        where = np.broadcast_to(found.known, results.shape)
        np.testing.assert_array_equal(results[where], np.broadcast_to(found.value, results.shape)[where])


def test_random_programs_leave_something_known():
    """Or the test above would compare nothing."""
    a = np.ones((4, 4), np.int32)
    found = known(lambda a, x: a.at[1, x[1]].set(3) + 1, (a, np.zeros(4, np.int32)), 1)
    np.testing.assert_array_equal(found.known, np.arange(4)[:, None].repeat(4, 1) != 1)
    np.testing.assert_array_equal(found.value[found.known], 2)

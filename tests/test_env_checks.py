"""Environments of a user's own that do not keep to the protocol are refused when a config is made."""

import gc
import weakref
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import jaxppo
from jaxppo.envs import Box, Discrete, Env, MultiDiscrete, TimeStep


def reset(key, params):
    """Two numbers to see, and a count of steps behind them."""
    return jnp.int32(0), jnp.zeros(2)


def step(key, state, action, params):
    """Five of these are an episode."""
    return state + 1, TimeStep(jnp.zeros(2), jnp.float32(1), state > 3, jnp.bool_(False))


ENV = Env(
    name="mine",
    params=None,
    observation=jax.ShapeDtypeStruct((2,), jnp.float32),
    reset=reset,
    step=step,
    action_space=lambda params: Discrete(2),
    max_steps=lambda params: None,
)


def stepping(**changes):
    """A step whose results differ so."""

    def changed(key, state, action, params):
        state, timestep = step(key, state, action, params)
        return changes.get("state", lambda x: x)(state), timestep._replace(
            **{name: value for name, value in changes.items() if name != "state"}
        )

    return changed


def test_one_that_keeps_to_the_protocol_trains():
    """It is looked at once, however many configs there are."""
    calls = []

    def counting(key, params):
        calls.append(key)
        return reset(key, params)

    env = replace(ENV, reset=counting)
    jaxppo.Config(env=env, num_envs=8)
    assert len(calls) == 1
    config = jaxppo.Config(env=env, num_envs=2, num_steps=8, total_timesteps=16)
    assert len(calls) == 1
    assert jaxppo.train(config, jax.random.key(0)).metrics.episodes.shape == (1,)


@jax.tree_util.register_pytree_node_class
class Place:
    """A state that says nothing of itself."""

    def __init__(self, x):
        self.x = x

    def tree_flatten(self):
        return (self.x,), None

    @classmethod
    def tree_unflatten(cls, aux, children):
        return cls(*children)


def placed(dtype):
    """A step that leaves a place of this dtype."""

    def go(key, state, action, params):
        return Place(state.x.astype(dtype) + 1), step(key, jnp.int32(0), action, params)[1]

    return {"reset": lambda key, params: (Place(jnp.int32(0)), jnp.zeros(2)), "step": go}


FINE = {
    "a class of its own": placed(jnp.int32),
    "a whole reward": {"step": stepping(reward=jnp.int32(3))},
    "a plain reward": {"step": stepping(reward=1.0)},
    "an infinite limit": {"max_steps": lambda params: float("inf")},
}


@pytest.mark.parametrize("changes", FINE.values(), ids=FINE)
def test_what_is_unusual_is_taken(changes):
    """All that training takes, where types are promoted as JAX does by itself."""
    with jax.numpy_dtype_promotion("standard"):
        config = jaxppo.Config(env=replace(ENV, **changes), num_envs=2, num_steps=8, total_timesteps=16)
        assert jaxppo.train(config, jax.random.key(0)).metrics.episodes.shape == (1,)


def test_one_that_is_made_within_a_program_is_taken():
    """Bounds are tracers then."""

    @jax.jit
    def returns(bound):
        env = replace(ENV, action_space=lambda params: Box(-bound, bound, (1,)))
        config = jaxppo.Config(env=env, num_envs=2, num_steps=8, total_timesteps=16)
        return jaxppo.train(config, jax.random.key(0)).metrics.episode_return

    assert returns(jnp.ones(1)).shape == (1,)


def test_one_that_is_not_used_any_more_is_forgotten():
    """It may hold much memory."""
    env = replace(ENV, params=jnp.zeros(1000))
    jaxppo.Config(env=env)
    forgotten = weakref.ref(env)
    del env
    gc.collect()
    assert forgotten() is None


WRONG = {
    "a class of its own": (placed(jnp.float32), r"step gives state\[<flat index 0>\] int32\[\], not float32\[\]"),
    "order of gymnax": ({"reset": lambda key, params: (jnp.zeros(2), jnp.int32(0))}, r"reset gives obs float32\[2\]"),
    "declared shape": ({"observation": jax.ShapeDtypeStruct((3,), jnp.float32)}, r"float32\[3\], not float32\[2\]"),
    "declared dtype": ({"observation": jax.ShapeDtypeStruct((2,), jnp.int32)}, r"int32\[2\], not float32\[2\]"),
    "declaration": ({"observation": (2,)}, "jax.ShapeDtypeStruct, not"),
    "three results": ({"reset": lambda key, params: (1, 2, 3)}, r"reset gives \(state, obs\), not tuple"),
    "parts": ({"step": stepping(obs={"seen": jnp.zeros(2)})}, r"step gives obs PyTreeDef\(\*\), not .*seen"),
    "nothing to see": ({"observation": jax.ShapeDtypeStruct((0,), jnp.float32)}, r"shows numbers, not float32\[0\]"),
    "a key to see": (
        {"observation": jax.eval_shape(lambda: jax.random.key(0)), "reset": lambda key, params: (0, key)},
        "shows numbers, not key",
    ),
    "no results": ({"step": lambda key, state, action, params: None}, r"step gives \(state, TimeStep\)"),
    "a plain tuple": (
        {"step": lambda key, state, action, params: (state, tuple(step(key, state, action, params)[1]))},
        r"step gives \(state, TimeStep\), not tuple",
    ),
    "observation of a step": ({"step": stepping(obs=jnp.zeros(3))}, r"step gives obs float32\[2\], not float32\[3\]"),
    "dtype of the state": (
        {"step": stepping(state=lambda x: x.astype(jnp.float32))},
        r"step gives state int32\[\], not float32\[\]",
    ),
    "shape of the reward": ({"step": stepping(reward=jnp.ones(1))}, r"reward float32\[\], not float32\[1\]"),
    "kind of the reward": ({"step": stepping(reward=jnp.bool_(True))}, r"reward float32\[\], not bool\[\]"),
    "dtype of an end": ({"step": stepping(terminated=jnp.float32(0))}, r"terminated bool\[\], not float32\[\]"),
    "a step that fails": ({"step": lambda key, state, action, params: state["x"]}, "step can be traced by JAX; "),
    "no function": ({"action_space": Discrete(2)}, r"action_space is a function, not Discrete\(2\)"),
    "no limit": ({"max_steps": 10}, "max_steps is a function, not 10"),
    "no action": ({"action_space": lambda params: Discrete(0)}, r"with actions, not Discrete\(0\)"),
    "no part": ({"action_space": lambda params: MultiDiscrete((2, 0))}, r"with actions, not MultiDiscrete\(2, 0\)"),
    "no numbers": ({"action_space": lambda params: Box(-1.0, 1.0, (0,))}, r"have a shape, not \(0,\)"),
    "bounds": ({"action_space": lambda params: Box(1.0, -1.0, (1,))}, "from low to high"),
    "shape of bounds": ({"action_space": lambda params: Box(-jnp.ones(3), jnp.ones(3), (2,))}, "from low to high"),
    "no shape": ({"action_space": lambda params: Box(-1.0, 1.0, 2)}, "whose actions have a shape, not 2"),
    "no whole number": ({"action_space": lambda params: Discrete(2.5)}, r"with actions, not Discrete\(2.5\)"),
    "a space that fails": ({"action_space": lambda params: params.n}, "action_space can be traced by JAX; Attribute"),
    "no steps": ({"max_steps": lambda params: 0}, "max_steps gives a number >= 1 or None, not 0"),
    "another space": ({"action_space": lambda params: 3}, "Discrete, MultiDiscrete or Box, not 3"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_others_are_refused(changes, words):
    """With what is amiss and what it should be, on one line."""
    with pytest.raises(jaxppo.ConfigError, match=rf"^env=mine: must be one .*{words}") as error:
        jaxppo.Config(env=replace(ENV, **changes))
    assert "\n" not in str(error.value)

"""Keys of either kind do the same; whatever else is given as one is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_same

import jaxppo

CONFIG = jaxppo.Config(num_steps=16, total_timesteps=128, network=jaxppo.MLP(hidden=(8,)))
NEW, OLD = jax.random.key(3), jax.random.PRNGKey(3)


def assert_equal(actual, expected):
    """All leaves, to the bit."""
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_both_kinds_train_and_play_alike():
    """A legacy key, uint32 [2], is the typed one: for an agent, several, a state, an evaluation and an action."""
    new, old = jaxppo.train(CONFIG, NEW), jaxppo.train(CONFIG, OLD)
    assert_equal(old.metrics, new.metrics)
    many = [jaxppo.train_agents(CONFIG, jax.random.split(key)).metrics for key in (NEW, OLD)]
    assert_equal(*many)
    inside = jax.vmap(jaxppo.train, in_axes=(None, 0))(CONFIG, jax.random.split(OLD))
    assert_same(inside.metrics, many[0])
    obs = jnp.ones((3, 4))
    for play in (
        lambda key: jaxppo.init(CONFIG, key).policy.params,
        lambda key: jaxppo.evaluate(CONFIG, new.state, key, num_episodes=4, greedy=False),
        lambda key: jaxppo.act(CONFIG, new.state, obs, key),
    ):
        assert_equal(play(OLD), play(NEW))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (0, r"^key=0: must be a PRNG key, as from jax\.random\.key\(0\)"),
        (None, r"^key=None: must be"),
        (np.zeros(2), r"^key=float64 of shape \(2,\): must be"),
        (np.zeros((4, 3), np.uint32), r"^key=uint32 of shape \(4, 3\): must be"),
        (jax.random.split(NEW, 3), r"^key=key<fry> of shape \(3,\): must be.*jaxppo\.train_agents or jax\.vmap"),
        (jax.random.split(OLD, 3), r"^key=uint32 of shape \(3, 2\): must be"),
    ],
    ids=["number", "none", "floats", "words", "several", "several-legacy"],
)
def test_what_is_no_key(key, words):
    """Before anything compiles, wherever a key goes in."""
    state = jax.eval_shape(jaxppo.init, CONFIG, NEW)
    for use in (jaxppo.train, jaxppo.init, lambda config, key: jaxppo.evaluate(config, state, key)):
        with pytest.raises(jaxppo.ConfigError, match=words):
            use(CONFIG, key)

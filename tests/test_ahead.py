"""Random numbers told apart from what is made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import raw

from jaxppo import envs, rollout
from jaxppo.ahead import in_two
from jaxppo.config import Config
from jaxppo.flops import primitives
from jaxppo.training import build, collect_segment, draw_segment, init_step
from jaxppo.types import EnvLoop

KEYS = jax.random.split(jax.random.key(3), 6)


@pytest.mark.parametrize("name", ["Breakout-MinAtar", "Freeway-MinAtar", "Asterix-MinAtar", "CartPole-v1"])
def test_the_two_make_the_whole(name):
    """To the bit; the second part draws nothing, and the first gives no more than that takes."""
    env = envs.make(name)

    def reset(keys):
        return jax.vmap(lambda key: env.reset(key, env.params))(keys)

    draw, finish = in_two(reset, KEYS)
    drawn = jax.jit(draw)(KEYS)
    for a, b in zip(jax.tree.leaves(jax.jit(finish)(drawn)), jax.tree.leaves(jax.jit(reset)(KEYS)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not {"random_bits", "random_unwrap"} & set(primitives(jax.make_jaxpr(finish)(drawn).jaxpr))
    sizes = {"Breakout-MinAtar": 1, "Freeway-MinAtar": 16, "Asterix-MinAtar": 0, "CartPole-v1": 4}
    assert sum(x.size for x in drawn) == sizes[name] * len(KEYS)


def test_keys_and_constants_among_the_results():
    """What a function keeps of its keys, and what depends on none."""

    def function(keys):
        numbers = jax.vmap(jax.random.normal)(keys)
        return {"keys": keys, "numbers": numbers * 2, "twice": numbers, "zero": 0.0, "table": jnp.asarray(TABLE)}

    draw, finish = in_two(function, KEYS)
    found, expected = finish(draw(KEYS)), function(KEYS)
    np.testing.assert_array_equal(*(jax.random.key_data(each.pop("keys")) for each in (found, expected)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


TABLE = np.arange(3)


def test_segments_are_the_same(monkeypatch):
    """However much of the resets is prepared: all, what is random, or nothing."""
    config = Config(env="Breakout-MinAtar", num_envs=3, num_steps=40)
    state = init_step(config, jax.random.key(1))
    draws = draw_segment(config, state)[1]
    envs_, _ = build(config)
    results = []
    for limit, expected in ((2**30, None), (2**12, [((3,), "int32")]), (0, [((3,), "key<fry>")])):
        monkeypatch.setattr(rollout, "RESETS_AHEAD_BYTES", limit)
        ahead, _ = rollout._reset_in_two(envs_, draws.reset[0], 40)
        prepared = jax.eval_shape(ahead, draws.reset[0])
        if expected is None:
            assert prepared == jax.eval_shape(envs_.reset, draws.reset[0])
        else:
            assert [(x.shape, str(x.dtype)) for x in jax.tree.leaves(prepared)] == expected
        loop, trajectory, stats = collect_segment(config, state, draws)
        assert isinstance(loop, EnvLoop)
        assert np.sum(stats.episodes) > 0
        results.append(raw((loop, trajectory, stats)))
    for other in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, results[0], other)

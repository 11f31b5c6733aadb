"""States that do not go with a config are refused by name, before anything compiles; saved ones go on bit for bit."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_same

import jaxppo

KEY = jax.random.key(0)
CONFIG = jaxppo.Config(num_envs=4, num_steps=8, total_timesteps=4 * 32, network=jaxppo.MLP(hidden=(8,)))
OBS = jnp.zeros((3, 4))


@pytest.fixture(scope="module")
def state():
    """Where training of CONFIG begins."""
    return jaxppo.init(CONFIG, KEY)


CALLS = {
    "update": lambda config, state: jaxppo.update(config, state),
    "act": lambda config, state: jaxppo.act(config, state, OBS, KEY),
    "value": lambda config, state: jaxppo.value(config, state, OBS),
    "evaluate": lambda config, state: jaxppo.evaluate(config, state, KEY, num_episodes=2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_no_state_is_refused(call, state):
    """The result of a training in place of its state above all."""
    for wrong in (jaxppo.Result(state, None), state.policy.params, None):
        with pytest.raises(jaxppo.ConfigError, match=f"state={type(wrong).__name__}: must be a TrainState"):
            call(CONFIG, wrong)


OTHERS = {
    "network": (
        {"network": jaxppo.MLP(hidden=(8, 8))},
        r"without (policy\.)?params\.actor_1\.bias: must be of this config, with which there is one",
    ),
    "width": ({"network": jaxppo.MLP(hidden=(5,))}, r"params\.actor_0\.bias is of shape \(8,\): .*\(5,\)"),
    "normalize_obs": ({"normalize_obs": True}, r"without (policy\.)?obs_moments\.count"),
}


@pytest.mark.parametrize(("changes", "words"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_state_of_another_config_is_refused(call, changes, words, state):
    """With the first array that is amiss."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        call(replace(CONFIG, **changes), state)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_normaliser_that_the_config_has_not_is_refused(call):
    """What was trained with it must be used with it."""
    config = replace(CONFIG, normalize_obs=True)
    with pytest.raises(jaxppo.ConfigError, match=r"with (policy\.)?obs_moments\.count: .* with which there is none"):
        call(CONFIG, jaxppo.init(config, KEY))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_states_of_several_agents_are_refused_outside_a_vmap(call):
    """And taken within one."""
    several = jax.vmap(jaxppo.init, in_axes=(None, 0))(CONFIG, jax.random.split(KEY, 2))
    with pytest.raises(jaxppo.ConfigError, match=r"is of shape \(2, 8\): .*jax.vmap"):
        call(CONFIG, several)
    assert jax.tree.leaves(jax.vmap(lambda state: call(CONFIG, state))(several))[0].shape[0] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_envs": 8}, r"loop\.\S+ is of shape \(4,"),
        ({"normalize_reward": True}, r"without reward_moments"),
        ({"learner": jaxppo.TrustRegion()}, r"without learner\.opt_state\.count"),
    ],
)
def test_the_rest_of_a_state_must_fit_too(changes, words, state):
    """For `update`, which goes on from it."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        jaxppo.update(replace(CONFIG, total_timesteps=256, **changes), state)


@pytest.mark.parametrize("wrong", [{"env": "CartPole-v1"}, None, KEY])
def test_what_is_no_config_is_refused(wrong, state):
    """By every function that takes one."""
    for call in (
        lambda: jaxppo.train(wrong, KEY),
        lambda: jaxppo.init(wrong, KEY),
        lambda: jaxppo.update(wrong, state),
    ):
        with pytest.raises(jaxppo.ConfigError, match=r"config=\w+: must be a jaxppo.Config"):
            call()


FULL = {
    "plain": {},
    "adaptive": {"learner": jaxppo.SGD(objective=jaxppo.AdaptiveKL()), "normalize_obs": True},
    "memory": {"network": jaxppo.MLP(hidden=(8,), memory="gru"), "normalize_reward": True},
    "trpo": {"env": "Pendulum-v1", "learner": jaxppo.TrustRegion()},
}


@pytest.mark.parametrize("changes", FULL.values(), ids=FULL)
def test_a_saved_state_goes_on_bit_for_bit(changes, tmp_path):
    """Two updates, a file, two more: what four updates make, state and metrics."""
    config = replace(CONFIG, **changes)
    state = jaxppo.init(config, KEY)
    for _ in range(2):
        state, _ = jaxppo.update(config, state)
    jaxppo.save_state(tmp_path / "state.msgpack", state)
    loaded = jaxppo.load_state(str(tmp_path / "state.msgpack"), config)
    assert_same(loaded, state)
    for _ in range(2):
        (state, metrics), (loaded, others) = jaxppo.update(config, state), jaxppo.update(config, loaded)
    assert_same(loaded, state)
    assert_same(others, metrics)
    assert int(state.num_updates) == 4


def test_keys_may_be_of_any_kind(tmp_path):
    """They come back as what they were."""
    state = jaxppo.init(CONFIG, jax.random.key(0, impl="rbg"))
    jaxppo.save_state(tmp_path / "state", state)
    loaded = jaxppo.load_state(tmp_path / "state", CONFIG)
    assert loaded.key.dtype == state.key.dtype
    assert_same(jaxppo.update(CONFIG, loaded), jaxppo.update(CONFIG, state))


def test_states_of_several_agents_are_saved_one_by_one(tmp_path):
    """Together they would not be those of a config."""
    several = jax.vmap(jaxppo.init, in_axes=(None, 0))(CONFIG, jax.random.split(KEY, 2))
    with pytest.raises(jaxppo.ConfigError, match=r"state=states of shape \(2,\): must be that of one agent"):
        jaxppo.save_state(tmp_path / "state", several)
    jaxppo.save_state(tmp_path / "state", jax.tree.map(lambda x: x[1], several))
    assert_same(jaxppo.load_state(tmp_path / "state", CONFIG), jax.tree.map(lambda x: x[1], several))


def test_files_that_hold_no_such_state_are_refused(state, tmp_path):
    """Another config's, none, something else; and what is no state is not saved."""
    path = tmp_path / "state.msgpack"
    jaxppo.save_state(path, state)
    with pytest.raises(jaxppo.ConfigError, match="checkpoint="):
        jaxppo.load_state(path, replace(CONFIG, network=jaxppo.MLP(hidden=(5,))))
    with pytest.raises(jaxppo.ConfigError, match=r"checkpoint=.*arrays"):
        jaxppo.load_state(path, replace(CONFIG, normalize_obs=True))
    with pytest.raises(jaxppo.ConfigError, match=r"path=.*none.msgpack"):
        jaxppo.load_state(tmp_path / "none.msgpack", CONFIG)
    with pytest.raises(jaxppo.ConfigError, match="config=str"):
        jaxppo.load_state(path, "CartPole-v1")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(jaxppo.ConfigError, match=r"path=.*state.msgpack"):
        jaxppo.load_state(path, CONFIG)
    with pytest.raises(jaxppo.ConfigError, match="state=Result"):
        jaxppo.save_state(path, jaxppo.Result(state, None))
    with pytest.raises(jaxppo.ConfigError, match=r"path=.*No such file"):
        jaxppo.save_state(tmp_path / "no" / "state.msgpack", state)
    assert path.read_bytes() == b"nothing of the kind"


def test_observations_and_carries_of_no_size_are_refused(state):
    """A batch has at least one of them."""
    with pytest.raises(ValueError, match=r"obs of shape \(0, 4\): must be \(B, 4\), B being 1 or more"):
        jaxppo.act(CONFIG, state, np.zeros((0, 4)), KEY)
    for batch in (0, -1, 2.0):
        with pytest.raises(jaxppo.ConfigError, match=f"batch={batch}"):
            jaxppo.initial_carry(replace(CONFIG, network=jaxppo.MLP(memory="lstm")), batch)

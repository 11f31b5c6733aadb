"""Stacked frames, the last action and reward as inputs, time limits that are ends: what each shows the network."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

import jaxppo
from jaxppo.envs import Box, Discrete, Env, MultiDiscrete
from jaxppo.envs.wrappers import observe_last, stack_frames, truncation_is_terminal

KEY = jax.random.key(0)


def counter(shape, actions=None, *, masked=False):
    """Observations of `shape` filled with the time, rewards of 10 times the time, truncated after 4 steps."""
    actions = actions or Discrete(3)

    def observe(time):
        seen = jnp.full(shape, time, jnp.float32)
        return {"seen": seen, "action_mask": jnp.arange(3) != time} if masked else seen

    def reset(key, params):
        return jnp.zeros((), jnp.int32), observe(0)

    def step(key, time, action, params):
        return time + 1, probes.timestep(observe(time + 1), 10 * (time + 1), truncated=time + 1 >= 4)

    observation = jax.eval_shape(lambda: observe(0))
    return Env("counter", None, observation, reset, step, lambda params: actions, lambda params: 4)


def play(env, actions):
    """The observations from the reset on, and the time steps."""
    state, obs = env.reset(KEY, None)
    seen, timesteps = [obs], []
    for action in actions:
        state, timestep = env.step(KEY, state, action, None)
        seen.append(timestep.obs)
        timesteps.append(timestep)
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), env.observation)
    assert all(jax.tree.map(lambda x: (x.shape, x.dtype), obs) == shapes for obs in seen)
    return seen, timesteps


@pytest.mark.parametrize(("shape", "stacked"), [((), (3,)), ((2,), (6,)), ((4, 5, 2), (4, 5, 6))])
def test_stacked_frames(shape, stacked):
    """The last three observations, oldest first, along the last axis; the first one fills up at a reset."""
    env = stack_frames(counter(shape), 3)
    seen, _ = play(env, [0] * 4)
    width = stacked[-1] // 3
    for obs, times in zip(seen, [(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4)], strict=True):
        np.testing.assert_array_equal(obs, np.broadcast_to(np.repeat(times, width), stacked))


@pytest.mark.parametrize(
    ("space", "actions", "shown"),
    [
        (Discrete(3), [2, 0], [[0, 0, 0], [0, 0, 1], [1, 0, 0]]),
        (MultiDiscrete((2, 3)), [[1, 2], [0, 1]], [[0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [1, 0, 0, 1, 0]]),
        (Box(-1, 1, (2,)), [[0.5, -1.0], [0.25, 0.0]], [[0, 0], [0.5, -1.0], [0.25, 0.0]]),
    ],
    ids=str,
)
def test_the_last_action_and_reward(space, actions, shown):
    """Zeros at first, then what was done and what it paid."""
    env = observe_last(counter((2,), space))
    seen, _ = play(env, [jnp.asarray(action) for action in actions])
    for time, (obs, action) in enumerate(zip(seen, shown, strict=True)):
        np.testing.assert_array_equal(obs["obs"], [time, time])
        np.testing.assert_array_equal(obs["last_action"], action)
        assert obs["last_reward"] == 10 * time


def test_masks_pass_through():
    """An action mask is that of the moment, and stays where the network looks for it."""
    env = observe_last(stack_frames(counter((2,), masked=True), 2))
    seen, _ = play(env, [0, 0])
    for time, obs in enumerate(seen):
        np.testing.assert_array_equal(obs["action_mask"], np.arange(3) != time)
        np.testing.assert_array_equal(obs["obs"]["seen"], np.repeat([max(time - 1, 0), time], 2))
        assert set(obs["obs"]) == {"seen"}


def test_time_limits_as_ends():
    """What was a truncation is a termination, and nothing else changes."""
    env = counter((2,))
    (_, before), (_, after) = (play(each, [0] * 4) for each in (env, truncation_is_terminal(env)))
    assert [bool(step.truncated) for step in before] == [False, False, False, True]
    assert not any(step.terminated for step in before)
    assert [bool(step.terminated) for step in after] == [False, False, False, True]
    assert not any(step.truncated for step in after)
    assert [float(step.reward) for step in after] == [float(step.reward) for step in before]


def test_wrapping_twice_gives_one_object():
    """So that a config compiles once, however often it is made."""
    options = {"frame_stack": 2, "observe_last": True, "truncation_is_terminal": True}
    first, second = (jaxppo.Config(env="CartPole-v1", **options).make_env() for _ in range(2))
    assert first is second
    assert first.observation["obs"].shape == (8,)


def test_training_with_all_of_them():
    """The options work together with normalisation, and `act` takes such observations."""
    env = counter((6, 6, 1), masked=True)
    config = jaxppo.Config(
        env=env,
        num_steps=16,
        total_timesteps=128,
        frame_stack=2,
        observe_last=True,
        normalize_obs=True,
        normalize_reward=True,
        network=jaxppo.CNN(hidden=(8,)),
    )
    state = jaxppo.train(config, KEY).state
    assert np.all(np.isfinite(jax.flatten_util.ravel_pytree(state.policy.params)[0]))
    moments = state.policy.obs_moments.mean
    np.testing.assert_allclose(moments["obs"]["seen"][..., 1], np.full((6, 6), 1.5), rtol=1e-5)
    assert set(moments) == {"obs", "last_action", "last_reward"}
    obs = jax.tree.map(lambda x: jnp.ones((5, *x.shape), x.dtype), config.make_env().observation)
    obs["action_mask"] = jnp.tile(jnp.arange(3) == 1, (5, 1))
    np.testing.assert_array_equal(jaxppo.act(config, state, obs, KEY), np.ones(5))
    with pytest.raises(ValueError, match="must be PyTreeDef"):
        jaxppo.act(config, state, obs["obs"], KEY)


def test_value_of_a_limit_taken_for_an_end():
    """With `truncation_is_terminal` the value of a limited episode is that of a terminated one."""
    env = probes.time_limit(2, terminates=False, shows_time=True)
    learner = jaxppo.SGD(learning_rate=1e-2, anneal_lr=False, vf_clip_eps=None)
    config = jaxppo.Config(env=env, total_timesteps=40_000, gamma=0.5, truncation_is_terminal=True, learner=learner)
    state = jaxppo.train(dataclasses.replace(config), KEY).state
    np.testing.assert_allclose(jaxppo.value(config, state, jnp.eye(3)[:2]), [1.5, 1.0], atol=0.1)

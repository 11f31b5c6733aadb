"""Collection against plain loops over what it recorded: resets, episode statistics, bootstraps, actions."""

import dataclasses

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest
from trees import raw

import jaxppo
from jaxppo import envs, rollout, training
from jaxppo.config import canonical
from jaxppo.distributions import Gaussian
from jaxppo.envs import wrappers
from jaxppo.envs.batch import EnvBatch, batch
from jaxppo.flops import primitives
from jaxppo.networks import Network
from jaxppo.rollout import collect, draw, start
from jaxppo.training import collect_segment, draw_segment, init_step

T, N = 16, 3
KEY = jax.random.key(0)


def network_for(env, params=None):
    """A small network for the environment and parameters that give every observation its own value."""
    network = jaxppo.MLP(hidden=(8,)).build(env.observation, env.action_space(params))
    return network, network.init(jax.random.key(7))


def segments(env, network, params, count=2, num_steps=T, discount=None, env_params=None):
    """`count` segments in a row, as (loop before, loop after, trajectory, statistics)."""
    keys = jax.random.split(jax.random.key(1), count + 1)
    many = batch(env, env_params, N, N)
    loop = start(many, network, jax.random.split(keys[0], N))

    @jax.jit
    def run(loop, key):
        _, draws = draw(network, params, None, loop, key, (num_steps, len(loop.reset)), 0)
        return collect(many, network, params, None, loop, draws, discount)

    for key in keys[1:]:
        after, trajectory, stats = run(loop, key)
        yield loop, after, jax.tree.map(np.asarray, trajectory), stats
        loop = after


def joined(env, discount=None, count=2):
    """The trajectory of several segments, as one, and the last loop."""
    network, params = network_for(env)
    parts = list(segments(env, network, params, count, discount=discount))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *[part[2] for part in parts]), parts[-1][1]


def test_episodes_follow_one_another():
    """Where an episode ended the next observation is a reset's, elsewhere it is the one after the step."""
    trajectory, loop = joined(probes.noisy_walk(5, ends_early=0.1))
    done = trajectory.terminated | trajectory.truncated
    obs = np.concatenate([trajectory.obs, np.asarray(loop.obs)[None]])
    assert 0 < trajectory.terminated.sum() < done.sum()
    np.testing.assert_array_equal(obs[1:][~done], trajectory.final_obs[~done])
    np.testing.assert_array_equal(obs[1:][done][:, 1:], np.zeros((done.sum(), 2)))
    assert np.all(obs[1:][done][:, 0] != trajectory.final_obs[done][:, 0])
    reset = np.concatenate([trajectory.reset, np.asarray(loop.reset)[None]])
    np.testing.assert_array_equal(reset, np.concatenate([np.ones((1, N), bool), done]))


def test_a_reset_comes_before_the_step_that_needs_it():
    """Until then there are zeros, or what an episode ended with; then what the environment makes of the reset's key."""
    env = probes.noisy_walk(T)  # truncates at the end of a segment
    network, params = network_for(env)
    reset = batch(env, None, N, N).reset
    (begin, between, first, _), (_, end, second, _) = segments(env, network, params)
    for leaf in jax.tree.leaves((begin.env_state, begin.obs)):
        np.testing.assert_array_equal(leaf, np.zeros_like(leaf))
    for before, after, trajectory in ((begin, between, first), (between, end, second)):
        assert np.all(before.reset)
        np.testing.assert_array_equal(trajectory.obs[0], reset(before.reset_key)[1])
        np.testing.assert_array_equal(after.obs, trajectory.final_obs[-1])
    assert len(np.unique(np.concatenate([jax.random.key_data(x.reset_key) for x in (begin, between, end)]))) == 6 * N


def test_a_program_holds_one_reset():
    """And not another for the beginning, which would have to be compiled as well."""
    walk = probes.noisy_walk(4)

    def reset(key, params):
        state, obs = walk.reset(key, params)
        return state, jax.lax.lgamma(obs)

    config = jaxppo.Config(env=dataclasses.replace(walk, reset=reset), num_envs=2, num_steps=8, total_timesteps=32)
    assert list(primitives(jax.make_jaxpr(jaxppo.train)(config, KEY).jaxpr)).count("lgamma") == 1


@pytest.mark.parametrize("turns", [1, 100])
def test_loops_are_not_few_operations(turns):
    """However short they are written, they may be much work for each step."""
    walk = probes.noisy_walk(4)

    def reset(key, params):
        state, obs = walk.reset(key, params)
        return state, jax.lax.fori_loop(0, turns, lambda _, x: x + 1, obs) if turns > 1 else obs + 1

    many = batch(dataclasses.replace(walk, reset=reset), None, N, N)
    ahead, _ = rollout._reset_in_two(many, keys := jax.random.split(KEY, N), T)
    whole = jax.tree.structure(jax.eval_shape(many.reset, keys))
    assert (jax.tree.structure(jax.eval_shape(ahead, keys)) == whole) == (turns > 1)


def unsound_at_the_end(limit):
    """A walk whose episodes terminate after so many steps, and end with what is not a number."""
    walk = probes.noisy_walk(limit)

    def step(key, state, action, params):
        state, timestep = walk.step(key, state, action, params)
        obs = jnp.where(timestep.truncated, jnp.inf, state.obs)
        ended = timestep._replace(obs=obs, terminated=timestep.truncated, truncated=jnp.bool_(False))
        return state._replace(obs=obs), ended

    return dataclasses.replace(walk, step=step)


def test_what_an_episode_ended_with_counts_nowhere():
    """Neither in values nor in their derivatives, though a segment ends there and all of it is infinite."""
    config = jaxppo.Config(env=unsound_at_the_end(4), num_envs=2, num_steps=8, total_timesteps=64)
    state, metrics = jaxppo.update(config, jaxppo.init(config, KEY))
    assert np.all(state.loop.reset)
    assert np.all(np.isinf(state.loop.obs))
    assert np.isfinite(metrics.value_loss)

    def loss(params):
        begun = jaxppo.init(config, KEY)
        return jaxppo.update(config, begun.replace(policy=begun.policy.replace(params=params)))[1].value_loss

    gradient = jax.tree.leaves(jax.grad(loss)(state.policy.params))
    assert np.all([np.all(np.isfinite(x)) for x in gradient])
    assert np.any([np.any(x != 0) for x in gradient])


def test_cleared_of_what_a_reset_replaces():
    """And of that only."""
    env = unsound_at_the_end(T)
    network, params = network_for(env)
    _, after, _, _ = next(segments(env, network, params))
    loops = after._replace(reset=jnp.arange(N) > 0), rollout.cleared(after._replace(reset=jnp.arange(N) > 0))
    for old, new in zip(*(jax.tree.leaves((loop.env_state, loop.obs)) for loop in loops), strict=True):
        np.testing.assert_array_equal(new[0], old[0])
        np.testing.assert_array_equal(new[1:], np.zeros_like(old[1:]))


def test_a_step_may_change_a_weak_dtype():
    """As Python's numbers have, which become what they are added to."""
    walk = probes.noisy_walk(4)

    def reset(key, params):
        return {"walk": walk.reset(key, params)[0], "sum": 0}, walk.reset(key, params)[1]

    def step(key, state, action, params):
        inner, timestep = walk.step(key, state["walk"], action, params)
        with jax.numpy_dtype_promotion("standard"):
            return {"walk": inner, "sum": state["sum"] + timestep.reward}, timestep

    config = jaxppo.Config(
        env=dataclasses.replace(walk, reset=reset, step=step), num_envs=2, num_steps=6, total_timesteps=12
    )
    result = jaxppo.train(config, KEY)
    np.testing.assert_allclose(result.state.loop.env_state["sum"], result.state.loop.episode_return, rtol=1e-5)


def test_every_reset_is_drawn_anew():
    """No two episodes begin with the same observation."""
    trajectory, _ = joined(probes.noisy_walk(3))
    first = trajectory.obs[trajectory.reset][:, 0]
    assert len(first) > 2 * N
    assert len(set(first.tolist())) == len(first)


def test_randomness_is_not_shared():
    """The noise of the transitions and of the actions differs between all steps and environments."""
    trajectory, _ = joined(probes.noisy_walk(1000))
    moves = np.diff(np.concatenate([trajectory.obs[:, :, 0], trajectory.final_obs[-1:, :, 0]]), axis=0)
    noise = moves - np.clip(trajectory.action[:, :, 0], -0.5, 0.5)
    actions = trajectory.action[:, :, 0] - trajectory.distribution.mean[:, :, 0]
    for draws in (noise, actions):
        assert len(set(draws.ravel().round(6).tolist())) == draws.size


def test_actions_are_clipped_for_the_environment_and_stored_as_sampled():
    """The environment saw the action within its bounds; the record holds what the distribution gave."""
    env = probes.noisy_walk(5)
    network, params = network_for(env)
    trajectory, _ = joined(env)
    assert np.mean(np.abs(trajectory.action) > 0.5) > 0.3
    np.testing.assert_array_equal(trajectory.final_obs[:, :, 2], np.clip(trajectory.action[:, :, 0], -0.5, 0.5))
    flat = trajectory.obs.reshape(-1, 3)
    _, distribution, value = network.apply(params, (), jnp.asarray(flat), jnp.zeros(len(flat), bool))
    np.testing.assert_allclose(trajectory.distribution.mean.reshape(-1, 1), distribution.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trajectory.value.ravel(), value, rtol=1e-5, atol=1e-6)


def test_bounds_of_each_component():
    """Bounds may differ by component, and actions come in the space's shape."""
    space = envs.Box(np.array([[-1.0, 0.0]]), np.array([[1.0, 0.2]]), (1, 2))
    actions = jnp.array([[5.0, 5.0], [-5.0, -5.0], [0.5, 0.1]])
    clipped = [rollout.env_action(Gaussian(action, action), action, space) for action in actions]
    np.testing.assert_allclose(clipped, [[[1.0, 0.2]], [[-1.0, 0.0]], [[0.5, 0.1]]])


@pytest.mark.parametrize("discount", [None, 0.8])
def test_episode_statistics(discount):
    """Counts, returns, lengths and discounted returns are those of a loop that walks the rewards."""
    env = probes.noisy_walk(5, ends_early=0.1)
    network, params = network_for(env)
    running, length, discounted = np.zeros(N), np.zeros(N, int), np.zeros(N)
    for _, after, trajectory, stats in segments(env, network, params, count=3, discount=discount):
        ended, returns, lengths = np.zeros(N, int), np.zeros(N), np.zeros(N, int)
        for t in range(T):
            for n in range(N):
                running[n] += trajectory.reward[t, n]
                length[n] += 1
                discounted[n] = trajectory.reward[t, n] + (discount or 0) * discounted[n]
                if discount:
                    np.testing.assert_allclose(trajectory.discounted_return[t, n], discounted[n], rtol=1e-4, atol=1e-5)
                if trajectory.terminated[t, n] or trajectory.truncated[t, n]:
                    ended[n] += 1
                    returns[n] += running[n]
                    lengths[n] += length[n]
                    running[n] = length[n] = discounted[n] = 0
        np.testing.assert_array_equal(stats[0], ended)
        np.testing.assert_allclose(stats[1], returns, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(stats[2], lengths)
        np.testing.assert_array_equal(after.episode_length, length)
        np.testing.assert_allclose(after.episode_return, running, rtol=1e-4, atol=1e-5)


def slots(max_steps, num_steps):
    """How many final observations of an environment that truncates after so many steps at the earliest need a value."""
    return EnvBatch(None, None, max_steps, True).most_truncations(num_steps)


def test_without_truncations_no_final_observation_is_kept():
    """Nor is one needed: the next value is that of the observation to act on next, or of no account."""
    env = wrappers.truncation_is_terminal(probes.noisy_walk(5, ends_early=0.1))
    network, params = network_for(env)
    assert slots(env.max_steps(None), 1000) == 0
    for _, after, trajectory, _ in segments(env, network, params):
        assert trajectory.final_obs is None
        assert not trajectory.truncated.any()
        followers = jnp.asarray(np.concatenate([trajectory.obs[1:], np.asarray(after.obs)[None]]).reshape(-1, 3))
        expected = network.apply(params, (), followers, jnp.zeros(len(followers), bool))[2].reshape(T, N)
        found = training._next_values(network, params, trajectory, after.obs, after, 0)
        counts = ~trajectory.terminated
        np.testing.assert_allclose(np.asarray(found)[counts], np.asarray(expected)[counts], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 40])
def test_next_values(limit):
    """Each step's next value is V of the observation that followed it: the final one where it was truncated."""
    env = probes.noisy_walk(limit, ends_early=0.1)
    network, params = network_for(env)
    truncations = 0
    for _, after, trajectory, _ in segments(env, network, params):
        followers = np.concatenate([trajectory.obs[1:], np.asarray(after.obs)[None]])
        followers = np.where(trajectory.truncated[..., None], trajectory.final_obs, followers)
        flat = jnp.asarray(followers.reshape(-1, 3))
        expected = network.apply(params, (), flat, jnp.zeros(len(flat), bool))[2].reshape(T, N)
        counts = ~trajectory.terminated
        truncations += trajectory.truncated.sum()
        for max_steps in (limit, None):  # a limit that is known, and one that isn't
            found = jax.jit(training._next_values, static_argnums=(0, 5))(
                network, params, trajectory, after.obs, after, slots(max_steps, T)
            )
            np.testing.assert_allclose(np.asarray(found)[counts], np.asarray(expected)[counts], rtol=1e-5, atol=1e-6)
    least = {1: 2 * N + 1, 3: 2 * N + 1, 5: 2 * N + 1, 7: 1, 40: 0}[limit]
    assert truncations >= least if limit < 40 else truncations == 0


def test_every_truncation_has_a_slot():
    """If every episode is cut at the limit, no final observation is left out, wherever the segment begins."""
    env = probes.noisy_walk(5)
    network, params = network_for(env)
    for _, after, trajectory, _ in segments(env, network, params, count=5, num_steps=11):
        found = training._next_values(network, params, trajectory, after.obs, after, slots(5, 11))
        final = jnp.asarray(trajectory.final_obs[trajectory.truncated])
        assert len(final) in (2 * N, 3 * N)
        expected = network.apply(params, (), final, jnp.zeros(len(final), bool))[2]
        np.testing.assert_allclose(np.asarray(found)[trajectory.truncated], expected, rtol=1e-5, atol=1e-6)


def counting_network():
    """A network with a carry: the steps of the episode so far, which it gives as its value."""

    def apply(params, carry, obs, reset):
        count = jnp.where(reset, 0.0, carry) + 1
        zeros = jnp.zeros((len(obs), 1))
        return count, Gaussian(zeros, zeros), count

    return Network(lambda key: (), lambda num_envs: jnp.zeros(num_envs), apply)


def test_the_carry_is_forgotten_at_a_reset_and_kept_for_the_final_observation():
    """A network that counts steps counts to the limit, and one further at the observation after a truncation."""
    env = probes.noisy_walk(5)
    network = counting_network()
    steps = 0
    for _, after, trajectory, _ in segments(env, network, (), num_steps=12):
        expected = (steps + np.arange(12)) % 5 + 1
        np.testing.assert_array_equal(trajectory.value, np.tile(expected[:, None], N))
        found = training._next_values(network, (), trajectory, after.obs, after, slots(env.max_steps(None), 12))
        np.testing.assert_array_equal(found, np.tile(expected[:, None] + 1, N))
        steps += 12


@pytest.mark.parametrize("env", ["CartPole-v1", probes.noisy_walk(4, ends_early=0.2)], ids=["cartpole", "walk"])
def test_resets_drawn_ahead_change_nothing(env, monkeypatch):
    """Drawing resets before the scan or inside it gives the same trajectory."""
    env = envs.make(env)
    network, params = network_for(env, env.params)
    runs = []
    drawn = []
    for limit, few in ((2**40, 0), (2**40, 2**40), (0, 0)):
        monkeypatch.setattr(rollout, "RESETS_AHEAD_BYTES", limit)
        monkeypatch.setattr(rollout, "FEW_OPERATIONS", few)
        ahead, _ = rollout._reset_in_two(batch(env, env.params, N, N), keys := jax.random.split(KEY, N), 32)
        drawn.append(jax.tree.structure(jax.eval_shape(ahead, keys)))
        runs.append(list(segments(env, network, params, num_steps=32, env_params=env.params)))
    assert len(set(drawn)) == 3  # states and observations; a list of numbers; keys
    assert sum(int(part[3][0].sum()) for part in runs[0]) > 0
    for other in runs[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), raw(runs[0]), raw(other))


def test_one_environment_against_gymnax_itself():
    """Steps of CartPole are those of gymnax for the same state and action, and its limit is a truncation."""
    env = envs.make("CartPole-v1")
    original, params = gymnax.make("CartPole-v1")
    params = params.replace(max_steps_in_episode=9)
    network, weights = network_for(env, params)
    before, _, trajectory, _ = next(segments(env, network, weights, count=1, env_params=params))
    first, _ = batch(env, params, N, N).reset(before.reset_key)
    for n in range(N):
        state = jax.tree.map(lambda x, n=n: x[n], first)
        for t in range(T):
            action = jnp.asarray(trajectory.action[t, n])
            with jax.numpy_dtype_promotion("standard"):
                obs, state, reward, terminated, _ = original.step_env(jax.random.key(0), state, action, params)
            np.testing.assert_allclose(trajectory.final_obs[t, n], obs, rtol=1e-5, atol=1e-6)
            assert trajectory.reward[t, n] == reward
            assert trajectory.terminated[t, n] == terminated
            assert trajectory.truncated[t, n] == (t == 8 and not terminated)
            if trajectory.terminated[t, n] or trajectory.truncated[t, n]:
                break


def test_a_state_may_hold_a_key():
    """An environment may keep a typed PRNG key in its state."""

    def reset(key, params):
        return {"key": key, "time": jnp.zeros((), jnp.int32)}, jnp.zeros(1)

    def step(key, state, action, params):
        state = {"key": jax.random.fold_in(state["key"], 1), "time": state["time"] + 1}
        reward = jax.random.normal(state["key"])
        return state, probes.timestep(jnp.zeros(1), reward, truncated=state["time"] >= 4)

    shape = jax.ShapeDtypeStruct((1,), jnp.float32)
    env = envs.Env("keyed", None, shape, reset, step, lambda params: envs.Discrete(2), lambda params: 4)
    trajectory, _ = joined(env)
    assert len(set(trajectory.reward.ravel().tolist())) == trajectory.reward.size


def test_images_keep_their_shape():
    """Whatever they are copied as; the next segment begins with what was seen last, and values are of what was seen."""
    config = canonical(jaxppo.Config(env="Asterix-MinAtar", num_envs=2, num_steps=8, total_timesteps=16))

    @jax.jit
    def segment(state):
        loop, trajectory, _ = collect_segment(config, state, draw_segment(config, state)[1])
        return state.replace(loop=loop), trajectory

    between, first = segment(init_step(config, jax.random.key(0)))
    _, second = segment(between)
    assert first.obs.shape == (8, 2, *config.make_env().observation.shape) == (8, 2, 10, 10, 4)
    np.testing.assert_array_equal(second.obs[0], between.loop.obs)
    assert len(np.unique(first.obs.reshape(16, -1), axis=0)) > 1
    _, _, value = config.make_network().apply(between.policy.params, (), first.obs[3], first.reset[3])
    np.testing.assert_allclose(first.value[3], value, rtol=1e-5)

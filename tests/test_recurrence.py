"""Memory: what was collected is what is learned from, and what is remembered is what was seen."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

import jaxppo
from jaxppo.envs.batch import batch
from jaxppo.learners.minibatches import as_rows, minibatch_rows, predict, take, to_samples
from jaxppo.rollout import collect, draw, start
from jaxppo.types import Batch

KEY = jax.random.key(0)
T, N = 12, 4


def segment(memory, seed=0):
    """A network, its parameters, and the second of two segments of a walk with episodes of five steps or fewer."""
    env = probes.noisy_walk(5, ends_early=0.1)
    network = jaxppo.MLP(hidden=(8,), memory=memory, memory_size=6).build(env.observation, env.action_space(None))
    keys = jax.random.split(jax.random.key(seed), 4)
    params = jax.tree.map(lambda x: x + 0.2 * jax.random.normal(keys[0], x.shape), network.init(keys[0]))
    many = batch(env, None, N, N)
    loop = start(many, network, jax.random.split(keys[1], N))
    draws = [draw(network, params, None, loop, key, (T, len(loop.reset)), 0)[1] for key in keys[2:]]
    loop, _, _ = collect(many, network, params, None, loop, draws[0], None)
    _, trajectory, _ = collect(many, network, params, None, loop, draws[1], None)
    flat = jnp.zeros((T, N))
    data = (trajectory.obs, trajectory.reset, loop.carry, trajectory.action, trajectory.distribution, trajectory.value)
    return network, params, Batch(*data, advantage=trajectory.reward, target=flat), trajectory


@pytest.mark.parametrize("memory", ["gru", "lstm"])
def test_replay_gives_what_collection_gave(memory):
    """From the stored first carry, the same parameters give the log-probabilities and values of the rollout."""
    network, params, data, _ = segment(memory)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(data.carry))
    assert 0 < data.reset.sum() < T * N
    samples = to_samples(network, data)
    new, value = predict(network, params, samples)
    rows = as_rows(network, samples)
    np.testing.assert_allclose(new.log_prob(rows.action), rows.old.log_prob(rows.action), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, rows.value, rtol=1e-4, atol=1e-5)
    lost = predict(network, params, samples._replace(carry=jax.tree.map(jnp.zeros_like, samples.carry)))[1]
    assert np.max(np.abs(lost - rows.value)) > 1e-2


def test_minibatches_are_whole_sequences():
    """Each sample of a minibatch is one environment's segment in order, with its own carry, and each is there once."""
    network, _, data, _ = segment("gru")
    samples = take(to_samples(network, data), minibatch_rows(KEY, N, 1, 2)[0])
    obs = np.asarray(samples.obs).reshape(N, T, 3)
    found = [next(n for n in range(N) if np.array_equal(obs[i], data.obs[:, n])) for i in range(N)]
    assert sorted(found) == list(range(N))
    carry = jax.tree.leaves(samples.carry)[0].reshape(N, -1)
    np.testing.assert_array_equal(carry, jax.tree.leaves(data.carry)[0][np.array(found)])


@pytest.mark.parametrize(
    ("learner", "memory"),
    [
        (jaxppo.SGD(jaxppo.AdaptiveKL()), "lstm"),
        (jaxppo.TrustRegion(vf_minibatches=4), "gru"),
        (jaxppo.TrustRegion(vf_minibatches=4), "lstm"),
    ],
)
def test_learners_train_with_memory(learner, memory):
    """The first ratios are 1, later ones are not, and nothing is NaN, under vmap too; SGD with a GRU learns below."""
    network = jaxppo.MLP(hidden=(8,), memory=memory, memory_size=8)
    config = jaxppo.Config(env="CartPole-v1", num_steps=16, total_timesteps=256, network=network, learner=learner)
    metrics = jax.vmap(jaxppo.train, in_axes=(None, 0))(config, jax.random.split(KEY, 2)).metrics
    for name in ("policy_loss", "value_loss", "kl", "grad_norm"):
        assert np.all(np.isfinite(getattr(metrics, name)))
    assert np.all(metrics.kl > 0)


def test_the_first_ratios_are_one():
    """One gradient step on one minibatch sees ratios of 1, with memory as without."""
    network = jaxppo.MLP(hidden=(8,), memory="lstm", memory_size=8)
    learner = jaxppo.SGD(num_epochs=1, num_minibatches=1)
    config = jaxppo.Config(env="CartPole-v1", num_steps=32, total_timesteps=512, network=network, learner=learner)
    metrics = jaxppo.train(config, KEY).metrics
    np.testing.assert_allclose(metrics.ratio_max, np.ones(4), atol=1e-5)
    np.testing.assert_allclose(metrics.kl, np.zeros(4), atol=1e-6)


def test_minibatches_that_would_cut_sequences():
    """With memory, the environments must divide into minibatches."""
    network = jaxppo.MLP(memory="gru")
    for learner in (jaxppo.SGD(num_minibatches=8), jaxppo.TrustRegion(vf_minibatches=8)):
        with pytest.raises(
            jaxppo.ConfigError, match=r"minibatches=8: must be a divisor of num_envs=4 with a recurrent"
        ):
            jaxppo.Config(network=network, learner=learner)


def test_acting_step_by_step():
    """`act_recurrent` hands on the memory: it does what the network does with the whole past, and `act` refuses."""
    network = jaxppo.MLP(hidden=(8,), memory="gru")
    config = jaxppo.Config(env="Pendulum-v1", num_steps=16, total_timesteps=256, normalize_obs=True, network=network)
    state = jaxppo.train(config, KEY).state
    obs = jax.random.normal(KEY, (6, 3, 3))
    reset = jnp.zeros((6, 3), bool).at[0].set(True).at[4, 1].set(True)
    carry = jaxppo.initial_carry(config, 3)
    actions = []
    for t in range(6):
        carry, action = jaxppo.act_recurrent(config, state, carry, obs[t], reset[t], greedy=True)
        actions.append(action)
    moments = state.policy.obs_moments
    mean, std = np.asarray(moments.mean), np.sqrt(np.asarray(moments.var) + 1e-8)
    seen = jnp.asarray(np.clip((np.asarray(obs) - mean) / std, -10, 10), jnp.float32)
    env = config.make_env()
    built = network.build(env.observation, env.action_space(env.params))
    expected, _ = built.replay(state.policy.params, built.initial_carry(3), seen, reset)
    np.testing.assert_allclose(actions, np.clip(expected.mean, -2, 2), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="act_recurrent"):
        jaxppo.act(config, state, obs[0], greedy=True)
    with pytest.raises(ValueError, match=r"^carry=\(\): must be"):
        jaxppo.act_recurrent(config, state, (), obs[0], reset[0], greedy=True)
    with pytest.raises(ValueError, match=r"^reset=bool\(2,\): must be bool\(3,\)"):
        jaxppo.act_recurrent(config, state, carry, obs[0], reset[0, :2], greedy=True)


def late_return(config, seeds=3):
    """Mean return over the last tenth of the updates, of each seed."""
    keys = jax.random.split(jax.random.key(5), seeds)
    returns = jax.vmap(jaxppo.train, in_axes=(None, 0))(config, keys).metrics.episode_return
    return np.nanmean(returns[:, -max(1, config.num_updates // 10) :], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "low", "high"), [("gru", 475, 500), ("lstm", 475, 500), ("none", 0, 80)])
def test_cartpole_without_velocities(memory, low, high, monkeypatch):
    """Memory tells how fast things move, and without it the pole falls after some 50 steps, however long one trains."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from hidden_velocities import settings

    assert low <= late_return(settings(memory, 200_000), seeds=2).mean() <= high


@pytest.mark.slow
@pytest.mark.parametrize(("memory", "low", "high"), [("gru", 0.9, 1.0), ("none", -0.3, 0.3)])
def test_memory_chain(memory, low, high):
    """What was shown at the start is needed at the end: 1 for all who remember, 0 on average for those who guess."""
    config = jaxppo.preset("MemoryChain-bsuite", memory=memory)
    scores = late_return(config)
    assert np.all((scores >= low) & (scores <= high)), scores

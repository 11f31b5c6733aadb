"""Learning on environments with known answers: what the critic says, and what the policy does."""

import jax
import jax.numpy as jnp
import numpy as np
import probes
import pytest

import jaxppo

SIGNS = jnp.array([[-1.0], [1.0]])


def learn(
    env,
    *,
    total_timesteps=20_480,
    gamma=0.9,
    gae_lambda=0.95,
    normalize=False,
    network=None,
    box_policy="gaussian",
    **learner,
):
    """A config with a small network and fast steps, and the state that it trains to."""
    settings = {"learning_rate": 1e-2, "vf_clip_eps": None, "num_minibatches": 4, "ent_coef": 0.0} | learner
    config = jaxppo.Config(
        env=env,
        total_timesteps=total_timesteps,
        num_envs=8,
        num_steps=20,
        gamma=gamma,
        gae_lambda=gae_lambda,
        normalize_obs=normalize,
        normalize_reward=normalize,
        network=network or jaxppo.MLP(hidden=(32,), box_policy=box_policy),
        learner=jaxppo.SGD(**settings),
    )
    return config, jaxppo.train(config, jax.random.key(0)).state


def assert_values(config, state, obs, expected, tolerance=0.05):
    """The critic's values of `obs` are the expected ones."""
    np.testing.assert_allclose(jaxppo.value(config, state, jnp.asarray(obs)), expected, atol=tolerance)


def test_constant_reward():
    """One step that pays 1 is worth 1."""
    config, state = learn(probes.constant_reward())
    assert_values(config, state, [[0.0]], [1.0])


def test_value_follows_the_observation():
    """One step that pays its observation is worth its observation."""
    config, state = learn(probes.reward_is_obs())
    assert_values(config, state, SIGNS, [-1.0, 1.0])


@pytest.mark.parametrize("gae_lambda", [0.0, 1.0])
def test_delayed_reward_is_discounted(gae_lambda):
    """A reward one step ahead is worth γ, by the TD error as by the Monte Carlo return."""
    config, state = learn(probes.delayed_reward(), gamma=0.6, gae_lambda=gae_lambda)
    assert_values(config, state, [[0.0], [1.0]], [0.6, 1.0])


def test_action_decides():
    """The better of two actions is found."""
    config, state = learn(probes.action_decides())
    actions = jaxppo.act(config, state, jnp.zeros((64, 1)), jax.random.key(1))
    assert np.mean(np.asarray(actions) == 1) > 0.95
    assert_values(config, state, [[0.0]], [1.0], tolerance=0.1)


@pytest.mark.parametrize("normalize", [False, True])
def test_action_and_observation_decide(normalize):
    """The better action for each observation is found, also when observations and rewards are normalised."""
    config, state = learn(probes.action_and_obs_decide(), normalize=normalize)
    assert np.asarray(jaxppo.act(config, state, SIGNS, greedy=True)).tolist() == [0, 1]
    sampled = jaxppo.act(config, state, jnp.tile(SIGNS, (64, 1)), jax.random.key(1))
    assert np.mean(np.asarray(sampled) == np.tile([0, 1], 64)) > 0.95


def test_continuous_action_decides():
    """The best of a continuum of actions is found."""
    config, state = learn(probes.target_action(), learning_rate=5e-3)
    np.testing.assert_allclose(jaxppo.act(config, state, jnp.zeros((1, 1)), greedy=True), [[0.5]], atol=0.1)
    assert np.exp(state.policy.params["log_std"][0]) < 0.5


@pytest.mark.parametrize(
    ("box_policy", "normalize"), [("gaussian", False), ("gaussian", True), ("tanh", False), ("beta", False)]
)
def test_continuous_action_and_observation_decide(box_policy, normalize):
    """The best continuous action for each observation is found by every policy, also when all is normalised."""
    env = probes.target_action_from_obs()
    rate = 2e-2 if box_policy == "beta" else 5e-3  # a beta sharpens only as its parameters grow large
    config, state = learn(env, learning_rate=rate, normalize=normalize, box_policy=box_policy, total_timesteps=40_960)
    np.testing.assert_allclose(jaxppo.act(config, state, SIGNS, greedy=True), [[-0.5], [0.5]], atol=0.12)


def test_the_standard_deviation_of_each_state():
    """A loss of ½ k a² and an entropy bonus of weight c have their best σ at √(c/k), here for a k of each state."""
    env = probes.stiffness()
    network = jaxppo.MLP(hidden=(32,), state_dependent_std=True)
    config, state = learn(
        env,
        network=network,
        total_timesteps=160_000,
        learning_rate=3e-3,
        anneal_lr=True,
        ent_coef=0.1,
        normalize_advantage=False,
    )
    _, distribution, _ = config.make_network().apply(state.policy.params, (), SIGNS, jnp.ones(2, bool))
    np.testing.assert_allclose(distribution.mean, 0, atol=0.1)
    np.testing.assert_allclose(np.exp(distribution.log_std[:, 0]), [0.5, 0.1], rtol=0.25)


@pytest.mark.parametrize(("gae_lambda", "known_limit"), [(0.5, True), (1.0, True), (1.0, False)])
def test_truncation_is_bootstrapped(gae_lambda, known_limit):
    """A reward of 1 a step under a time limit that can't be seen is worth 1/(1 − γ): nothing ends, it is cut short."""
    env = probes.time_limit(5, terminates=False, known_limit=known_limit)
    config, state = learn(env, gae_lambda=gae_lambda, total_timesteps=32_000)
    assert_values(config, state, [[1.0]], [10.0], tolerance=0.1)


def test_truncation_is_bootstrapped_from_the_final_observation():
    """It is the last observation before the reset that counts, not the first one after it."""
    config, state = learn(probes.pays_after_the_first_step(4), total_timesteps=32_000)
    assert_values(config, state, [[0.0], [1.0]], [9.0, 10.0], tolerance=0.2)


def test_termination_is_not_bootstrapped():
    """The same with episodes that end is worth the mean of (1 − γᵏ)/(1 − γ) over the steps k to go."""
    config, state = learn(probes.time_limit(5, terminates=True), gae_lambda=1.0)
    to_go = [(1 - 0.9**k) / (1 - 0.9) for k in range(1, 6)]
    assert_values(config, state, [[1.0]], [np.mean(to_go)], tolerance=0.1)


def test_termination_in_sight():
    """If the agent sees the time, every step to go has its own value."""
    config, state = learn(probes.time_limit(5, terminates=True, shows_time=True))
    to_go = [(1 - 0.9**k) / (1 - 0.9) for k in (5, 4, 3, 2, 1)]
    assert_values(config, state, np.eye(6, dtype=np.float32)[:5], to_go, tolerance=0.1)


def test_several_choices_at_once():
    """Each of two choices is learned, one of them from the observation."""
    config, state = learn(probes.two_choices())
    assert np.asarray(jaxppo.act(config, state, jnp.array([[0.0], [1.0]]), greedy=True)).tolist() == [[0, 2], [1, 2]]


@pytest.mark.parametrize("normalize", [False, True])
def test_masked_actions_are_never_taken(normalize):
    """Not while learning, where one would cost 100, nor afterwards; of what is left the better action is found."""
    config, state = learn(probes.three_doors(), normalize=normalize)
    result = jaxppo.train(config, jax.random.key(1))
    assert np.all(result.metrics.episode_return >= 0)
    obs = {"obs": jnp.eye(3), "action_mask": ~jnp.eye(3, dtype=bool)}
    assert np.asarray(jaxppo.act(config, state, obs, greedy=True)).tolist() == [2, 2, 1]
    many = jax.tree.map(lambda x: jnp.repeat(x, 1000, axis=0), obs)
    sampled = np.asarray(jaxppo.act(config, state, many, jax.random.key(2)))
    assert np.all(sampled != np.repeat(np.arange(3), 1000))

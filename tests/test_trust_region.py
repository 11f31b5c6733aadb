"""TRPO: the Fisher-vector product, the direction, and the bound that every step keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from problems import M, problem, rows

import jaxppo
from jaxppo.envs import Box, Discrete
from jaxppo.learners.trust_region import fisher_vector_product

SPACES = pytest.mark.parametrize("space", [Discrete(3), Box(-1.0, 1.0, (2,))], ids=["discrete", "box"])
KEY = jax.random.key(5)


def setup(space, seed=0):
    """Network, parameters [P] and batch of that very policy, with the policy as a function of [P]."""
    network, params, batch = problem(space, distance=0.0, seed=seed)
    vector, unravel = ravel_pytree(params)

    def policy(vector):
        return network.apply(unravel(vector), (), rows(batch.obs), jnp.zeros(M, bool))[1]

    batch = batch._replace(old=jax.tree.map(lambda x: x.reshape(*batch.value.shape, -1), policy(vector)))
    return network, params, batch, vector, policy


def learn(learner, network, params, batch):
    """One learning phase from a fresh state."""
    return jax.jit(lambda p: learner.update(network, learner.init(p), p, batch, KEY, jnp.float32(0.0)))(params)


@SPACES
def test_fisher_vector_product_is_the_hessian_times_the_vector(space):
    """Against the explicit Hessian of the mean divergence, and against the covariance of the score."""
    _, _, _, vector, policy = setup(space)
    old = policy(vector)

    def divergence(v):
        return jnp.mean(old.kl(policy(v)))

    hessian = np.asarray(jax.jit(jax.hessian(divergence))(vector))
    fisher = jax.jit(fisher_vector_product(divergence, vector))
    for seed in range(3):
        v = jax.random.normal(jax.random.key(seed), vector.shape)
        np.testing.assert_allclose(fisher(v), hessian @ np.asarray(v), atol=1e-4 * np.abs(hessian @ v).max())
    if isinstance(space, Discrete):  # E_π[score scoreᵀ], summed over the actions
        scores = [jax.jit(jax.jacobian(lambda v, a=a: policy(v).log_prob(jnp.full(M, a))))(vector) for a in range(3)]
        p = np.exp(old.logits)
        covariance = sum(np.einsum("m,mi,mj->ij", p[:, a], s, s) for a, s in enumerate(map(np.asarray, scores))) / M
        np.testing.assert_allclose(hessian, covariance, atol=1e-5 * np.abs(covariance).max() + 1e-6)


@SPACES
def test_the_direction_solves_the_system(space):
    """(F + damping·I)·x = g, against numpy's solver."""
    _, _, _, vector, policy = setup(space)
    old = policy(vector)
    hessian = jax.hessian(lambda v: jnp.mean(old.kl(policy(v))))(vector)
    g = jax.random.normal(KEY, vector.shape)
    learner = jaxppo.TrustRegion(cg_damping=0.1, cg_iters=100, cg_tolerance=1e-7)
    found = learner.direction(lambda v: hessian @ v, g)
    damped = np.asarray(hessian, np.float64) + 0.1 * np.eye(len(g))
    np.testing.assert_allclose(found, np.linalg.solve(damped, np.asarray(g, np.float64)), rtol=1e-2, atol=1e-3)


@SPACES
@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
def test_the_bound_holds_and_the_surrogate_improves(space, max_kl):
    """Over many problems at once: KL ≤ max_kl always, and where the search succeeded the surrogate rose."""

    def one(seed_key, scale):
        network, params, batch, _, _ = setup(space)
        batch = batch._replace(advantage=scale * jax.random.normal(seed_key, batch.value.shape))
        learner = jaxppo.TrustRegion(max_kl=max_kl)
        _, _, metrics = learner.update(network, learner.init(params), params, batch, KEY, jnp.float32(0.0))
        return metrics

    metrics = jax.jit(jax.vmap(one))(jax.random.split(KEY, 64), jnp.geomspace(1e-3, 1e3, 64))
    assert np.all(metrics["kl"] <= max_kl * (1 + 1e-4))
    assert np.all(metrics["line_search_success"] == 1)
    assert np.all(metrics["policy_loss"] < 0)  # it was 0 before, the advantages being centred
    assert np.median(metrics["kl"]) > max_kl / 10


def test_kl_metric_is_that_of_the_policy_left_behind():
    """The value fit afterwards does not move the policy."""
    network, params, batch, vector, policy = setup(Discrete(3))
    _, after, metrics = learn(jaxppo.TrustRegion(vf_learning_rate=0.1), network, params, batch)
    moved = policy(ravel_pytree(after)[0])
    np.testing.assert_allclose(jnp.mean(policy(vector).kl(moved)), metrics["kl_update"], rtol=1e-4)
    assert metrics["kl_update"] > 0


def test_value_fit_lowers_the_error():
    """And without a rate it leaves the value alone."""
    network, params, batch, _, _ = setup(Discrete(3))

    def error(params):
        value = network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))[2]
        return float(jnp.mean((value - rows(batch.target)) ** 2))

    _, still, _ = learn(jaxppo.TrustRegion(vf_learning_rate=0.0), network, params, batch)
    _, after, _ = learn(jaxppo.TrustRegion(vf_learning_rate=0.01, vf_epochs=100), network, params, batch)
    assert error(still) == error(params)
    assert error(after) < 0.7 * error(params)


@pytest.mark.parametrize("advantage", [0.0, 3.0])
def test_without_a_gradient_the_policy_stays(advantage):
    """Constant advantages say nothing: no step, no NaN, and the search is reported as failed."""
    network, params, batch, vector, policy = setup(Discrete(3))
    batch = batch._replace(advantage=jnp.full_like(batch.value, advantage))
    _, after, metrics = learn(jaxppo.TrustRegion(), network, params, batch)
    assert metrics["line_search_success"] == metrics["step_fraction"] == 0
    assert all(np.isfinite(value) for value in metrics.values())
    np.testing.assert_array_equal(policy(ravel_pytree(after)[0]).logits, policy(vector).logits)


def test_the_step_is_shortened_until_it_fits():
    """Where the quadratic model is far off, the first length is too long; the search says what it took."""
    network, params, batch, _, _ = setup(Box(-1.0, 1.0, (2,)))
    _, _, metrics = learn(jaxppo.TrustRegion(max_kl=2.0, cg_iters=2), network, params, batch)
    assert metrics["line_search_success"] == 1
    assert metrics["step_fraction"] in (0.5, 0.25, 0.125)
    _, _, once = learn(jaxppo.TrustRegion(max_kl=2.0, cg_iters=2, line_search_steps=1), network, params, batch)
    assert once["line_search_success"] == 0
    assert once["kl"] == pytest.approx(0, abs=1e-6)


def test_it_refuses_a_shared_torso_and_uneven_minibatches():
    """When the config is made, in one line."""
    with pytest.raises(jaxppo.ConfigError, match="shared=True: must be False with TrustRegion"):
        jaxppo.Config(learner=jaxppo.TrustRegion(), network=jaxppo.MLP(shared=True))
    with pytest.raises(jaxppo.ConfigError, match=r"vf_minibatches=7: must be a divisor of num_envs\*num_steps=512"):
        jaxppo.Config(learner=jaxppo.TrustRegion(vf_minibatches=7))


def test_training_vmaps_over_its_numbers():
    """One agent per bound, each within its own."""
    bounds = jnp.array([1e-4, 1e-3, 1e-2])
    config = jaxppo.Config(total_timesteps=1024, num_steps=64, learner=jaxppo.TrustRegion(max_kl=bounds))
    metrics = jax.vmap(jaxppo.train, in_axes=(jaxppo.batch_axes(config), None))(config, KEY).metrics
    assert metrics.kl.shape == (3, 4)
    assert np.all(metrics.kl <= bounds[:, None] * (1 + 1e-4))
    assert metrics.clip_fraction is None

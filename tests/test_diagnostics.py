"""Importance sampling: the diagnostics, and the facts about it that they make visible."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxppo.distributions import Categorical, Gaussian
from jaxppo.learners.diagnostics import ratio_diagnostics

NUM = 200_000


def shifted(distance, num=NUM):
    """A normal policy N(0, 1) that collected `num` actions, and one with its mean moved by `distance`."""
    old = Gaussian(jnp.zeros((num, 1)), jnp.zeros((num, 1)))
    return Gaussian(jnp.full((num, 1), distance), jnp.zeros((num, 1))), old, old.sample(jax.random.key(0))


def test_at_the_old_policy_everything_is_at_rest():
    """Ratios and the effective sample size are exactly 1, and divergences exactly 0."""
    new, old, action = shifted(0.0)
    found = {name: float(value) for name, value in ratio_diagnostics(new, old, action).items()}
    zero = dict.fromkeys(("approx_kl", "kl", "kl_reverse"), 0.0)
    assert found == {**zero, **dict.fromkeys(("ratio_mean", "ratio_max", "effective_sample_size"), 1.0)}


def test_the_effective_sample_size_falls_with_distance():
    """For unit normals at distance d it is exp(−d²) in expectation."""
    found = [float(ratio_diagnostics(*shifted(d))["effective_sample_size"]) for d in (0.1, 0.3, 0.6, 1.0)]
    assert found == sorted(found, reverse=True)
    np.testing.assert_allclose(found, np.exp(-np.square([0.1, 0.3, 0.6, 1.0])), rtol=0.1)


@pytest.mark.parametrize("seed", range(3))
def test_definitions_in_numpy(seed):
    """Every diagnostic from its definition; both divergences against scipy's."""
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.ones(4), 64), rng.dirichlet(np.ones(4), 64)
    action = rng.integers(4, size=64)
    found = ratio_diagnostics(
        Categorical(jnp.asarray(np.log(p), jnp.float32)),
        Categorical(jnp.asarray(np.log(q), jnp.float32)),
        jnp.asarray(action, jnp.int32),
    )
    ratio = p[np.arange(64), action] / q[np.arange(64), action]
    expected = {
        "ratio_mean": ratio.mean(),
        "ratio_max": ratio.max(),
        "effective_sample_size": ratio.sum() ** 2 / (64 * (ratio**2).sum()),
        "approx_kl": np.mean(ratio - 1 - np.log(ratio)),
        "kl": scipy.stats.entropy(q, p, axis=1).mean(),
        "kl_reverse": scipy.stats.entropy(p, q, axis=1).mean(),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


def test_importance_sampling_estimates_and_its_variance():
    """E_q[f·w] = E_p[f], and Var_q[f·w] − Var_p[f] = E_p[f²·(w − 1)], with p and q normal and f a square."""
    distance = 0.5
    new, old, action = shifted(distance, 2_000_000)
    w = np.exp(np.asarray(new.log_prob(action) - old.log_prob(action), np.float64))
    f = np.asarray(action, np.float64)[:, 0] ** 2
    p = scipy.stats.norm(distance, 1)
    np.testing.assert_allclose(np.mean(f * w), p.expect(lambda x: x**2), rtol=0.01)
    var_p = p.expect(lambda x: x**4) - p.expect(lambda x: x**2) ** 2
    excess = p.expect(lambda x: x**4 * (np.exp(distance * x - distance**2 / 2) - 1), lb=-15, ub=15)
    np.testing.assert_allclose(np.var(f * w) - var_p, excess, rtol=0.05)

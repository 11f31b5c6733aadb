"""Distributions against scipy, against sums and integrals, and against samples of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxppo.distributions import Categorical, Gaussian

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2, size=(2, 5, 4)).astype(np.float32)
MEANS = RNG.normal(size=(2, 5, 3)).astype(np.float32)
LOG_STDS = RNG.normal(scale=0.5, size=(2, 5, 3)).astype(np.float32)


def categoricals():
    """Two batches [5] of distributions over four actions."""
    return [Categorical.from_unnormalised(jnp.asarray(logits)) for logits in LOGITS]


def gaussians():
    """Two batches [5] of distributions over three components."""
    return [Gaussian(jnp.asarray(mean), jnp.asarray(log_std)) for mean, log_std in zip(MEANS, LOG_STDS, strict=True)]


def test_categorical_log_prob_is_log_softmax():
    """Log π(a) is the log-softmax of what the network gave, for every action."""
    actions = jnp.tile(jnp.arange(4), (5, 1)).T
    log_prob = jax.vmap(categoricals()[0].log_prob)(actions)
    np.testing.assert_allclose(log_prob.T, scipy.special.log_softmax(LOGITS[0], axis=-1), rtol=1e-5, atol=1e-6)


def test_categorical_entropy_and_kl_are_scipys():
    """Entropy and KL are those of the probability vectors."""
    p, q = categoricals()
    probabilities = scipy.special.softmax(LOGITS.astype(np.float64), axis=-1)
    np.testing.assert_allclose(p.entropy(), scipy.stats.entropy(probabilities[0], axis=-1), rtol=1e-5)
    np.testing.assert_allclose(p.kl(q), scipy.stats.entropy(*probabilities, axis=-1), rtol=1e-4)


def test_categorical_mode_is_the_likeliest():
    """The mode is the largest logit, as int32."""
    mode = categoricals()[0].mode()
    assert mode.dtype == jnp.int32
    np.testing.assert_array_equal(mode, LOGITS[0].argmax(axis=-1))


def test_categorical_samples_follow_the_probabilities():
    """The counts of 20,000 samples pass a chi-square test, for each row of the batch."""
    p = categoricals()[0]
    samples = np.asarray(jax.vmap(p.sample)(jax.random.split(jax.random.key(0), 20_000)))
    assert samples.dtype == np.int32
    for row, logits in zip(samples.T, LOGITS[0], strict=True):
        expected = 20_000 * scipy.special.softmax(logits.astype(np.float64))
        assert scipy.stats.chisquare(np.bincount(row, minlength=4), expected).pvalue > 1e-3


def test_extreme_logits_stay_finite():
    """An action of next to no probability makes no NaN."""
    p = Categorical.from_unnormalised(jnp.array([[0.0, 200.0]]))
    q = Categorical.from_unnormalised(jnp.array([[200.0, 0.0]]))
    np.testing.assert_allclose(p.log_prob(jnp.array([0])), [-200.0])
    np.testing.assert_allclose(p.kl(q), [200.0])
    assert p.entropy() == 0


def test_gaussian_log_prob_and_entropy_are_scipys():
    """Log-density and entropy are those of a multivariate normal with a diagonal covariance."""
    p = gaussians()[0]
    action = RNG.normal(size=(5, 3)).astype(np.float32)
    for i in range(5):
        normal = scipy.stats.multivariate_normal(MEANS[0, i], np.diag(np.exp(2 * LOG_STDS[0, i].astype(np.float64))))
        np.testing.assert_allclose(p.log_prob(jnp.asarray(action))[i], normal.logpdf(action[i]), rtol=1e-4)
        np.testing.assert_allclose(p.entropy()[i], normal.entropy(), rtol=1e-5)


def test_gaussian_kl_is_the_integral():
    """The KL of one component is ∫ p log(p/q), and components add up."""
    p, q = gaussians()
    total = np.zeros(5)
    for i, k in np.ndindex(5, 3):
        old, new = (scipy.stats.norm(MEANS[j, i, k], np.exp(LOG_STDS[j, i, k])) for j in range(2))
        bounds = (old.mean() - 10 * old.std(), old.mean() + 10 * old.std())

        def integrand(x, old=old, new=new):
            return old.pdf(x) * (old.logpdf(x) - new.logpdf(x))

        total[i] += scipy.integrate.quad(integrand, *bounds)[0]
    np.testing.assert_allclose(p.kl(q), total, rtol=1e-4)


def test_gaussian_samples_have_its_moments():
    """Mean and standard deviation of 20,000 samples are within five standard errors."""
    p = gaussians()[0]
    samples = np.asarray(jax.vmap(p.sample)(jax.random.split(jax.random.key(0), 20_000)))
    std = np.exp(LOG_STDS[0])
    assert np.all(np.abs(samples.mean(axis=0) - MEANS[0]) < 5 * std / np.sqrt(20_000))
    assert np.all(np.abs(samples.std(axis=0) - std) < 5 * std / np.sqrt(40_000))
    np.testing.assert_array_equal(p.mode(), MEANS[0])


@pytest.mark.parametrize("p", [categoricals()[0], gaussians()[0]], ids=["categorical", "gaussian"])
def test_kl_to_itself_is_exactly_zero(p):
    """No rounding is left in KL(p ‖ p)."""
    np.testing.assert_array_equal(p.kl(p), np.zeros(5))


@pytest.mark.parametrize("pair", [categoricals(), gaussians()], ids=["categorical", "gaussian"])
def test_gradient_of_kl_vanishes_where_they_meet(pair):
    """KL(p ‖ q) as a function of q is smallest at q = p and above zero elsewhere."""
    p, q = pair
    gradient = jax.grad(lambda other: jnp.sum(p.kl(other)))(p)
    if isinstance(p, Gaussian):
        np.testing.assert_allclose(jax.tree.leaves(gradient), np.zeros((2, 5, 3)), atol=1e-6)
    assert np.all(np.asarray(p.kl(q)) > 0)


@pytest.mark.parametrize("p", [categoricals()[0], gaussians()[0]], ids=["categorical", "gaussian"])
def test_a_sample_is_made_of_its_noise(p):
    """Sampling is drawing noise and turning it into an action, and noise depends on shapes only."""
    key = jax.random.key(3)
    np.testing.assert_array_equal(p.sample(key), p.from_noise(p.noise(key)))
    shapes = jax.eval_shape(lambda: p)
    np.testing.assert_array_equal(shapes.noise(key), p.noise(key))

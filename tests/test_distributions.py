"""Distributions against scipy, against sums and integrals, and against samples of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from jaxppo.distributions import Beta, Categorical, Gaussian, MultiDiscrete, TanhGaussian

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2, size=(2, 5, 4)).astype(np.float32)
MEANS = RNG.normal(size=(2, 5, 3)).astype(np.float32)
LOG_STDS = RNG.normal(scale=0.5, size=(2, 5, 3)).astype(np.float32)
CONCENTRATIONS = np.exp(RNG.uniform(0, 3, size=(2, 2, 5, 3))).astype(np.float32)
SIZES = (2, 3, 4)
MANY_LOGITS = RNG.normal(size=(2, 5, 9)).astype(np.float32)
EDGE = np.float32(1e-6)


def categoricals():
    """Two batches [5] of distributions over four actions."""
    return [Categorical.from_unnormalised(jnp.asarray(logits)) for logits in LOGITS]


def gaussians():
    """Two batches [5] of distributions over three components."""
    return [Gaussian(jnp.asarray(mean), jnp.asarray(log_std)) for mean, log_std in zip(MEANS, LOG_STDS, strict=True)]


def tanh_gaussians():
    """The same, squashed."""
    return [TanhGaussian(p.mean, p.log_std) for p in gaussians()]


def betas():
    """Two batches [5] of distributions over three components."""
    return [Beta(jnp.asarray(alpha), jnp.asarray(beta)) for alpha, beta in CONCENTRATIONS]


def multi_discretes():
    """Two batches [5] of distributions over 2 × 3 × 4 actions."""
    return [MultiDiscrete.from_unnormalised(jnp.asarray(logits), SIZES) for logits in MANY_LOGITS]


FAMILIES = {
    "categorical": categoricals(),
    "gaussian": gaussians(),
    "tanh": tanh_gaussians(),
    "beta": betas(),
    "multi_discrete": multi_discretes(),
}


def tanh_logpdf(a, mean, std):
    """Log-density of the tanh of a normal variable, by the change of variables."""
    return scipy.stats.norm.logpdf(np.arctanh(a), mean, std) - np.log1p(-(a**2))


def sample_many(p, num=20_000):
    """Samples [num, B, …]."""
    return np.asarray(jax.jit(jax.vmap(p.sample))(jax.random.split(jax.random.key(0), num)))


def joint(logits):
    """The probabilities [2, 3, 4] of every action of a MultiDiscrete, from its logits [9]."""
    parts = [scipy.special.softmax(part.astype(np.float64)) for part in np.split(logits, np.cumsum(SIZES)[:-1])]
    return np.einsum("i,j,k->ijk", *parts)


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


@pytest.mark.parametrize(
    ("pair", "logpdf", "parameters", "bounds"),
    [
        (gaussians(), scipy.stats.norm.logpdf, np.stack([MEANS, np.exp(LOG_STDS)], 1), (-20, 20)),
        (tanh_gaussians(), tanh_logpdf, np.stack([MEANS, np.exp(LOG_STDS)], 1), (-1, 1)),
        (betas(), scipy.stats.beta.logpdf, CONCENTRATIONS, (0, 1)),
    ],
    ids=["gaussian", "tanh", "beta"],
)
def test_kl_is_the_integral(pair, logpdf, parameters, bounds):
    """The KL of one component is ∫ p log(p/q), in the space of actions, and components add up."""
    total = np.zeros(5)
    for i, k in np.ndindex(5, 3):
        old, new = parameters[:, :, i, k].astype(np.float64)

        def integrand(x, old=old, new=new):
            return np.exp(logpdf(x, *old)) * (logpdf(x, *old) - logpdf(x, *new))

        total[i] += scipy.integrate.quad(integrand, *bounds, limit=200)[0]
    np.testing.assert_allclose(pair[0].kl(pair[1]), total, rtol=1e-4)


def test_gaussian_samples_have_its_moments():
    """Mean and standard deviation of 20,000 samples are within five standard errors."""
    p = gaussians()[0]
    samples = np.asarray(jax.vmap(p.sample)(jax.random.split(jax.random.key(0), 20_000)))
    std = np.exp(LOG_STDS[0])
    assert np.all(np.abs(samples.mean(axis=0) - MEANS[0]) < 5 * std / np.sqrt(20_000))
    assert np.all(np.abs(samples.std(axis=0) - std) < 5 * std / np.sqrt(40_000))
    np.testing.assert_array_equal(p.mode(), MEANS[0])


def test_tanh_gaussian_density_is_that_of_the_action():
    """At u it is the density of tanh u, which integrates to 1 over (−1, 1)."""
    p = tanh_gaussians()[0]
    u = RNG.normal(scale=2, size=(5, 3)).astype(np.float32)
    expected = tanh_logpdf(np.tanh(u.astype(np.float64)), MEANS[0], np.exp(LOG_STDS[0])).sum(-1)
    np.testing.assert_allclose(p.log_prob(jnp.asarray(u)), expected, rtol=1e-4)

    nodes, weights = np.polynomial.legendre.leggauss(300)
    one = TanhGaussian(jnp.full((300, 1), 0.4), jnp.full((300, 1), -0.7))
    density = np.exp(one.log_prob(jnp.asarray(np.arctanh(nodes)[:, None], jnp.float32)))
    np.testing.assert_allclose(weights @ density, 1, rtol=1e-5)


def test_tanh_gaussian_entropy_is_the_integral():
    """It is −∫ p log p over (−1, 1) to 1e-3, for log-stds from −5 to 1 and means from −3 to 3."""
    mean, log_std = (x.ravel().astype(np.float32) for x in np.meshgrid(np.linspace(-3, 3, 7), np.linspace(-5, 1, 7)))
    expected = []
    for m, std in zip(mean, np.exp(log_std), strict=True):
        bounds = (m - 9 * std, m + 9 * std)

        def integrand(u, m=m, std=std):  # with a = tanh u, p(a) da = p(u) du, and 1 − tanh² = 1 / cosh²
            return -scipy.stats.norm.pdf(u, m, std) * (scipy.stats.norm.logpdf(u, m, std) + 2 * np.log(np.cosh(u)))

        expected.append(scipy.integrate.quad(integrand, *bounds, points=[m])[0])
    entropy = TanhGaussian(jnp.asarray(mean)[:, None], jnp.asarray(log_std)[:, None]).entropy()
    np.testing.assert_allclose(entropy, expected, atol=1e-3)


def test_squashed_samples_follow_their_distributions():
    """20,000 samples pass a Kolmogorov–Smirnov test for each component; the mode of a tanh Gaussian is the median."""
    squashed = np.tanh(sample_many(tanh_gaussians()[0]).astype(np.float64))
    between = sample_many(betas()[0])
    for i, k in np.ndindex(5, 3):
        mean, std = MEANS[0, i, k], np.exp(LOG_STDS[0, i, k])
        tanh_cdf = scipy.stats.norm(mean, std).cdf
        assert scipy.stats.kstest(np.arctanh(squashed[:, i, k]), tanh_cdf).pvalue > 1e-3
        beta_cdf = scipy.stats.beta(*CONCENTRATIONS[0, :, i, k]).cdf
        assert scipy.stats.kstest(between[:, i, k], beta_cdf).pvalue > 1e-3
    below = np.mean(squashed < np.tanh(np.float64(tanh_gaussians()[0].mode())), axis=0)
    np.testing.assert_allclose(below, 0.5, atol=5 * 0.5 / np.sqrt(20_000))


@pytest.mark.parametrize(
    ("concentrations", "tolerance"),
    [(CONCENTRATIONS[0], 2e-5), (np.meshgrid([1, 1.001, 30, 990, 1000], [1, 5, 1000]), 3e-3)],
    ids=["usual", "extreme"],
)
def test_beta_log_prob_and_entropy_are_scipys(concentrations, tolerance):
    """Also for concentrations from one bound to the other, where float32 loses digits."""
    alpha, beta = (np.reshape(x, (15, 1)).astype(np.float32) for x in concentrations)
    oracle = scipy.stats.beta(alpha.astype(np.float64), beta.astype(np.float64))
    p = Beta(jnp.asarray(alpha), jnp.asarray(beta))
    for quantile in (0.01, 0.5, 0.99):
        action = np.clip(oracle.ppf(quantile).astype(np.float32), EDGE, 1 - EDGE)
        expected = oracle.logpdf(action.astype(np.float64))[:, 0]
        np.testing.assert_allclose(p.log_prob(jnp.asarray(action)), expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(p.entropy(), oracle.entropy()[:, 0], rtol=0, atol=tolerance)


def test_beta_mode_is_the_likeliest():
    """It is where scipy's density is highest, and the middle where the density is the same everywhere."""
    grid = np.linspace(0, 1, 10_001)
    pdf = scipy.stats.beta.pdf(grid[:, None, None], *CONCENTRATIONS[0].astype(np.float64))
    np.testing.assert_allclose(betas()[0].mode(), grid[pdf.argmax(axis=0)], atol=1e-4)
    one, two = jnp.ones((1, 3)), jnp.full((1, 3), 2.0)
    np.testing.assert_array_equal(Beta(one, one).mode(), np.full((1, 3), 0.5))
    for edge in (Beta(one, two), Beta(two, one)):
        assert np.all(np.isfinite(edge.log_prob(edge.mode())))


def test_beta_has_one_peak_and_bounded_concentrations():
    """Whatever the network gives, α and β are in [1, 1000]; zeros give 1 + log 2."""
    p = Beta.from_unconstrained(jnp.array([[-1e30, 0.0, 1e30, 50.0]]))
    np.testing.assert_allclose(p.alpha, [[1, 1 + np.log(2)]], rtol=1e-6)
    np.testing.assert_allclose(p.beta, [[1000, 51]], rtol=1e-6)


def test_beta_samples_stay_inside():
    """A density that is highest at 0 or 1 is not sampled there: one in a thousand is moved inwards, to 1e-6."""
    p = Beta(jnp.array([[1.0, 1000.0]]), jnp.array([[1000.0, 1.0]]))
    samples = sample_many(p)
    np.testing.assert_array_equal(samples.min(axis=0)[0, 0], EDGE)
    np.testing.assert_array_equal(samples.max(axis=0)[0, 1], 1 - EDGE)


def test_beta_fisher_information_where_both_are_equal():
    """The Hessian of KL(p ‖ q) at q = p, in α and β, is made of trigammas (JAX's own `betaln` fails this)."""
    a = 3.0

    def kl(x):
        return Beta(jnp.full(1, a), jnp.full(1, a)).kl(Beta(x[:1], x[1:]))

    expected = np.diag(scipy.special.polygamma(1, [a, a])) - scipy.special.polygamma(1, 2 * a)
    np.testing.assert_allclose(jax.hessian(kl)(jnp.full(2, a)), expected, rtol=1e-4)


def test_multi_discrete_is_the_product_of_its_components():
    """Log-probability, entropy, KL and mode are those of the joint probabilities of all 24 actions."""
    p, q = multi_discretes()
    actions = np.stack(np.unravel_index(np.arange(24), SIZES), axis=-1)
    log_prob = jax.vmap(p.log_prob)(jnp.tile(jnp.asarray(actions, jnp.int32)[:, None], (1, 5, 1)))
    assert p.mode().dtype == jnp.int32
    for i in range(5):
        old, new = (joint(logits[i]) for logits in MANY_LOGITS)
        np.testing.assert_allclose(log_prob[:, i], np.log(old.ravel()), rtol=1e-5)
        np.testing.assert_allclose(p.entropy()[i], scipy.stats.entropy(old.ravel()), rtol=1e-5)
        np.testing.assert_allclose(p.kl(q)[i], scipy.stats.entropy(old.ravel(), new.ravel()), rtol=1e-4)
        np.testing.assert_array_equal(p.mode()[i], np.unravel_index(old.argmax(), SIZES))


def test_multi_discrete_samples_follow_the_joint_probabilities():
    """The counts of all 24 actions in 20,000 samples pass a chi-square test."""
    samples = sample_many(multi_discretes()[0])
    assert samples.dtype == np.int32
    for i in range(5):
        counts = np.bincount(np.ravel_multi_index(samples[:, i].T, SIZES), minlength=24)
        assert scipy.stats.chisquare(counts, 20_000 * joint(MANY_LOGITS[0, i]).ravel()).pvalue > 1e-3


def test_multi_discrete_refuses_other_logits():
    """Sizes that do not add up to the number of logits are an error."""
    with pytest.raises(ValueError, match="last axis must be 9"):
        MultiDiscrete.from_unnormalised(jnp.zeros((5, 8)), SIZES)


def test_forbidden_actions_do_not_exist():
    """They have probability 0, are neither sampled nor the mode, and the others are as if alone, however unlikely."""
    logits = np.array([[1e6, -50.0, -51.0, 3.0], [0.0, 1e20, -1e20, -1e20]], np.float32)
    mask = np.array([[False, True, True, False], [False, False, True, True]])
    single = Categorical.from_unnormalised(jnp.asarray(logits), jnp.asarray(mask))
    multi = MultiDiscrete.from_unnormalised(jnp.asarray(logits.reshape(1, 8)), (4, 4), jnp.asarray(mask.reshape(1, 8)))
    expected = np.zeros((2, 4))
    expected[mask] = [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1)), 0.5, 0.5]
    for p in (single, multi):
        probabilities = np.exp(p.logits).reshape(2, 4)
        np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
        assert np.all(probabilities[~mask] == 0)
        entropy = scipy.stats.entropy(expected, axis=-1)
        np.testing.assert_allclose(p.entropy(), entropy if p is single else [entropy.sum()], rtol=1e-5)
        assert np.all(mask[np.arange(2), p.mode().ravel()])
        samples = sample_many(p, 100_000).reshape(-1, 2)
        counts = np.stack([np.bincount(column, minlength=4) for column in samples.T])
        assert np.all(counts[~mask] == 0)
        np.testing.assert_allclose(counts / 100_000, expected, atol=5 * 0.5 / np.sqrt(100_000))
    nothing = Categorical.from_unnormalised(jnp.array([[1.0, 3.0]]), jnp.array([[False, False]]))
    np.testing.assert_allclose(np.exp(nothing.logits), [[0.5, 0.5]])


def test_squashed_actions_are_scaled_to_the_box():
    """Edges go to edges and middles to middles, rounding never leaves the box, and discrete actions have none."""
    low, high = jnp.array([-4.6, 2.0, -9.9]), jnp.array([2.7, 2.5, 6.3])
    for u, share in ((-100.0, 0), (0.0, 0.5), (np.arctanh(0.5), 0.75), (100.0, 1)):
        expected = low + share * (high - low)
        np.testing.assert_allclose(TanhGaussian.within(jnp.full(3, u), low, high), expected, rtol=1e-6)
        np.testing.assert_allclose(Beta.within(jnp.full(3, share, jnp.float32), low, high), expected, rtol=1e-6)
    np.testing.assert_array_equal(Gaussian.within(jnp.array([-5.0, 2.25, 8.0]), low, high), [low[0], 2.25, high[2]])
    within = jax.vmap(lambda x: Beta.within(jnp.full(3, x), low, high))(1 - jnp.geomspace(1e-9, 1, 10_000))
    assert np.all((within >= low[None]) & (within <= high[None]))
    with pytest.raises(NotImplementedError):
        Categorical.within(jnp.zeros(3), low, high)


def one_allowed(logits):
    """Four actions of which only the unlikeliest is allowed."""
    return Categorical.from_unnormalised(logits, jnp.array([[False, False, False, True]]))


def some_allowed(logits):
    """One allowed action of two, and two of two."""
    return MultiDiscrete.from_unnormalised(logits, (2, 2), jnp.array([[False, True, True, True]]))


@pytest.mark.parametrize(
    ("make", "outputs", "action"),
    [
        (one_allowed, [1e6, 0, 1e6, -1e6], 3),
        (some_allowed, [1e6, 0, 1e6, -1e6], [1, 1]),
        (Categorical.from_unnormalised, [1e6, 0, 1e6, -1e6], 3),
        (lambda x: Gaussian(*jnp.split(x, 2, -1)), [0, 100, -15, 5], [1.0, -1.0]),
        (lambda x: TanhGaussian(*jnp.split(x, 2, -1)), [0, 100, -15, 5], [100.0, -100.0]),
        (lambda x: TanhGaussian(*jnp.split(x, 2, -1)), [0, 0, -5, 1], [0.0, 0.0]),
        (Beta.from_unconstrained, [1e30, -1e30, 0, 1e30], [EDGE, 1 - EDGE]),
        (Beta.from_unconstrained, [-1e30, 900, -1e30, 900], [1 - EDGE, EDGE]),
    ],
    ids=["one_allowed", "some_allowed", "logits", "gaussian", "tanh", "tanh_middle", "beta", "beta_flat"],
)
def test_gradients_are_finite_at_the_edges(make, outputs, action):
    """So are the values, of log-probability, entropy and KL, the latter in both of its arguments."""
    outputs = jnp.asarray([outputs], jnp.float32)
    action = jnp.asarray([action])
    other = outputs * 0.9
    for f in (
        lambda x: make(x).log_prob(action),
        lambda x: make(x).entropy(),
        lambda x: make(x).kl(make(other)),
        lambda x: make(other).kl(make(x)),
    ):
        value, gradient = jax.value_and_grad(lambda x, f=f: jnp.sum(f(x)))(outputs)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("p", [pair[0] for pair in FAMILIES.values()], ids=FAMILIES)
def test_kl_to_itself_is_exactly_zero(p):
    """No rounding is left in KL(p ‖ p)."""
    np.testing.assert_array_equal(p.kl(p), np.zeros(5))


@pytest.mark.parametrize("pair", FAMILIES.values(), ids=FAMILIES)
def test_gradient_of_kl_vanishes_where_they_meet(pair):
    """KL(p ‖ q) as a function of q is smallest at q = p and above zero elsewhere."""
    p, q = pair
    gradient = jax.grad(lambda other: jnp.sum(p.kl(other)))(p)
    if not isinstance(p, Categorical | MultiDiscrete):
        np.testing.assert_allclose(jax.tree.leaves(gradient), np.zeros((2, 5, 3)), atol=1e-6)
    assert np.all(np.asarray(p.kl(q)) > 0)


@pytest.mark.parametrize("p", [pair[0] for pair in FAMILIES.values()], ids=FAMILIES)
def test_a_sample_is_made_of_its_noise(p):
    """Sampling is drawing noise and turning it into an action; noise depends on shapes only and may be drawn ahead."""
    keys = jax.random.split(jax.random.key(3), 4)
    many = jax.vmap(lambda key: jax.random.split(key, (5, p.num_keys)))(keys)
    noises = jax.eval_shape(lambda: p).noise(many)
    samples = jax.lax.scan(lambda carry, noise: (carry, p.from_noise(noise)), (), noises)[1]
    np.testing.assert_allclose(samples, jax.lax.map(p.sample, keys), rtol=1e-6)

"""The surrogates: their values, where gradients are exactly zero, what they are at the old policy, and how β adapts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo.distributions import Categorical, Gaussian

EPS = 0.2
RNG = np.random.default_rng(0)


def two_actions(probability):
    """Distributions [M] over two actions with these probabilities of action 1."""
    p = jnp.asarray(probability, jnp.float32)
    return Categorical(jnp.log(jnp.stack([1 - p, p], axis=-1)))


def loss_of_ratios(ratio, advantage, eps=EPS):
    """The loss where action 1 has probability ½ under the old policy and ratio/2 under the new one."""
    action = jnp.ones(len(advantage), jnp.int32)
    old = two_actions(np.full(len(advantage), 0.5))
    return jaxppo.Clip(clip_eps=eps).loss((), two_actions(ratio / 2), old, action, jnp.asarray(advantage))


@pytest.mark.parametrize("eps", [0.1, 0.2, 0.9])
def test_value_is_the_mean_minimum(eps):
    """The loss is −mean(min(r·Â, clip(r)·Â)) and the clip fraction counts ratios outside the range."""
    ratio = RNG.uniform(0.01, 1.99, 400).astype(np.float32)
    advantage = RNG.normal(size=400).astype(np.float32)
    loss, metrics = loss_of_ratios(jnp.asarray(ratio), advantage, eps)
    surrogate = np.minimum(ratio * advantage, np.clip(ratio, 1 - eps, 1 + eps) * advantage)
    np.testing.assert_allclose(loss, -surrogate.mean(), rtol=1e-4, atol=1e-6)
    outside = np.mean((ratio < 1 - eps) | (ratio > 1 + eps))
    np.testing.assert_allclose(np.mean(metrics["clip_fraction"]), outside, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 1.8])
@pytest.mark.parametrize("advantage", [-2.0, 0.0, 3.0])
def test_gradient_is_zero_or_the_advantage(ratio, advantage):
    """d(−loss)/dr is exactly 0 where the ratio has gone far enough in the direction of Â, and Â elsewhere."""
    gradient = jax.grad(lambda r: loss_of_ratios(r, np.float32([advantage]))[0])(jnp.float32([ratio]))
    gone_far_enough = (ratio > 1 + EPS and advantage > 0) or (ratio < 1 - EPS and advantage < 0)
    if gone_far_enough:
        assert gradient[0] == 0
    else:
        np.testing.assert_allclose(-gradient[0], advantage, rtol=1e-5)


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
def test_at_the_old_policy_it_is_the_policy_gradient(kind):
    """At θ = θ_old the gradient is that of mean(log π · Â), and the loss is −mean(Â)."""
    advantage = jnp.asarray(RNG.normal(size=32), jnp.float32)
    theta = jnp.asarray(RNG.normal(size=(32, 3)), jnp.float32)

    def policy(theta):
        if kind == "categorical":
            return Categorical.from_unnormalised(theta)
        return Gaussian(theta, 0.1 * theta)

    action = policy(theta).sample(jax.random.key(0))

    def surrogate(theta_new):
        return jaxppo.Clip().loss((), policy(theta_new), policy(theta), action, advantage)[0]

    def policy_gradient(theta_new):
        return -jnp.mean(policy(theta_new).log_prob(action) * advantage)

    np.testing.assert_allclose(surrogate(theta), -np.mean(advantage), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(surrogate)(theta), jax.grad(policy_gradient)(theta), rtol=1e-4, atol=1e-7)


def test_clip_range_is_traced():
    """One call over stacked ε gives what single calls give."""
    ratio = jnp.asarray(RNG.uniform(0.5, 1.5, 50), jnp.float32)
    advantage = RNG.normal(size=50).astype(np.float32)
    epsilons = jnp.array([0.05, 0.2, 0.4])
    objectives = jaxppo.Clip(clip_eps=epsilons)
    old, action = two_actions(np.full(50, 0.5)), jnp.ones(50, jnp.int32)
    losses = jax.vmap(lambda o: o.loss((), two_actions(ratio / 2), old, action, jnp.asarray(advantage))[0])(objectives)
    np.testing.assert_allclose(losses, [loss_of_ratios(ratio, advantage, eps)[0] for eps in epsilons], rtol=1e-5)
    assert len(set(np.asarray(losses).tolist())) == 3


def test_clip_range_anneals_on_request():
    """ε falls linearly; without annealing the objective is what it was."""
    assert jaxppo.Clip(clip_eps=0.2).scheduled(0.75) == jaxppo.Clip(clip_eps=0.2)
    annealed = jaxppo.Clip(clip_eps=0.2, anneal_clip=True)
    np.testing.assert_allclose(annealed.scheduled(0.75).clip_eps, 0.05)
    assert 0 < annealed.scheduled(jnp.float32(1)).clip_eps < 1e-37


OBJECTIVES = [jaxppo.Clip(), jaxppo.AdaptiveKL(), jaxppo.FixedKL(), jaxppo.Unclipped(), jaxppo.PolicyGradient()]


@pytest.mark.parametrize("kind", ["categorical", "gaussian"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_all_are_the_policy_gradient_at_the_old_policy(objective, kind):
    """At θ = θ_old the gradient is E[Â·∇log π], computed by hand from the distribution's formula."""
    advantage = jnp.asarray(RNG.normal(size=32), jnp.float32)
    theta = jnp.asarray(RNG.normal(size=(32, 3)), jnp.float32)

    def policy(theta):
        return Categorical.from_unnormalised(theta) if kind == "categorical" else Gaussian(theta, jnp.zeros((32, 3)))

    old = policy(theta)
    action = old.sample(jax.random.key(0))
    # ∇ log π is onehot(a) − π for the logits, and (a − μ) / σ² for the means.
    score = np.eye(3)[action] - np.exp(old.logits) if kind == "categorical" else np.asarray(action - theta)
    found = jax.grad(lambda t: -objective.loss(objective.init(), policy(t), old, action, advantage)[0])(theta)
    np.testing.assert_allclose(found, score * np.asarray(advantage)[:, None] / 32, atol=1e-6)


@pytest.mark.parametrize("objective", [jaxppo.AdaptiveKL(kl_coef=2.5), jaxppo.FixedKL(kl_coef=2.5)], ids=["a", "f"])
def test_penalty_in_numpy(objective):
    """The loss is −mean(r·Â − β·KL(old ‖ new)), in that direction."""
    p_old, p_new = RNG.uniform(0.1, 0.9, 50), RNG.uniform(0.1, 0.9, 50)
    advantage = RNG.normal(size=50)
    action = jnp.ones(50, jnp.int32)
    loss, metrics = objective.loss(
        objective.init(), two_actions(p_new), two_actions(p_old), action, jnp.asarray(advantage, jnp.float32)
    )
    kl = p_old * np.log(p_old / p_new) + (1 - p_old) * np.log((1 - p_old) / (1 - p_new))
    np.testing.assert_allclose(loss, -np.mean(p_new / p_old * advantage - 2.5 * kl), rtol=1e-5)
    assert metrics["kl_coef"] == 2.5


def test_unclipped_and_policy_gradient_in_numpy():
    """−mean(r·Â) and −mean(log π·Â)."""
    p_old, p_new = RNG.uniform(0.1, 0.9, 50), RNG.uniform(0.1, 0.9, 50)
    advantage = jnp.asarray(RNG.normal(size=50), jnp.float32)
    arguments = ((), two_actions(p_new), two_actions(p_old), jnp.ones(50, jnp.int32), advantage)
    np.testing.assert_allclose(jaxppo.Unclipped().loss(*arguments)[0], -np.mean(p_new / p_old * advantage), rtol=1e-5)
    np.testing.assert_allclose(
        jaxppo.PolicyGradient().loss(*arguments)[0], -np.mean(np.log(p_new) * advantage), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("kl", "factor"),
    [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.01, 1.0), (0.0149, 1.0), (0.0151, 2.0), (9.0, 2.0)],
)
def test_beta_adapts_as_the_paper_says(kl, factor):
    """Halved below d_target / 1.5, doubled above 1.5·d_target, and left alone between."""
    objective = jaxppo.AdaptiveKL(kl_target=0.01, kl_coef=3.0)
    np.testing.assert_allclose(objective.adapt(objective.init(), jnp.float32(kl)), 3.0 * factor)


def test_beta_always_comes_back():
    """Even after a thousand updates in one direction."""
    objective = jaxppo.AdaptiveKL(kl_target=0.01)
    for kl, back in ((0.0, 1.0), (1.0, 0.0)):
        beta = objective.init()
        for _ in range(200):
            beta = objective.adapt(beta, jnp.float32(kl))
        assert 0 < beta < np.inf
        assert objective.adapt(beta, jnp.float32(back)) != beta


@pytest.mark.parametrize("objective", [o for o in OBJECTIVES if not isinstance(o, jaxppo.AdaptiveKL)], ids=str)
def test_the_others_have_no_state(objective):
    """Nothing adapts."""
    assert objective.init() == ()
    assert objective.adapt(objective.init(), jnp.float32(1.0)) == ()

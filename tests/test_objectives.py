"""PPO-clip: its value, where its gradient is exactly zero, and what it is at the old policy."""

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


def test_it_has_no_state():
    """Nothing adapts."""
    objective = jaxppo.Clip()
    assert objective.init() == ()
    assert objective.adapt(objective.init(), jnp.float32(1.0)) == ()

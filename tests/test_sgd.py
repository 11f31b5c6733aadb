"""Gradient steps against plain formulas, and the diagnostics that go with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxppo
from jaxppo.distributions import Categorical, Gaussian
from jaxppo.envs import Box, Discrete
from jaxppo.types import Batch

T, N = 8, 4
M = T * N
HALFWAY = jnp.float32(0.25)


def perturbed(params, scale, seed):
    """The parameters with noise on every one."""
    leaves, treedef = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [scale * jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [leaf + x for leaf, x in zip(leaves, noise, strict=True)])


def problem(space=None, distance=0.3, seed=0):
    """A network, its parameters, and a batch that a policy at some distance collected."""
    network = jaxppo.MLP(hidden=(8,)).build(jax.ShapeDtypeStruct((3,), jnp.float32), space or Discrete(3))
    params = perturbed(network.init(jax.random.key(seed)), 0.5, seed + 1)
    keys = jax.random.split(jax.random.key(seed + 2), 4)
    obs = jax.random.normal(keys[0], (T, N, 3))
    old_params = perturbed(params, distance, seed + 3)
    _, old, value = network.apply(old_params, (), obs.reshape(M, 3), jnp.zeros(M, bool))
    action = old.sample(keys[1])

    def shaped(x):
        return x.reshape(T, N, *x.shape[1:])

    advantage = 1 + 2 * jax.random.normal(keys[2], (T, N))
    target = shaped(value) + jax.random.normal(keys[3], (T, N))
    batch = Batch(
        obs=obs,
        reset=jnp.zeros((T, N), bool),
        carry=(),
        action=shaped(action),
        old=jax.tree.map(shaped, old),
        value=shaped(value),
        advantage=advantage,
        target=target,
    )
    return network, params, batch


def rows(x):
    """[T, N, …] as [T·N, …]."""
    return x.reshape(M, *x.shape[2:])


def learn(learner, network, params, batch, key=None, progress=HALFWAY):
    """One learning phase from a fresh optimiser."""
    key = jax.random.key(9) if key is None else key
    return jax.jit(lambda p: learner.update(network, learner.init(p), p, batch, key, progress))(params)


def one_step(**options):
    """A learner that takes a single step on the whole batch."""
    return jaxppo.SGD(num_epochs=1, num_minibatches=1, **options)


def plain_log_prob_and_entropy(network, params, batch):
    """Log π(a|s) and entropy from the network's raw outputs, by textbook formulas."""
    _, new, value = network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))
    action = rows(batch.action)
    if isinstance(new, Categorical):
        probabilities = jax.nn.softmax(new.logits)
        log_prob = jnp.log(probabilities[jnp.arange(M), action])
        return log_prob, -jnp.sum(probabilities * jnp.log(probabilities), axis=1), value
    log_prob = jnp.sum(jax.scipy.stats.norm.logpdf(action, new.mean, jnp.exp(new.log_std)), axis=1)
    return log_prob, jnp.sum(0.5 * jnp.log(2 * jnp.pi * jnp.e * jnp.exp(new.log_std) ** 2), axis=1), value


def plain_loss(network, params, batch, vf_clip_eps):
    """The PPO loss with ε = 0.2, vf_coef = 0.5 and ent_coef = 0.01, as the paper and its implementations write it."""
    log_prob, entropy, value = plain_log_prob_and_entropy(network, params, batch)
    advantage, target, old_value = rows(batch.advantage), rows(batch.target), rows(batch.value)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(log_prob - rows(batch.old.log_prob(batch.action)))
    surrogate = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage)
    errors = (value - target) ** 2
    if vf_clip_eps is not None:
        near = old_value + jnp.clip(value - old_value, -vf_clip_eps, vf_clip_eps)
        errors = jnp.maximum(errors, (near - target) ** 2)
    return -surrogate.mean() + 0.5 * 0.5 * errors.mean() - 0.01 * entropy.mean()


@pytest.mark.parametrize("space", [Discrete(3), Box(-1.0, 1.0, (2,))], ids=["discrete", "box"])
@pytest.mark.parametrize("vf_clip_eps", [0.2, None])
def test_one_step_is_adam_on_the_plain_loss(space, vf_clip_eps):
    """A single step equals clip-by-norm, Adam and the annealed rate on the gradient of the formula."""
    network, params, batch = problem(space)
    learner = one_step(learning_rate=0.01, vf_clip_eps=vf_clip_eps)
    _, found, metrics = learn(learner, network, params, batch)
    gradient = jax.jit(jax.grad(lambda p: plain_loss(network, p, batch, vf_clip_eps)))(params)
    norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.01 * 0.75, eps=1e-5))
    with jax.numpy_dtype_promotion("standard"):
        steps, _ = optimizer.update(gradient, optimizer.init(params))
    expected = optax.apply_updates(params, steps)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
    assert any(
        np.any(np.abs(a - b) > 1e-3) for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True)
    )


@pytest.mark.parametrize("vf_clip_eps", [0.1, None])
def test_metrics_in_numpy(vf_clip_eps):
    """Losses and diagnostics of a single step are those of numpy."""
    network, params, batch = problem()
    learner = one_step(vf_clip_eps=vf_clip_eps, normalize_advantage=False)
    _, _, metrics = learn(learner, network, params, batch)
    log_prob, entropy, value = map(np.asarray, plain_log_prob_and_entropy(network, params, batch))
    old_logits = np.asarray(rows(batch.old.logits))
    log_ratio = log_prob - old_logits[np.arange(M), rows(batch.action)]
    ratio = np.exp(log_ratio)
    advantage, target, old_value = (np.asarray(rows(x)) for x in (batch.advantage, batch.target, batch.value))
    new_logits = np.asarray(network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))[1].logits)
    error = (value - target) ** 2
    if vf_clip_eps:
        error = np.maximum(error, (np.clip(value, old_value - vf_clip_eps, old_value + vf_clip_eps) - target) ** 2)
    expected = {
        "policy_loss": -np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage).mean(),
        "value_loss": error.mean() / 2,
        "entropy": entropy.mean(),
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "kl": np.sum(np.exp(old_logits) * (old_logits - new_logits), axis=1).mean(),
        "clip_fraction": np.mean((ratio < 0.8) | (ratio > 1.2)),
        "ratio_max": ratio.max(),
        "effective_sample_size": ratio.sum() ** 2 / (M * (ratio**2).sum()),
        "learning_rate": 2.5e-4 * 0.75,
    }
    assert 0 < expected["clip_fraction"] < 1
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("shuffle", [True, False])
def test_metrics_are_over_all_minibatches(shuffle):
    """At learning rate 0 the means over four minibatches, and the largest ratio, are those of the whole batch."""
    network, params, batch = problem()
    still = {"learning_rate": 0.0, "normalize_advantage": False}
    _, same, whole = learn(one_step(**still), network, params, batch)
    _, _, parts = learn(jaxppo.SGD(num_epochs=3, num_minibatches=4, shuffle=shuffle, **still), network, params, batch)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    for name in ("policy_loss", "value_loss", "entropy", "approx_kl", "kl", "clip_fraction", "ratio_max"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("size", "minibatches"), [(32, 4), (512, 4), (512, 512), (600, 3)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_epoch_covers_every_row_once(size, minibatches, shuffle):
    """The minibatches of an epoch are disjoint and cover all rows; epochs differ if shuffled."""
    learner = jaxppo.SGD(num_epochs=3, num_minibatches=minibatches, shuffle=shuffle)
    index = np.asarray(learner._order(jax.random.key(0), size))
    assert index.shape == (3, minibatches, size // minibatches)
    epochs = index.reshape(3, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (3, 1)))
    assert len({epoch.tobytes() for epoch in epochs}) == (3 if shuffle else 1)


@pytest.mark.parametrize("max_grad_norm", [0.01, float("inf")])
def test_gradient_clipping(max_grad_norm):
    """Adam sees a gradient of at most the largest norm, and the metric says what it was before."""
    network, params, batch = problem()
    state, _, metrics = learn(one_step(max_grad_norm=max_grad_norm), network, params, batch)
    (moments,) = [s.mu for s in state.opt_state if hasattr(s, "mu")]
    seen = np.linalg.norm(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(moments)])) / (1 - 0.9)
    assert metrics["grad_norm"] > 0.01
    np.testing.assert_allclose(seen, min(max_grad_norm, float(metrics["grad_norm"])), rtol=1e-4)


def test_learning_rate_scales_the_step():
    """Twice the rate is twice the step, and so is half the progress to go."""
    network, params, batch = problem()
    moved = []
    for rate, progress in ((1e-3, 0.5), (1e-3, 0.0), (2e-3, 0.0)):
        _, after, metrics = learn(one_step(learning_rate=rate), network, params, batch, progress=jnp.float32(progress))
        np.testing.assert_allclose(metrics["learning_rate"], rate * (1 - progress), rtol=1e-6)
        moved.append(np.asarray(after["policy"]["kernel"] - params["policy"]["kernel"]))
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(moved[2], 4 * moved[0], rtol=1e-2, atol=1e-6)


def test_entropy_bonus_raises_entropy():
    """With nothing else to gain, the bonus makes the policy more random; without it nothing moves."""
    network, params, batch = problem(distance=0.0)
    batch = batch._replace(advantage=jnp.zeros((T, N)))
    only = {"vf_coef": 0.0, "normalize_advantage": False, "learning_rate": 0.01}

    def entropy(p):
        return float(network.apply(p, (), rows(batch.obs), jnp.zeros(M, bool))[1].entropy().mean())

    _, after, _ = learn(jaxppo.SGD(ent_coef=1.0, **only), network, params, batch)
    assert entropy(after) > entropy(params) + 0.01
    _, after, _ = learn(jaxppo.SGD(ent_coef=0.0, **only), network, params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after, params)


def test_advantages_are_normalised_per_minibatch():
    """Shifting and scaling the advantages changes nothing if they are normalised, and at θ_old the loss is then 0."""
    network, params, batch = problem(distance=0.0)
    _, after, metrics = learn(one_step(), network, params, batch)
    _, scaled, _ = learn(one_step(), network, params, batch._replace(advantage=5 * batch.advantage - 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, scaled)
    np.testing.assert_allclose(metrics["policy_loss"], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("env", "sizes"),
    [
        ("CartPole-v1", {"num_envs": 4, "num_steps": 128}),
        ("Pendulum-v1", {"num_envs": 4, "num_steps": 64, "normalize_obs": True, "normalize_reward": True}),
        ("Breakout-MinAtar", {"num_envs": 4, "num_steps": 16}),
    ],
)
def test_first_ratios_are_exactly_one(env, sizes):
    """Before the first gradient step every ratio is exactly 1 and KL exactly 0, also in the third update."""
    learners = [one_step(learning_rate=1e-2), jaxppo.SGD(learning_rate=0.0, num_epochs=2, num_minibatches=4)]
    for learner in learners:
        config = jaxppo.Config(env=env, total_timesteps=10_000, learner=learner, **sizes)
        state = jaxppo.init(config, jax.random.key(0))
        for _ in range(3):
            state, metrics = jaxppo.update(config, state)
            assert (metrics.ratio_max, metrics.kl, metrics.approx_kl, metrics.clip_fraction) == (1, 0, 0, 0)
            np.testing.assert_allclose(metrics.effective_sample_size, 1, rtol=1e-6)


def test_gaussian_kl_metric_is_of_old_to_new():
    """The exact KL is KL(old ‖ new), not the other way round."""
    network, params, batch = problem(Box(-1.0, 1.0, (2,)), distance=0.5)
    _, _, metrics = learn(one_step(), network, params, batch)
    _, new, _ = network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))
    old = jax.tree.map(rows, batch.old)
    assert isinstance(new, Gaussian)
    np.testing.assert_allclose(metrics["kl"], np.mean(old.kl(new)), rtol=1e-4)
    assert abs(float(metrics["kl"]) - float(np.mean(new.kl(old)))) > 1e-3

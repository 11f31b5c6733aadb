"""Gradient steps against plain formulas, and the diagnostics that go with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import M, problem, rows

import jaxppo
from jaxppo.distributions import Categorical, Gaussian
from jaxppo.envs import Box, Discrete
from jaxppo.learners import minibatches
from jaxppo.learners.minibatches import minibatch_rows, num_parts

HALFWAY = jnp.float32(0.25)


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
    index = np.asarray(minibatch_rows(jax.random.key(0), size, 3, minibatches, shuffle=shuffle))
    assert index.shape == (3, minibatches, size // minibatches)
    epochs = index.reshape(3, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (3, 1)))
    assert len({epoch.tobytes() for epoch in epochs}) == (3 if shuffle else 1)


@pytest.mark.parametrize(
    ("size", "parts"),
    [(128, 1), (4096, 1), (8192, 2), (16384, 4), (12000, 3), (10000, 4), (4099, 1), (4098, 2), (5 * 4099, 1)],
)
def test_parts_of_a_minibatch(size, parts):
    """As few as leave at most 4096 rows each, if they are equal and of at least 1024; otherwise one."""
    assert num_parts(size) == parts


@pytest.mark.parametrize("space", [Discrete(3), Box(-1.0, 1.0, (2,))], ids=["discrete", "box"])
@pytest.mark.parametrize("objective", [jaxppo.Clip(), jaxppo.AdaptiveKL(), jaxppo.PolicyGradient()], ids=str)
def test_a_minibatch_in_parts(objective, space, monkeypatch):
    """Working off a minibatch part by part takes the same step, and has the same metrics."""
    network, params, batch = problem(space)
    learner = one_step(objective=objective, dual_clip=3.0, learning_rate=0.01)
    _, whole, expected = learn(learner, network, params, batch)
    monkeypatch.setattr(minibatches, "LARGEST_PART", M // 4)
    monkeypatch.setattr(minibatches, "SMALLEST_PART", 1)
    assert num_parts(M) == 4
    _, found, metrics = learn(learner, network, params, batch)
    assert metrics.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(metrics[name], number, rtol=1e-4, atol=1e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, whole)


class _MedianRatio(jaxppo.Objective):
    """An objective that is no mean over the samples."""

    def loss(self, aux, new, old, action, advantage):
        del aux, advantage
        return -jnp.median(jnp.exp(new.log_prob(action) - old.log_prob(action))), {}


def test_an_objective_that_is_no_mean_gets_the_whole_minibatch(monkeypatch):
    """Unless it says so, an objective of one's own sees all samples of a minibatch at once."""
    network, params, batch = problem()
    learner = one_step(objective=jax.tree_util.register_static(_MedianRatio)())
    _, _, expected = learn(learner, network, params, batch)
    monkeypatch.setattr(minibatches, "LARGEST_PART", M // 4)
    monkeypatch.setattr(minibatches, "SMALLEST_PART", 1)
    _, _, metrics = learn(learner, network, params, batch)
    assert metrics["policy_loss"] == expected["policy_loss"]


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
    batch = batch._replace(advantage=jnp.zeros_like(batch.advantage))
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


@pytest.mark.rounding
@pytest.mark.parametrize(
    ("env", "sizes"),
    [
        ("CartPole-v1", {"num_envs": 4, "num_steps": 128}),
        ("Pendulum-v1", {"num_envs": 4, "num_steps": 64, "normalize_obs": True, "normalize_reward": True}),
        ("Breakout-MinAtar", {"num_envs": 4, "num_steps": 16}),
    ],
)
def test_first_ratios_are_one(env, sizes):
    """Before the first gradient step every ratio is 1 and KL 0, also in the third update.

    Exactly so on JAX 0.9. Later XLA sums up rows of the last layer in an order that depends on how many there are.
    """
    rounding = 0 if jax.__version_info__ < (0, 11) else 2e-6
    learners = [one_step(learning_rate=1e-2), jaxppo.SGD(learning_rate=0.0, num_epochs=2, num_minibatches=4)]
    for learner in learners:
        config = jaxppo.Config(env=env, total_timesteps=10_000, learner=learner, **sizes)
        state = jaxppo.init(config, jax.random.key(0))
        for _ in range(3):
            state, metrics = jaxppo.update(config, state)
            found = metrics.ratio_max - 1, metrics.kl, metrics.approx_kl, metrics.clip_fraction
            np.testing.assert_allclose(found, 0, rtol=0, atol=rounding)
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


def with_ratios(network, params, batch, ratio):
    """The batch, its old distribution such that the ratios at `params` are these [M]."""
    _, new, _ = network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))
    log_prob = new.log_prob(rows(batch.action)) - jnp.log(ratio)
    others = jnp.log1p(-jnp.exp(log_prob)) - jnp.log(2.0)  # of three actions, the other two share what is left
    hot = jax.nn.one_hot(rows(batch.action), 3) > 0
    logits = jnp.where(hot, log_prob[:, None], others[:, None])
    return batch._replace(old=Categorical(logits.reshape(*batch.value.shape, 3)))


@pytest.mark.parametrize("objective", [jaxppo.Clip(), jaxppo.Unclipped()], ids=["clip", "unclipped"])
def test_dual_clip_in_numpy(objective):
    """The loss is −mean(max(surrogate, c·Â) where Â < 0), and beyond the limit there is no gradient."""
    network, params, batch = problem()
    ratio = jnp.asarray(np.random.default_rng(0).uniform(2.1, 6.0, M), jnp.float32)
    batch = with_ratios(network, params, batch, ratio)
    advantage = np.asarray(rows(batch.advantage))
    options = {"objective": objective, "normalize_advantage": False, "learning_rate": 0.0}
    _, _, metrics = learn(one_step(dual_clip=3.0, **options), network, params, batch)
    _, _, free = learn(one_step(**options), network, params, batch)
    surrogate = ratio * advantage
    if isinstance(objective, jaxppo.Clip):
        surrogate = np.minimum(surrogate, np.clip(ratio, 0.8, 1.2) * advantage)
    bounded = np.where(advantage < 0, np.maximum(surrogate, 3 * advantage), surrogate)
    np.testing.assert_allclose(metrics["policy_loss"], -bounded.mean(), rtol=1e-4)
    np.testing.assert_allclose(free["policy_loss"], -np.mean(surrogate), rtol=1e-4)
    assert free["policy_loss"] > metrics["policy_loss"] + 0.1


def test_dual_clip_stops_the_policy():
    """Where all advantages are negative and all ratios beyond the limit, only the value moves."""
    network, params, batch = problem()
    batch = with_ratios(network, params, batch, jnp.full(M, 4.0))._replace(advantage=-jnp.ones_like(batch.value))
    options = {"objective": jaxppo.Unclipped(), "normalize_advantage": False, "ent_coef": 0.0}
    for limit, moves in ((3.0, False), (5.0, True)):
        _, after, _ = learn(one_step(dual_clip=limit, **options), network, params, batch)
        assert bool(jnp.any(after["policy"]["kernel"] != params["policy"]["kernel"])) == moves
        assert jnp.any(after["value"]["kernel"] != params["value"]["kernel"])


def test_kl_limit_stops_the_epochs():
    """Steps end at the first minibatch beyond the limit; metrics are of the minibatches seen until then."""
    network, params, batch = problem(distance=0.0)
    # Steps so small that each leads further away.
    options = {"num_epochs": 6, "num_minibatches": 1, "learning_rate": 0.005, "anneal_lr": False}
    kls = []  # at the start of each step, from runs of ever more epochs
    for epochs in range(1, 7):
        _, after, metrics = learn(jaxppo.SGD(**{**options, "num_epochs": epochs}), network, params, batch)
        kls.append(float(metrics["kl"]) * epochs - sum(kls))
    assert kls[0] == pytest.approx(0, abs=1e-7)
    assert kls[3] > kls[2] > kls[1]
    limit = (kls[2] + kls[3]) / 2
    _, stopped, metrics = learn(jaxppo.SGD(kl_limit=limit, **options), network, params, batch)
    _, expected, _ = learn(jaxppo.SGD(**{**options, "num_epochs": 3}), network, params, batch)
    assert metrics["gradient_steps"] == 3
    np.testing.assert_allclose(metrics["kl"], np.mean(kls[:4]), rtol=1e-3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), stopped, expected)
    _, after, metrics = learn(jaxppo.SGD(kl_limit=100.0, **options), network, params, batch)
    _, free, plain = learn(jaxppo.SGD(**options), network, params, batch)
    assert metrics["gradient_steps"] == 6
    assert "gradient_steps" not in plain
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), after, free)


def test_metrics_are_of_the_minibatches_seen_before_the_limit():
    """The second minibatch is beyond it and the last that counts, though ratios are larger in those after it."""
    network, params, batch = problem(distance=0.0)
    options = {"num_epochs": 1, "num_minibatches": 4, "learning_rate": 0.05, "shuffle": False}
    _, after, metrics = learn(jaxppo.SGD(kl_limit=1e-5, **options), network, params, batch)
    _, new, _ = network.apply(after, (), rows(batch.obs), jnp.zeros(M, bool))
    ratio = jnp.exp(new.log_prob(rows(batch.action)) - rows(batch.old.log_prob(batch.action))).reshape(4, -1)
    assert metrics["gradient_steps"] == 1
    np.testing.assert_allclose(metrics["ratio_max"], ratio[1].max(), rtol=1e-5)
    np.testing.assert_allclose(metrics["ratio_mean"], (1 + ratio[1].mean()) / 2, rtol=1e-5)
    assert ratio[2:].max() > 1.01 * ratio[1].max()


def test_annealed_clip_range():
    """A quarter of the way the range is three quarters of what it was."""
    network, params, batch = problem()
    annealed = learn(one_step(objective=jaxppo.Clip(clip_eps=0.2, anneal_clip=True)), network, params, batch)
    constant = learn(one_step(objective=jaxppo.Clip(clip_eps=0.15)), network, params, batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), annealed, constant)


@pytest.mark.parametrize(("rate", "factor"), [(0.0, 0.5), (0.3, 2.0)])
def test_adaptive_kl_follows_the_whole_batch(rate, factor):
    """β is halved after an update that moved nothing and doubled after one that moved far; β used is β logged."""
    network, params, batch = problem(distance=0.0)
    learner = jaxppo.SGD(objective=jaxppo.AdaptiveKL(kl_target=0.01, kl_coef=0.7), learning_rate=rate)
    state, after, metrics = learn(learner, network, params, batch)

    @jax.jit  # as training is, or log-probabilities may round otherwise, by more than is allowed here
    def divergence(params):
        _, new, _ = network.apply(params, (), rows(batch.obs), jnp.zeros(M, bool))
        return jnp.mean(jax.tree.map(rows, batch.old).kl(new))

    np.testing.assert_allclose(metrics["kl_update"], divergence(after), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(metrics["kl_coef"], 0.7, rtol=1e-6)
    np.testing.assert_allclose(state.objective, 0.7 * factor, rtol=1e-6)


def test_the_policy_gradient_passes_once():
    """More epochs with an on-policy objective are refused when the config is made."""
    with pytest.raises(jaxppo.ConfigError, match="num_epochs=4: must be 1 with PolicyGradient"):
        jaxppo.Config(learner=jaxppo.SGD(objective=jaxppo.PolicyGradient()))
    with pytest.raises(jaxppo.ConfigError, match="num_minibatches=4: must be 1 with PolicyGradient"):
        jaxppo.Config(learner=jaxppo.SGD(objective=jaxppo.PolicyGradient(), num_epochs=1))
    jaxppo.Config(learner=jaxppo.SGD(objective=jaxppo.PolicyGradient(), num_epochs=1, num_minibatches=1))


@pytest.mark.parametrize("objective", [jaxppo.Clip(), jaxppo.Unclipped(), jaxppo.AdaptiveKL()], ids=str)
@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_ratios_that_overflow_stay_finite(objective, dual_clip):
    """Where log r is 200, losses, gradients and diagnostics are finite; with dual clip there is no gradient."""
    network, params, batch = problem()
    old = jnp.where(jax.nn.one_hot(rows(batch.action), 3) > 0, -200.0, jnp.log(0.5))
    batch = batch._replace(old=Categorical(old.reshape(*batch.value.shape, 3)), advantage=-jnp.ones_like(batch.value))
    options = {"objective": objective, "dual_clip": dual_clip, "normalize_advantage": False, "ent_coef": 0.0}
    _, after, metrics = learn(one_step(**options), network, params, batch)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((after, metrics)))
    if dual_clip and not isinstance(objective, jaxppo.AdaptiveKL):
        np.testing.assert_allclose(metrics["policy_loss"], dual_clip, rtol=1e-6)
        np.testing.assert_array_equal(after["policy"]["kernel"], params["policy"]["kernel"])


@pytest.mark.parametrize("name", ["kl", "episode_return", "extra", "_seen"])
def test_metrics_of_an_objective_have_names_of_their_own(name):
    """One that is taken is refused by name when the loss is traced."""

    class Named(jaxppo.Objective):
        def loss(self, aux, new, old, action, advantage):
            return jnp.mean(advantage), {name: advantage}

    jax.tree_util.register_static(Named)
    network, params, batch = problem()
    with pytest.raises(jaxppo.ConfigError, match=f"objective=Named: .*'{name}'"):
        learn(one_step(objective=Named()), network, params, batch)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda advantage: (advantage, {}), r"a single number, not of shape \(\d+,\)"),
        (lambda advantage: jnp.mean(advantage), "a number and a dict of metrics"),
        (lambda advantage: (jnp.mean(advantage), {"mine": jnp.ones(3)}), r"'mine' is of shape \(3,\)"),
    ],
)
@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_a_loss_that_is_none_is_refused(loss, words, dual_clip):
    """With what it should be, not from inside JAX."""

    class Mine(jaxppo.Objective):
        def loss(self, aux, new, old, action, advantage):
            return loss(advantage)

    jax.tree_util.register_static(Mine)
    network, params, batch = problem()
    with pytest.raises(jaxppo.ConfigError, match=f"objective=Mine: .*{words}"):
        learn(one_step(objective=Mine(), dual_clip=dual_clip), network, params, batch)


@pytest.mark.parametrize(
    "objective",
    [jaxppo.Clip(anneal_clip=True), jaxppo.AdaptiveKL(), jaxppo.FixedKL(), jaxppo.Unclipped(), jaxppo.PolicyGradient()],
    ids=lambda o: type(o).__name__,
)
@pytest.mark.parametrize("space", [Discrete(3), Box(-1.0, 1.0, (2,))], ids=["discrete", "box"])
def test_options_go_with_every_objective(objective, space):
    """Value clipping, dual clip and a KL limit, one agent per limit: only those who may go on keep moving."""
    network, params, batch = problem(space, distance=0.0)
    limits = jnp.array([1e-6, 1e9])
    epochs = 4 if objective.reuses_data else 1

    def one(limit):
        options = {"num_epochs": epochs, "num_minibatches": epochs, "vf_clip_eps": 0.1, "dual_clip": 3.0}
        options["kl_limit"] = limit
        return learn(jaxppo.SGD(objective=objective, learning_rate=0.01, **options), network, params, batch)

    _, after, metrics = jax.vmap(one)(limits)
    assert metrics["gradient_steps"].tolist() == [1, epochs**2]
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((after, metrics)))
    assert epochs == 1 or metrics["kl"][0] < metrics["kl"][1]

"""Population-based training: who follows whom, what is inherited, and that it finds what fixed settings cannot."""

import signal
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import raw

import jaxppo
from jaxppo.cli import main
from jaxppo.devices import spread
from jaxppo.loop import begin, stack
from jaxppo.population import evolve
from jaxppo.progress import Silent, _score

RATES = [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4]
SCORES = jnp.array([5.0, 1.0, 9.0, jnp.nan, 6.0, 7.0, 8.0, 2.0])  # the worst are 3 and 1, the best 2 and 6


def config(learning_rate=1e-3, gamma=0.9, **changes):
    """A small one."""
    learner = jaxppo.SGD(learning_rate=learning_rate)
    return jaxppo.Config(num_steps=8, gamma=gamma, network=jaxppo.MLP(hidden=(4,)), learner=learner, **changes)


def start(configs, count):
    """So many agents at their beginning, on one device."""
    one_device = tuple(jax.local_devices()[:1])
    return begin(spread(config(), count, one_device), configs, jax.random.split(jax.random.key(0), count))


@pytest.fixture(scope="module")
def agents():
    """Eight agents with a learning rate each."""
    configs = stack([config(rate) for rate in RATES])
    return configs, start(configs, 8)


def differing(first, second):
    """Of each agent, whether any leaf differs."""
    pairs = zip(jax.tree.leaves(raw(first)), jax.tree.leaves(raw(second)), strict=True)
    return np.any([np.any(np.asarray(a) != np.asarray(b), axis=tuple(range(1, a.ndim))) for a, b in pairs], axis=0)


def test_the_worst_go_on_from_the_best(agents):
    """With all that was learned, but in environments and with keys of their own."""
    configs, states = agents
    population = jaxppo.Population(fraction=0.25, factor=2.0)
    for seed in range(5):
        after, moved, parents = evolve(population, jax.random.key(seed), configs, states, SCORES)
        assert list(parents[jnp.array([0, 2, 4, 5, 6, 7])]) == [0, 2, 4, 5, 6, 7]
        assert set(np.asarray(parents[jnp.array([1, 3])])) <= {2, 6}
        assert list(differing(moved.policy, states.policy)) == [agent in (1, 3) for agent in range(8)]
        inherited = jax.tree.map(lambda x, parents=parents: x[parents], states)
        assert not differing(moved.policy, inherited.policy).any()
        assert not differing(moved.learner, inherited.learner).any()
        assert not differing(moved.loop, states.loop).any()
        assert (jax.random.key_data(moved.key) == jax.random.key_data(states.key)).all()
        ratio = np.asarray(after.learner.learning_rate) / np.asarray(configs.learner.learning_rate)[np.asarray(parents)]
        np.testing.assert_allclose(ratio[[0, 2, 4, 5, 6, 7]], 1)
        assert all(np.isclose(each, 2) or np.isclose(each, 0.5) for each in ratio[[1, 3]])


@pytest.mark.parametrize("over", [True, False])
def test_environments_that_hold_no_numbers_are_left(agents, over):
    """But not those that are about to be reset, whatever their last episode ended with."""
    configs, states = agents
    broken = jnp.arange(8)[:, None, None] == 1
    loop = states.loop._replace(
        obs=jnp.where(broken, jnp.inf, states.loop.obs), reset=jnp.full_like(states.loop.reset, over)
    )
    population = jaxppo.Population(fraction=0.25, factor=2.0)
    _, moved, _ = evolve(population, jax.random.key(0), configs, states.replace(loop=loop), SCORES)
    assert list(differing(moved.loop, loop)) == [agent == 1 and not over for agent in range(8)]
    assert (jax.random.key_data(moved.loop.reset_key) == jax.random.key_data(loop.reset_key)).all()


def test_both_directions_and_both_parents_occur(agents):
    """Over many keys about half the changes are up, and about half the parents are the very best."""
    configs, states = agents
    population = jaxppo.Population(fraction=0.25, factor=2.0)
    keys = jax.random.split(jax.random.key(1), 400)
    after, _, parents = jax.vmap(lambda key: evolve(population, key, configs, states, SCORES))(keys)
    up = np.asarray(after.learner.learning_rate)[:, 1] > np.asarray(configs.learner.learning_rate)[parents[:, 1]]
    for share in (up.mean(), np.mean(parents[:, 1] == 2), np.mean(parents[:, 1] == parents[:, 3])):
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(400)


def test_nobody_follows_one_who_is_no_better(agents):
    """Where all do equally well, or no episode has ended yet."""
    configs, states = agents
    for scores in (jnp.zeros(8), jnp.full(8, jnp.nan)):
        after, _, parents = evolve(jaxppo.Population(), jax.random.key(0), configs, states, scores)
        assert list(parents) == list(range(8))
        assert not differing(after, configs).any()


def test_nobody_follows_one_whose_parameters_are_lost(agents):
    """Whatever it scores: an action that is always the same may be a good one. It is the first to be replaced."""
    configs, states = agents
    policy = jax.tree.map(lambda x: x.at[2].set(jnp.nan), states.policy)  # the one with the highest score
    for seed in range(5):
        _, moved, parents = evolve(
            jaxppo.Population(fraction=0.25), jax.random.key(seed), configs, states.replace(policy=policy), SCORES
        )
        assert set(np.asarray(parents)[[2, 3]]) <= {5, 6}
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(moved.policy))


def test_one_that_diverges_recovers():
    """Where returns are negative and the environment's state is lost as well; it never counts as one that did well."""
    start = jaxppo.Config(env="Pendulum-v1", num_steps=64, total_timesteps=12 * 256, network=jaxppo.MLP(hidden=(8,)))
    configs = [replace(start, learner=jaxppo.SGD(learning_rate=rate)) for rate in (1e30, 1e-3, 2e-3, 3e-3)]
    metrics = jaxppo.sweep(configs, 1, population=jaxppo.Population(interval=4)).metrics
    lost = metrics[metrics["agent"] == 0]
    assert lost["episode_return"].isna().sum() > 0
    assert not np.isfinite(lost["grad_norm"].iloc[3])
    assert np.isfinite(metrics[metrics["update"] == 12]["grad_norm"]).all()


def test_progress_leaves_out_what_diverged():
    """The mean over the others, or nothing."""
    returns = np.array([[-10.0, np.nan, -30.0], [np.nan, np.nan, np.nan], [9.0, 9.0, 9.0]])
    episodes = np.array([[1, 0, 3], [2, 2, 2], [4, 4, 4]])
    norms = np.array([[1.0, 1.0, 1.0], [np.inf, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    metrics = {"episode_return": returns, "episodes": episodes, "grad_norm": norms}
    assert _score(metrics) == -25
    assert _score({name: values[1:] for name, values in metrics.items()}) is None


def test_numbers_stay_in_their_range():
    """Gamma moves in its distance to 1 and never beyond 0 or 1."""
    configs = stack([config(gamma=gamma) for gamma in (0.5, 0.99, 0.2, 0.999)])
    states = start(configs, 4)
    population = jaxppo.Population(perturb=("gamma",), fraction=0.5, factor=4.0)
    seen = []
    for seed in range(20):
        after, _, parents = evolve(population, jax.random.key(seed), configs, states, jnp.array([0.0, 3.0, 1.0, 2.0]))
        gamma = np.asarray(after.gamma)
        assert ((gamma >= 0) & (gamma <= 1)).all()
        before = np.asarray(configs.gamma)[np.asarray(parents)]
        seen += list((1 - gamma[[0, 2]]) / (1 - before[[0, 2]]))
    seen = np.array(seen)
    assert (np.isclose(seen, 4, rtol=1e-2) | np.isclose(seen, 0.25, rtol=1e-2)).all()
    assert seen.max() > 3
    assert seen.min() < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fraction": 0.6}, "fraction=0.6: must be a finite number > 0 and <= 0.5"),
        ({"factor": 1.0}, "factor=1.0"),
        ({"interval": 0}, "interval=0"),
        ({"perturb": ()}, "perturb="),
        ({"perturb": "gamma"}, "perturb=gamma: must be a tuple"),
    ],
)
def test_a_bad_population_is_refused(arguments, words):
    """When it is made."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        jaxppo.Population(**arguments)


def test_what_cannot_be_a_population_is_refused():
    """A setting that is no number in the config, a number that is None or only begins with, and an agent alone."""
    with pytest.raises(jaxppo.ConfigError, match="perturb=num_envs: must be a number in the config"):
        jaxppo.sweep(config(), 4, population=jaxppo.Population(perturb=("num_envs",)))
    with pytest.raises(jaxppo.ConfigError, match="perturb=kl_limit"):
        jaxppo.sweep(config(), 4, population=jaxppo.Population(perturb=("kl_limit",)))
    adaptive = replace(config(), learner=jaxppo.SGD(objective=jaxppo.AdaptiveKL()))
    with pytest.raises(jaxppo.ConfigError, match="perturb=kl_coef"):
        jaxppo.sweep(adaptive, 4, population=jaxppo.Population(perturb=("kl_coef",)))
    for name, at, fixed in (("gamma", 1.0, "1"), ("gae_lambda", 1.0, "1")):
        with pytest.raises(jaxppo.ConfigError, match=rf"perturb={name}: must be .* another value than {fixed}, "):
            jaxppo.sweep(replace(config(), **{name: at}), 4, population=jaxppo.Population(perturb=(name,)))
    with pytest.raises(jaxppo.ConfigError, match=r"perturb=learning_rate: must be .* another value than 0, "):
        jaxppo.sweep(config(0.0), 4, population=jaxppo.Population())
    boundless = replace(config(), obs_clip=float("inf"))
    with pytest.raises(jaxppo.ConfigError, match=r"perturb=obs_clip: must be .* another value than inf, "):
        jaxppo.sweep(boundless, 4, population=jaxppo.Population(perturb=("obs_clip",)))
    with pytest.raises(jaxppo.ConfigError, match="population=1: must be at least two"):
        jaxppo.sweep(config(), 1, population=jaxppo.Population())


def test_numbers_stay_where_a_config_takes_them():
    """Above a limit that is none of the values, in the precision of training."""
    limited = [replace(config(), learner=jaxppo.SGD(dual_clip=clip)) for clip in (1.1, 1.1, 1.1, 1.1)]
    configs = stack(limited)
    one_device = tuple(jax.local_devices()[:1])
    states = begin(spread(limited[0], 4, one_device), configs, jax.random.split(jax.random.key(0), 4))
    population = jaxppo.Population(perturb=("dual_clip",), fraction=0.5, factor=2.0)
    seen = set()
    for seed in range(8):
        after, _, _ = evolve(population, jax.random.key(seed), configs, states, jnp.arange(4.0))
        seen |= {float(each) for each in after.learner.dual_clip}
    assert all(jaxppo.SGD(dual_clip=each).dual_clip > 1 for each in seen)
    assert min(seen) < 1.001 < 2 < max(seen)


def test_tables_tell_the_lineage(tmp_path):
    """Parents change at the ends of intervals only, and a child's rate is a factor away from its parent's."""
    path = str(tmp_path / "sweep")
    flags = ["--total-timesteps", "3072", "--num-steps", "32", "--hidden", "8", "--anneal-lr", "false", "--seeds", "4"]
    pbt = ["--pbt", "learning-rate", "clip-eps", "--pbt-interval", "4", "--pbt-fraction", "0.5", "--pbt-factor", "2"]
    assert main(["sweep", *flags, *pbt, "--out", path]) == 0
    results = jaxppo.load_results(path)
    assert results.manifest["population"]["perturb"] == ["learning_rate", "clip_eps"]
    wide = {
        name: results.metrics.pivot(index="agent", columns="update", values=name)
        for name in ("parent", "learning_rate", "clip_eps")
    }
    parents = wide["parent"].to_numpy()
    assert (parents[:, :4] == np.arange(4)[:, None]).all()
    assert (parents[:, 4:] != np.arange(4)[:, None]).any()
    for name in ("learning_rate", "clip_eps"):
        values = wide[name].to_numpy()
        for update in range(1, 24):
            ratio = values[:, update] / values[parents[:, update].astype(int), update - 1]
            if update % 4:
                np.testing.assert_allclose(values[:, update], values[:, update - 1], rtol=1e-6)
                continue
            changed = parents[:, update] != np.arange(4)
            np.testing.assert_allclose(np.abs(np.log2(ratio)), changed, atol=1e-5)


@pytest.mark.parametrize("updates", [6, 8])
def test_a_stopped_population_goes_on_bit_for_bit(tmp_path, monkeypatch, updates):
    """In the middle of an interval or at its end, with the numbers and the parents that it had then."""

    class Stop(Silent):
        def advance(self, steps, rate, metrics):
            if steps == 4 * 32 * 4 * updates:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
    population = jaxppo.Population(interval=4, fraction=0.5, factor=2.0)
    small = config(total_timesteps=12 * 128)
    small = jaxppo.Config(num_steps=32, total_timesteps=12 * 128, network=small.network, learner=small.learner)
    whole = jaxppo.sweep(small, 4, population=population)
    stopped = jaxppo.sweep(small, 4, tmp_path / "sweep", population=population, progress=Stop())
    assert stopped.manifest["status"] == "interrupted"
    for other in (None, replace(population, interval=3)):
        with pytest.raises(jaxppo.ConfigError, match="one of the very same sweep"):
            jaxppo.sweep(small, 4, tmp_path / "sweep", population=other)
    resumed = jaxppo.sweep(small, 4, tmp_path / "sweep", population=population)
    assert resumed.metrics.drop(columns="wall_time").equals(whole.metrics.drop(columns="wall_time"))


@pytest.mark.slow
def test_a_population_finds_a_good_learning_rate_from_a_bad_start():
    """Catch with learning rates a hundred times too small: nothing is learned without evolution, and all with it."""
    start = jaxppo.preset("Catch-bsuite", learning_rate=2e-5, anneal_lr=False, total_timesteps=100_000)
    population = jaxppo.Population(interval=6, fraction=0.25, factor=2.5)
    scores = {}
    for name, each in (("fixed", None), ("evolving", population)):
        metrics = jaxppo.sweep(start, 8, population=each).metrics
        last = metrics[metrics["update"] > 0.9 * metrics["update"].max()]
        scores[name] = last.groupby("agent")["episode_return"].mean().mean()
        if each:
            assert last["learning_rate"].median() > 1e-4
    assert scores["fixed"] < 0
    assert scores["evolving"] > 0.9

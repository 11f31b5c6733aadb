"""Statistics of scores: against scipy, loops and hand values."""

import numpy as np
import pytest
import scipy.stats

from jaxppo.fields import ConfigError
from jaxppo.stats import (
    estimate,
    iqm,
    mean,
    median,
    on_grid,
    optimality_gap,
    probability_of_improvement,
    profile,
)

RNG = np.random.default_rng(0)
UNEQUAL = {"b": RNG.normal(size=3), "a": RNG.normal(size=5), "c": RNG.normal(size=2)}


@pytest.mark.parametrize("shape", [(4, 1), (8, 3), (10, 2), (2, 26)])
def test_interquartile_mean_is_scipys_where_a_quarter_is_whole(shape):
    """Of all runs and tasks together."""
    scores = RNG.normal(size=shape)
    assert scores.size % 4 == 0
    np.testing.assert_allclose(iqm(scores), scipy.stats.trim_mean(scores.reshape(-1), 0.25), rtol=1e-12)


@pytest.mark.parametrize("runs", [1, 2, 3, 5, 6, 7, 10])
def test_interquartile_mean_counts_runs_in_part_elsewhere(runs):
    """As if each run had been made four times, after which a quarter is whole."""
    scores = RNG.normal(size=(runs, 1))
    np.testing.assert_allclose(iqm(scores), scipy.stats.trim_mean(np.repeat(scores, 4), 0.25), rtol=1e-12)


def test_interquartile_mean_by_hand():
    """Five runs: a quarter is 1.25 of them, so that 0.75 of the second and of the fourth are left."""
    scores = np.array([[0.0], [1.0], [2.0], [10.0], [100.0]])
    np.testing.assert_allclose(iqm(scores), (0.75 * 1 + 2 + 0.75 * 10) / 2.5)


def test_tasks_weigh_the_same_however_many_runs_they_have():
    """As if each task had been repeated to 30 runs."""
    equal = np.stack([np.repeat(UNEQUAL[name], 30 // len(UNEQUAL[name])) for name in UNEQUAL], axis=1)
    for statistic in (mean, median, iqm, optimality_gap):
        np.testing.assert_allclose(statistic(UNEQUAL), statistic(equal), rtol=1e-12)
    np.testing.assert_allclose(profile(UNEQUAL, np.array([-0.5, 0.1])), profile(equal, np.array([-0.5, 0.1])))


def test_mean_median_and_gap_by_hand():
    """Means of the tasks are 1, 3 and 11; short of 1 fall 1 of the first task's runs and 0.5 of the second's."""
    scores = np.array([[0.0, 0.5, 11.0], [2.0, 5.5, 11.0]])
    assert mean(scores) == 5
    assert median(scores) == 3
    np.testing.assert_allclose(optimality_gap(scores), (1 + 0.5) / 6)
    np.testing.assert_allclose(optimality_gap(scores, target=0.25), 0.25 / 6)


def test_probability_of_improvement_is_mann_whitneys():
    """U divided by the number of pairs, averaged over tasks; whole numbers make ties."""
    x = {name: RNG.integers(0, 4, size=size).astype(float) for name, size in (("b", 7), ("a", 4))}
    y = {name: RNG.integers(0, 4, size=size).astype(float) for name, size in (("a", 9), ("b", 5))}
    u = [scipy.stats.mannwhitneyu(x[name], y[name]).statistic / (len(x[name]) * len(y[name])) for name in "ab"]
    np.testing.assert_allclose(probability_of_improvement(x, y), np.mean(u), rtol=1e-12)
    np.testing.assert_allclose(probability_of_improvement(x, y) + probability_of_improvement(y, x), 1, rtol=1e-12)
    assert probability_of_improvement(x, x) == 0.5


def test_scores_of_other_tasks_are_refused():
    """By name where there are names, otherwise by their number."""
    with pytest.raises(ConfigError, match="same tasks"):
        probability_of_improvement({"a": [1.0, 2.0]}, {"b": [1.0, 2.0]})
    with pytest.raises(ConfigError, match="same tasks"):
        probability_of_improvement(np.ones((3, 2)), np.ones((3, 1)))


def test_profile_is_the_survival_function():
    """One minus the empirical distribution of scipy, and strictly above."""
    scores = RNG.integers(0, 5, size=(20, 1)).astype(float)
    thresholds = np.linspace(-1, 5, 13)
    expected = scipy.stats.ecdf(scores[:, 0]).sf.evaluate(thresholds)
    np.testing.assert_allclose(profile(scores, thresholds), expected, rtol=1e-12)


def test_interval_is_scipys_up_to_chance():
    """Percentile bootstrap of the mean of one task."""
    scores = RNG.normal(size=(20, 1))
    ours = estimate(mean, scores, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (scores[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    np.testing.assert_allclose([ours.low, ours.high], theirs, atol=0.02)
    assert ours.value == scores.mean()


def test_interval_resamples_within_tasks():
    """Against a loop that draws each task's runs by themselves; tasks far apart would widen the interval otherwise."""
    scores = {"low": RNG.normal(size=6), "high": 100 + RNG.normal(size=9)}
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        drawn = [rng.choice(task, len(task)) for task in scores.values()]
        draws.append(np.mean([part.mean() for part in drawn]))
    ours = estimate(mean, scores, resamples=4000)
    np.testing.assert_allclose([ours.low, ours.high], np.quantile(draws, [0.025, 0.975]), atol=0.05)


def test_interval_of_two_sets_resamples_both():
    """Against a loop."""
    x, y = RNG.normal(size=(8, 2)), 0.5 + RNG.normal(size=(6, 2))
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        pairs = [(rng.choice(x[:, k], 8), rng.choice(y[:, k], 6)) for k in range(2)]
        draws.append(np.mean([np.mean(a[:, None] > b) for a, b in pairs]))
    ours = estimate(probability_of_improvement, x, y, resamples=4000)
    np.testing.assert_allclose([ours.low, ours.high], np.quantile(draws, [0.025, 0.975]), atol=0.03)


def test_intervals_are_keyed_by_their_seed():
    """The same seed gives the same interval, another one another."""
    scores = RNG.normal(size=(5, 2))
    assert estimate(iqm, scores, seed=3) == estimate(iqm, scores, seed=3)
    assert estimate(iqm, scores, seed=3) != estimate(iqm, scores, seed=4)


def test_intervals_cover():
    """About 95 of 100 intervals of the mean of 30 normal scores hold the true mean; percentile ones somewhat fewer."""
    covered = 0
    for trial in range(400):
        result = estimate(mean, np.random.default_rng(trial).normal(size=(30, 1)), seed=trial, resamples=500)
        covered += bool(result.low <= 0 <= result.high)
    assert 0.90 < covered / 400 < 0.97


def test_axes_before_the_runs_are_kept_and_share_resamples():
    """A curve of three equal points has three equal intervals, which are those of the point alone."""
    runs = RNG.normal(size=7)
    for statistic in (mean, median, iqm, optimality_gap):
        curve = estimate(statistic, [np.stack([runs] * 3)])
        point = estimate(statistic, runs[:, None])
        for part, alone in zip(curve, point, strict=True):
            np.testing.assert_allclose(part, np.full(3, alone), rtol=1e-12)
    thresholds = np.array([-0.5, 0.0])
    band = estimate(lambda scores: profile(scores, thresholds), runs[:, None])
    assert band.value.shape == band.low.shape == band.high.shape == (2,)
    assert np.all(band.low <= band.value)
    assert np.all(band.value <= band.high)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.ones((0, 3)), "at least one task"),
        (np.ones((3, 0)), "at least one task"),
        ({}, "at least one task"),
        ({"a": [1.0], "b": []}, "at least one task"),
        (np.full((2, 2), np.nan), "finite numbers"),
        (np.ones(3), r"\[runs, tasks\]"),
    ],
)
def test_bad_scores_are_refused(scores, message):
    """With what is allowed in the message."""
    for statistic in (mean, median, iqm, optimality_gap):
        with pytest.raises(ConfigError, match=message):
            statistic(scores)


def test_one_run_has_no_interval():
    """A single task with one run is enough to refuse."""
    with pytest.raises(ConfigError, match="at least 2 runs"):
        estimate(mean, {"a": [1.0, 2.0], "b": [1.0]})


def test_on_grid_averages_within_cells():
    """Cells are open below and closed above; values before, beyond and that are NaN count nowhere."""
    steps = np.array([0, 1, 10, 11, 20, 21, 35, 50])
    values = np.array([99.0, 1.0, 3.0, 5.0, np.nan, 7.0, 9.0, 99.0])
    averaged = on_grid(steps, values, np.array([0, 10, 20, 30, 35, 40]))
    np.testing.assert_array_equal(averaged, [2.0, 5.0, 7.0, 9.0, np.nan])
    shuffled = RNG.permutation(len(steps))
    np.testing.assert_array_equal(
        on_grid(steps[shuffled], values[shuffled], np.array([0, 10, 20, 30, 35, 40])), averaged
    )


def test_on_grid_without_any_value():
    """All NaN, or nothing at all."""
    grid = np.array([0, 1, 2])
    np.testing.assert_array_equal(on_grid(np.array([1, 2]), np.full(2, np.nan), grid), [np.nan, np.nan])
    np.testing.assert_array_equal(on_grid(np.array([]), np.array([]), grid), [np.nan, np.nan])

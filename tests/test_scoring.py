"""Scores of a sweep's agents: by hand, and what was swept."""

import numpy as np
import pandas as pd
import pytest
from sweep_tables import diverge, make

from jaxppo import stats
from jaxppo.fields import ConfigError
from jaxppo.loop import logged
from jaxppo.scoring import (
    _text,
    aggregate,
    labels,
    random_scores,
    score_table,
    scores,
    shared_settings,
    summarise,
    swept,
)


def with_returns(results, returns):
    """The results with these episode returns [agents, updates]."""
    return results._replace(metrics=results.metrics.assign(episode_return=np.reshape(returns, -1)))


def test_a_score_is_the_mean_return_of_the_last_tenth():
    """Of 20 updates the last two, of 5 the last one; updates that ended no episode are left out."""
    returns = np.tile(np.arange(20.0), (3, 1))
    returns[1, 19] = np.nan
    returns[2, 18:] = np.nan
    found = scores(with_returns(make(updates=20), returns))
    np.testing.assert_array_equal(found, [18.5, 18.0, np.nan])
    assert found.index.tolist() == [0, 1, 2]
    few = make(updates=5, seeds=1)
    np.testing.assert_array_equal(scores(with_returns(few, [1.0, 2.0, 3.0, 4.0, 5.0])), [5.0])
    np.testing.assert_array_equal(scores(with_returns(few, [1.0, 2.0, 3.0, 4.0, 5.0]), fraction=1.0), [3.0])


def test_thinned_logs_count_their_updates_not_their_rows():
    """Every fourth of 40 updates: the last tenth holds the last row alone."""
    results = with_returns(make(updates=40, seeds=1), np.arange(1.0, 41.0))
    thinned = results._replace(metrics=results.metrics[results.metrics["update"] % 4 == 0])
    np.testing.assert_array_equal(scores(thinned), [40.0])


def test_thinned_logs_still_tell_of_the_random_policy():
    """An interval of ten keeps the first two of 100 updates; the returns there are 0 and 1."""
    results = with_returns(make(updates=100, seeds=1), np.arange(100.0))
    thinned = results._replace(metrics=results.metrics[logged(results.metrics["update"].to_numpy(), 100, 10)])
    assert thinned.metrics["update"].tolist() == [1, 2, *range(10, 101, 10)]
    assert random_scores(thinned).to_dict() == random_scores(results).to_dict() == {"CartPole-v1": 0.5}


def test_random_scores_are_those_of_the_first_updates():
    """Of 100 updates the first two, or as far as the first return; agents that end before count the same.

    Of 149 it is two as well, since a part of an update is none.
    """
    returns = np.tile(np.arange(100.0), (3, 1))
    returns[1, :7] = np.nan
    returns[2] = np.nan
    found = random_scores(with_returns(make(updates=100), returns))
    assert found.to_dict() == {"CartPole-v1": (0.5 + 7.0) / 2}
    assert random_scores(with_returns(make(updates=149, seeds=1), np.arange(149.0)))["CartPole-v1"] == 0.5


def test_normalised_scores_are_0_for_random_and_1_for_the_best():
    """Returns rise from 10 to 30 with one setting, and to 20 with the other, and not at all in Pendulum."""
    results = make(["CartPole-v1", "Pendulum-v1"], {"gamma": [0.9, 0.99]}, seeds=2, updates=10)
    returns = np.full((8, 10), 10.0)
    returns[:4, 5:] = np.array([29.0, 31.0, 20.0, 20.0])[:, None]
    table = score_table(with_returns(results, returns))
    np.testing.assert_allclose(table["normalised"], [0.95, 1.05, 0.5, 0.5, *[np.nan] * 4])
    shared = shared_settings(table)
    assert {label: list(by_env) for label, by_env in shared.items()} == {
        "gamma=0.9": ["CartPole-v1"],
        "gamma=0.99": ["CartPole-v1"],
    }
    best = aggregate(table)["gamma=0.9"]
    np.testing.assert_allclose([best["mean"].value, best["mean"].low, best["mean"].high], [1.0, 0.95, 1.05])
    assert list(aggregate(table)) == ["gamma=0.9", "gamma=0.99"]


def test_summaries_are_of_a_settings_seeds():
    """Means, intervals and extremes as from the statistics themselves, the best setting first."""
    results = make(["Pendulum-v1", "CartPole-v1"], {"gamma": [0.9, 0.95, 0.99]}, seeds=5)
    summary, table = summarise(results), score_table(results)
    assert summary["env"].tolist() == ["Pendulum-v1"] * 3 + ["CartPole-v1"] * 3
    for _, row in summary.iterrows():
        values = table.loc[table["setting"] == row["setting"], "score"].to_numpy()
        interval = stats.estimate(stats.mean, values[:, None])
        expected = [interval.value, interval.low, interval.high, stats.iqm(values[:, None]), values.min(), values.max()]
        np.testing.assert_allclose(row[["mean", "low", "high", "iqm", "worst", "best"]].astype(float), expected)
        assert (row["seeds"], row["env_steps"]) == (5, 60 * 8 * 128)
    assert summary.groupby("env")["mean"].is_monotonic_decreasing.all()


def test_settings_with_diverged_agents_come_last():
    """However well the others of the setting did; a setting that diverged altogether has a row without scores."""
    results = make(grid={"gamma": [0.9, 0.95, 0.99]}, seeds=2)
    assert summarise(results)["gamma"].tolist() == [0.9, 0.95, 0.99]
    summary = summarise(diverge(results, [0, 2, 3]))
    assert summary["gamma"].tolist() == [0.99, 0.9, 0.95]
    assert summary["seeds"].tolist() == [2, 1, 0]
    assert summary["diverged"].tolist() == [0, 1, 2]
    assert summary.loc[2, ["mean", "low", "high", "iqm", "worst", "best", "normalised"]].isna().all()
    assert summary.loc[2, "env_steps"] == 60 * 8 * 128


def test_a_setting_that_lost_agents_is_nowhere_the_best():
    """Neither first over all environments, nor what scores are scaled by, though those that are left did best."""
    results = make(["CartPole-v1", "Pendulum-v1"], {"gamma": [0.9, 0.95, 0.99]}, seeds=3)
    before = score_table(results)
    assert list(aggregate(before)) == ["gamma=0.9", "gamma=0.95", "gamma=0.99"]
    lost = diverge(results, [0, 1])  # two of three agents of the best setting, in CartPole
    table = score_table(lost)
    assert table["agent"].tolist() == list(range(2, 18))
    assert table.loc[table["lost"], "agent"].tolist() == [2]
    assert list(aggregate(table)) == ["gamma=0.95", "gamma=0.99", "gamma=0.9"]
    best = table[(table["env"] == "CartPole-v1") & (table["label"] == "gamma=0.95")]
    assert best["normalised"].mean() == pytest.approx(1)
    assert table.loc[0, "normalised"] > 1
    everywhere = score_table(diverge(results, [0, 3, 6]))
    best = everywhere[(everywhere["env"] == "CartPole-v1") & (everywhere["label"] == "gamma=0.9")]
    assert best["normalised"].mean() == pytest.approx(1)
    returns = lost.metrics.loc[lost.metrics["agent"] == 0, "episode_return"]
    assert random_scores(lost)["CartPole-v1"] < 100 < returns.iloc[-1]


def test_one_seed_has_a_summary_without_interval():
    """Rather than one of no width."""
    row = summarise(make(seeds=1)).iloc[0]
    assert np.isfinite(row["mean"])
    assert np.isnan(row["low"])
    assert np.isnan(row["high"])


def test_only_what_varies_within_an_environment_was_swept():
    """Environments with settings of their own, each without a choice, sweep nothing."""
    one, other = make(["CartPole-v1"], {"gamma": [0.9]}), make(["Pendulum-v1"], {"gamma": [0.99]})
    both = pd.concat([one.agents, other.agents], ignore_index=True)
    assert swept(both) == []
    assert labels(both).tolist() == [""] * 6
    assert swept(both.assign(env="CartPole-v1")) == ["gamma"]


def test_settings_that_come_with_a_kind_are_not_swept():
    """TRPO has no objective and another entropy bonus; a limit that is missing is a value like others."""
    agents = make(grid={"learner": ["sgd", "trust-region"]}, seeds=1).agents
    assert swept(agents) == ["learner", "objective"]
    assert labels(agents).tolist() == ["learner=sgd, objective=clip", "learner=trust-region"]
    agents = make(grid={"vf_clip_eps": [0.2, None], "hidden": [(64, 64), (8,)]}, seeds=1).agents
    assert labels(agents).tolist() == [
        "hidden=64 64, vf_clip_eps=0.2",
        "hidden=8, vf_clip_eps=0.2",
        "hidden=64 64, vf_clip_eps=none",
        "hidden=8, vf_clip_eps=none",
    ]


def test_labels_tell_close_numbers_apart():
    """With more digits where three would not do."""
    agents = make(grid={"gamma": [0.99, 0.9901, 0.5]}, seeds=1).agents
    assert labels(agents).tolist() == ["gamma=0.99", "gamma=0.9901", "gamma=0.5"]
    agents = make(grid={"env_params": [{}, {"max_steps_in_episode": 50}]}, seeds=1).agents
    assert labels(agents).tolist() == ["env_params=none", "env_params=max_steps_in_episode 50"]


def test_labels_of_a_setting_for_each_environment():
    """A list, as the table of agents has it."""
    cells = pd.Series(['{"gravity": [9.0, 12.0]}', '{"gravity": [10.0, 12.0]}'])
    assert [_text(cell, 3) for cell in cells] == ["gravity [9.0, 12.0]", "gravity [10.0, 12.0]"]


def test_results_without_a_score_are_refused():
    """No metrics at all, and none with a return."""
    results = make(updates=5)
    with pytest.raises(ConfigError, match="metrics=no updates"):
        scores(results._replace(metrics=pd.DataFrame({"agent": [], "update": []})))
    with pytest.raises(ConfigError, match="metrics=no return"):
        scores(with_returns(results, np.full((3, 5), np.nan)))
    with pytest.raises(ConfigError, match="fraction"):
        scores(results, fraction=0.0)

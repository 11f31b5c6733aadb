"""Published comparisons: the settings are the paper's, and scores are made of returns as it says."""

import numpy as np
import pandas as pd
import pytest

import jaxppo
from jaxppo.cli import main
from jaxppo.plan import plan
from jaxppo.reproduce import SUITES, TABLE1, last_returns, orderings, prepare, random_returns, table1
from jaxppo.tables import Results


def made_up(returns, episodes=10):
    """Results of `returns`, by environment and label: a list of runs, each a list of an update's mean returns."""
    agents, metrics = [], []
    for env, labels in returns.items():
        for label, runs in labels.items():
            for values in runs:
                number = len(agents)
                agents.append({"agent": number, "env": env, "label": label})
                counts = np.where(np.isnan(values), 0, episodes)
                metrics += [
                    {"agent": number, "update": i + 1, "episodes": count, "episode_return": value}
                    for i, (value, count) in enumerate(zip(values, counts, strict=True))
                ]
    return Results({}, pd.DataFrame(agents), pd.DataFrame(metrics))


def test_the_settings_are_the_papers():
    """Table 3: 2048 steps, minibatches of 64, ten epochs, Adam at 3e-4, two layers of 64; 11 settings on each task."""
    experiment = prepare("table1")
    assert len(experiment.configs) == 11 * len(SUITES["gymnax"])
    for config in experiment.configs:
        assert config.batch_size == 2048
        assert config.batch_size // config.learner.num_minibatches == 64
        assert (config.learner.num_epochs, config.learner.learning_rate) == (10, 3e-4)
        assert (config.gamma, config.gae_lambda, config.total_timesteps) == (0.99, 0.95, 1_000_000)
        assert config.network == jaxppo.MLP(hidden=(64, 64), activation="tanh", shared=False)
        assert config.learner.ent_coef == 0
    by_label = dict(zip(experiment.labels, experiment.configs, strict=True))
    assert by_label["clipping, ε = 0.1"].learner.objective == jaxppo.Clip(clip_eps=0.1)
    assert by_label["adaptive KL, d = 0.003"].learner.objective == jaxppo.AdaptiveKL(kl_target=0.003, kl_coef=1.0)
    assert by_label["fixed KL, β = 10"].learner.objective == jaxppo.FixedKL(kl_coef=10.0)
    assert by_label["no clipping or penalty"].learner.objective == jaxppo.Unclipped()
    assert TABLE1["clipping, ε = 0.2"][1] == 0.82


def test_settings_of_a_kind_share_a_program():
    """Four kinds on each of five tasks; three seeds of 55 configs."""
    planned = plan(prepare("table1").configs, 3)
    assert (len(planned.groups), len(planned.configs)) == (20, 165)


def test_other_experiments():
    """Five methods on each task, and four games with their presets."""
    assert [type(c.learner).__name__ for c in prepare("figure3").configs[:5]] == ["SGD"] * 4 + ["TrustRegion"]
    games = prepare("minatar", total_timesteps=8192 * 3).configs
    assert [config.env for config in games][1] == "Breakout-MinAtar"
    assert all(config.total_timesteps == 8192 * 3 for config in games)


def test_the_score_is_the_mean_of_the_last_hundred_episodes():
    """Ten updates of ten episodes; updates without episodes do not count; too few are all there are."""
    values = [50.0] * 5 + [1.0, 2, 3, 4, np.nan, 5, 6, 7, 8, 9, 10]
    results = made_up({"E": {"a": [values, [3.0, 5.0]]}})
    assert list(last_returns(results)) == [5.5, 4.0]


def test_scores_are_shifted_and_scaled_in_each_environment():
    """By hand: random 0 and best 1 in each, then the mean over environments."""
    first = {label: [[10.0 * place]] * 2 for place, label in enumerate(TABLE1)}
    second = {label: [[5.0 - place]] * 2 for place, label in enumerate(TABLE1)}
    table = table1(made_up({"E": first, "F": second}), {"E": -20.0, "F": -5.0}).set_index("setting")
    for place, label in enumerate(TABLE1):
        expected = ((10.0 * place + 20) / 120, (5.0 - place + 5) / 10)
        assert table.loc[label, "E"] == pytest.approx(expected[0])
        assert table.loc[label, "F"] == pytest.approx(expected[1])
        assert table.loc[label, "measured"] == pytest.approx(np.mean(expected))
        assert table.loc[label, "low"] == table.loc[label, "high"] == pytest.approx(np.mean(expected))
        assert table.loc[label, "published"] == TABLE1[label][1]


def test_an_environment_without_learning_is_left_out():
    """And it is an error if there is no other."""
    flat = {label: [[1.0]] for label in TABLE1}
    learned = {label: [[float(place)]] for place, label in enumerate(TABLE1)}
    table = table1(made_up({"E": flat, "F": learned}), {"E": 1.0, "F": 0.0})
    assert "E" not in table
    assert "F" in table
    with pytest.raises(jaxppo.ConfigError, match="learn more than a random policy"):
        table1(made_up({"E": flat}), {"E": 1.0})


def test_orderings_are_read_off_the_table():
    """Those of the published scores all hold; one of them fails when clipping does badly."""
    table = pd.DataFrame({"setting": list(TABLE1), "measured": [score for _, score in TABLE1.values()]})
    assert all(line.startswith("holds") for line in orderings(table))
    table.loc[table["setting"] == "clipping, ε = 0.2", "measured"] = 0.72
    assert [line.startswith("holds") for line in orderings(table)] == [False, True, True, True]


def test_random_returns_are_those_of_the_first_policy():
    """On Catch, one ball in five is caught by chance or so."""
    config = jaxppo.preset("Catch-bsuite")
    (value,) = random_returns([config, config], 512).values()
    assert -0.8 < value < -0.3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["table1", "--seeds", "0"], "seeds=0"),
        (["table1", "--total-timesteps", "100"], "total_timesteps=100: must be at least"),
    ],
)
def test_bad_flags_are_refused(flags, words, tmp_path, monkeypatch, capsys):
    """In one line, with nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error
    assert not list(tmp_path.iterdir())

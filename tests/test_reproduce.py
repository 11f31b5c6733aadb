"""Published comparisons: the settings are the paper's, and scores are made of returns as it says."""

import signal

import numpy as np
import pandas as pd
import pytest

import jaxppo
from jaxppo.cli import main
from jaxppo.plan import plan
from jaxppo.progress import Lines
from jaxppo.reproduce import figure3, minatar, prepare, table1
from jaxppo.reproduce.paper import SUITES
from jaxppo.reproduce.scores import INTERVALS, last_mean, normalised, random_returns, scored
from jaxppo.reproduce.table1 import TABLE1, orderings
from jaxppo.tables import Results


def made_up(returns, episodes=10):
    """Results of `returns`, by environment and label: a list of runs, each a list of an update's mean returns."""
    agents, metrics = [], []
    for env, labels in returns.items():
        for label, runs in labels.items():
            for values in runs:
                number = len(agents)
                agents.append({"agent": number, "env": env, "label": label, "status": "finished"})
                counts = np.where(np.isnan(values), 0, episodes)
                metrics += [
                    {
                        "agent": number,
                        "update": i + 1,
                        "env_steps": 1000 * (i + 1),
                        "episodes": count,
                        "episode_return": value,
                    }
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
    assert list(scored(results, {"E": 0.0})["score"]) == [5.5, 4.0]


@pytest.mark.parametrize(
    ("returns", "episodes", "expected"),
    [
        ([1.0, 2.0], [30, 20], (30 * 1 + 20 * 2) / 50),  # not even a hundred
        ([9.0, 1.0, 2.0], [5, 90, 60], (90 * 1 + 60 * 2) / 150),  # the update that completes them counts as a whole
        ([9.0, 9.0, 7.0], [50, 50, 400], 7.0),
        ([9.0, 4.0, np.nan, np.nan], [50, 100, 0, 0], 4.0),
        ([np.nan, np.nan], [0, 0], np.nan),
    ],
)
def test_a_hundred_episodes_as_nearly_as_updates_tell_them_apart(returns, episodes, expected):
    """Weighed by how many ended in each update."""
    np.testing.assert_allclose(last_mean(np.array(returns), np.array(episodes)), expected)


def test_scores_are_shifted_and_scaled_in_each_environment():
    """By hand: random 0 and best 1 in each, then the mean over environments."""
    first = {label: [[10.0 * place]] * 2 for place, label in enumerate(TABLE1)}
    second = {label: [[5.0 - place]] * 2 for place, label in enumerate(TABLE1)}
    table = table1.compare(made_up({"E": first, "F": second}), {"E": -20.0, "F": -5.0}).set_index("setting")
    for place, label in enumerate(TABLE1):
        expected = ((10.0 * place + 20) / 120, (5.0 - place + 5) / 10)
        assert table.loc[label, "E"] == pytest.approx(expected[0])
        assert table.loc[label, "F"] == pytest.approx(expected[1])
        assert table.loc[label, "measured"] == pytest.approx(np.mean(expected))
        assert table.loc[label, "low"] == table.loc[label, "high"] == pytest.approx(np.mean(expected))
        assert table.loc[label, "published"] == TABLE1[label][1]


def lost(results, label):
    """The results had all runs of the label diverged."""
    status = results.agents["status"].where(results.agents["label"] != label, "diverged")
    return results._replace(agents=results.agents.assign(status=status))


def test_runs_that_diverge_count_as_a_random_policy(tmp_path, monkeypatch):
    """Also where a setting has no others, and whether or not they ended episodes before; the tables say how many."""
    gone = "no clipping or penalty"
    returns = {label: [[10.0 + place], [10.0 + place]] for place, label in enumerate(TABLE1)}
    runs = lost(made_up({"E": {**returns, gone: [[9.0], [np.nan]]}, "F": {**returns, gone: [[np.nan]] * 2}}), gone)
    row = table1.compare(runs, {"E": 5.0, "F": -5.0}).set_index("setting").loc[gone]
    assert (row["measured"], row["low"], row["E"], row["F"]) == (0, 0, 0, 0)
    monkeypatch.setattr(table1, "random_returns", lambda configs: {"E": 5.0, "F": -5.0})
    line = "\nRuns that diverged, and count as a random policy: no clipping or penalty (4).\n"
    assert line in prepare("table1").draw(runs, [], tmp_path)
    assert (tmp_path / "table1.md").read_text(encoding="utf-8").endswith(f"{line}\n{INTERVALS}")
    monkeypatch.setattr(figure3, "random_returns", lambda configs: RANDOM)
    assert "policy: TRPO (4).\n" in prepare("figure3").draw(lost(made_up(METHODS), "TRPO"), [], tmp_path)
    games = lost(made_up({"Freeway-MinAtar": {"PPO-clip": [[50.0]]}}), "PPO-clip")
    assert minatar.compare(games)["mean"].tolist() == [0.0]


def test_an_environment_without_learning_is_left_out():
    """And it is an error if there is no other."""
    flat = {label: [[1.0]] for label in TABLE1}
    learned = {label: [[float(place)]] for place, label in enumerate(TABLE1)}
    table = table1.compare(made_up({"E": flat, "F": learned}), {"E": 1.0, "F": 0.0})
    assert "E" not in table
    assert "F" in table
    with pytest.raises(jaxppo.ConfigError, match="learn more than a random policy"):
        normalised(scored(made_up({"E": flat}), {"E": 1.0}), {"E": 1.0})


def test_orderings_are_read_off_the_table():
    """Those of the published scores all hold; one of them fails when clipping does badly."""
    table = pd.DataFrame({"setting": list(TABLE1), "measured": [score for _, score in TABLE1.values()]})
    assert all(line.startswith("holds") for line in orderings(table))
    table.loc[table["setting"] == "clipping, ε = 0.2", "measured"] = 0.72
    assert [line.startswith("holds") for line in orderings(table)] == [False, True, True, True]


# Returns of two runs of each method on two tasks, where a random policy has -10 and 0.
METHODS = {
    "Pendulum-v1": {
        "PPO-clip": [[8.0], [12.0]],
        "PPO, adaptive KL": [[0.0], [0.0]],
        "A2C": [[-10.0], [-10.0]],
        "policy gradient": [[5.0], [5.0]],
        "TRPO": [[-5.0], [5.0]],
    },
    "Reacher-misc": {
        "PPO-clip": [[3.0], [3.0]],
        "PPO, adaptive KL": [[1.0], [1.0]],
        "A2C": [[2.0], [2.0]],
        "policy gradient": [[0.0], [0.0]],
        "TRPO": [[2.0], [6.0]],
    },
}
RANDOM = {"Pendulum-v1": -10.0, "Reacher-misc": 0.0}


def test_figure3_has_returns_and_normalised_scores():
    """By hand: PPO-clip has 10 of 10 on the one and 3 of 4 on the other; intervals of two runs reach to both."""
    table = figure3.compare(made_up(METHODS), RANDOM).set_index(["method", "env"])
    assert tuple(table.loc[("PPO-clip", "Pendulum-v1")]) == (10.0, 8.0, 12.0)
    assert tuple(table.loc[("TRPO", "Reacher-misc")]) == (4.0, 2.0, 6.0)
    means = table.xs("normalised", level="env")["mean"]
    expected = {"PPO-clip": 0.875, "PPO, adaptive KL": 0.375, "A2C": 0.25, "policy gradient": 0.375, "TRPO": 0.75}
    assert dict(means) == pytest.approx(expected)
    assert table.loc[("PPO-clip", "normalised"), "low"] == pytest.approx((18 / 20 + 3 / 4) / 2)


def test_where_ppo_clip_is_the_best_of_figure3():
    """On Pendulum; on Reacher it is within TRPO's interval, until that is narrow, or unknown."""
    table = figure3.compare(made_up(METHODS), RANDOM)
    assert "on 1 of 2 tasks, and within the 95 % interval of the best on 1 more" in figure3.claim(table)
    of_best = (table["method"] == "TRPO") & (table["env"] == "Reacher-misc")
    for low in (3.5, np.nan):
        table.loc[of_best, "low"] = low
        assert "on 1 of 2 tasks, and within the 95 % interval of the best on 0 more" in figure3.claim(table)


def test_minatar_games_stand_beside_published_levels():
    """Three runs of one game, one of another."""
    runs = {"Breakout-MinAtar": {"PPO-clip": [[1.0], [2.0], [6.0]]}, "Freeway-MinAtar": {"PPO-clip": [[50.0]]}}
    breakout, freeway = minatar.compare(made_up(runs)).to_dict("records")
    assert (breakout["mean"], breakout["worst"], breakout["best"], breakout["steps"]) == (3.0, 1.0, 6.0, 1000)
    assert 1 <= breakout["low"] < 3 < breakout["high"] <= 6
    assert breakout["published"].startswith("8 by 1e6")
    assert np.isnan(freeway["low"])


def test_tables_are_written(tmp_path, monkeypatch):
    """figure3's has a row for each method, the best first, and says where PPO-clip stands; minatar's has one a game."""
    monkeypatch.setattr(figure3, "random_returns", lambda configs: RANDOM)
    experiment = prepare("figure3")
    experiment.draw(made_up(METHODS), experiment.configs, tmp_path)
    lines = (tmp_path / "figure3.md").read_text(encoding="utf-8").splitlines()
    assert lines[2] == "| method | normalised | Pendulum-v1 | Reacher-misc |"
    assert lines[4] == "| PPO-clip | 0.88 (0.82 … 0.93) | 10 (8 … 12) | 3 (3 … 3) |"
    assert lines[5].startswith("| TRPO | 0.75")
    assert lines[-3].startswith("PPO-clip is the best of 5 methods on 1 of 2 tasks")
    assert lines[-1] == INTERVALS.strip()
    assert "Not normalised" not in "".join(lines)
    monkeypatch.setattr(figure3, "random_returns", lambda configs: {**RANDOM, "Reacher-misc": 5.0})
    printed = experiment.draw(made_up(METHODS), experiment.configs, tmp_path)
    assert "Not normalised, since nothing there was better than a random policy: Reacher-misc." in printed
    experiment = prepare("minatar")
    printed = experiment.draw(made_up({"Freeway-MinAtar": {"PPO-clip": [[50.0]]}}), experiment.configs, tmp_path)
    row = "| Freeway-MinAtar | 1,000 | 50 | 1 seed | 50 … 50 | 55 to 63 by 1e7 (gymnax-blines, pgx) |"
    assert row in (tmp_path / "minatar.md").read_text(encoding="utf-8")
    assert row in printed


def test_a_quick_comparison_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    """SIGINT is exit code 130; launched again it ends with curves, a table and a figure, and then has nothing to do."""
    small = jaxppo.Config(num_envs=4, num_steps=32, total_timesteps=512, network=jaxppo.MLP(hidden=(8,)))
    monkeypatch.setattr(minatar, "MINATAR", {"CartPole-v1": "500, the ceiling"})
    monkeypatch.setattr(minatar, "preset", lambda game, **steps: small)
    stopping = [True]

    class Stopping(Lines):
        def advance(self, *args):
            if stopping:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("jaxppo.cli.reproduce.Lines", Stopping)
    command = ["reproduce", "minatar", "--quick", "--out", str(tmp_path / "out")]
    assert main(command) == 130
    assert "launch it again to go on" in capsys.readouterr().out
    stopping.clear()
    assert main(command) == 0
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"curves.png", "curves.svg", "minatar.md", "manifest.json"} <= written
    assert "500, the ceiling" in capsys.readouterr().out


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
        (["table1", "--agents", "8"], "agents=8: must be left out: table1 has suite, seeds, total_timesteps"),
        (["minatar", "--suite", "brax"], "suite=brax: must be left out: minatar has seeds, total_timesteps"),
        (["scaling", "--agents", "0"], "agents=0: must be a whole number >= 1"),
        (["scaling", "--seeds", "3"], "seeds=3: must be left out: scaling has agents, total_timesteps"),
        (["scaling", "--total-timesteps", "100"], "total_timesteps=100: must be at least"),
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

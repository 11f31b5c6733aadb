"""The best setting of a sweep: the right one, and one that trains again from its file."""

import math

import numpy as np
import pytest
from sweep_tables import diverge, make, population

import jaxppo
from jaxppo.best import best_settings, to_toml, write_best
from jaxppo.cli import main
from jaxppo.results import load_run
from jaxppo.scoring import scores
from jaxppo.settings import from_settings, read_toml, to_settings

KINDS = [
    {"learning_rate": 1e-3, "hidden": (32, 16), "anneal_lr": False, "env_params": {"max_steps_in_episode": 50}},
    {"learner": "trust-region", "max_kl": 0.02, "vf_epochs": 3},
    {"objective": "adaptive-kl", "kl_target": 0.02, "vf_clip_eps": None, "max_grad_norm": None},
    {"network": "mlp", "memory": "gru", "kl_limit": 0.05, "max_grad_norm": math.inf},
]


@pytest.mark.parametrize("settings", KINDS, ids=["clip", "trpo", "kl", "gru"])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
def test_the_file_says_what_the_sweep_ran(env, settings, tmp_path):
    """Every setting of the config comes back through the table, the file and its reader, None and inf too."""
    results = make([env], {name: [value] for name, value in settings.items()})
    (file,) = write_best(best_settings(results), tmp_path)
    assert file.name == f"best_{env}.toml"
    read = to_settings(from_settings(read_toml(file, {})))
    given = to_settings(from_settings({"env": env, "num_envs": 8, "num_steps": 128, **settings}))
    assert read == given


def test_the_best_setting_is_that_with_the_highest_mean():
    """Another in each environment, where the made-up scores say so."""
    results = make(["CartPole-v1", "Pendulum-v1"], {"learning_rate": [1e-4, 3e-4, 1e-3]})
    returns = results.metrics["episode_return"].to_numpy(copy=True)
    setting = results.metrics["agent"].map(results.agents.set_index("agent")["setting"])
    returns[(setting == 1).to_numpy()] += 1000
    best = best_settings(results._replace(metrics=results.metrics.assign(episode_return=returns)))
    assert best["CartPole-v1"]["learning_rate"] == 3e-4
    assert best["Pendulum-v1"]["learning_rate"] == 1e-4
    assert list(best) == ["CartPole-v1", "Pendulum-v1"]


def test_the_best_setting_lost_no_agent():
    """Unless all settings have; and there is none where all agents of the environment diverged."""
    results = make(["CartPole-v1", "Pendulum-v1"], {"learning_rate": [1e-4, 3e-4]}, seeds=2)
    assert best_settings(results)["CartPole-v1"]["learning_rate"] == 1e-4
    assert best_settings(diverge(results, [0]))["CartPole-v1"]["learning_rate"] == 3e-4
    assert best_settings(diverge(results, [0, 2]))["CartPole-v1"]["learning_rate"] == 1e-4
    assert list(best_settings(diverge(results, [0, 1, 2, 3]))) == ["Pendulum-v1"]


@pytest.mark.parametrize(("anneal_lr", "updates", "factor"), [(False, 60, 1), (True, 60, 60), (True, 118, 2)])
def test_the_best_of_a_population_has_the_numbers_that_it_ended_with(anneal_lr, updates, factor):
    """Whatever the setting it began with; annealed, the last of 60 updates has a sixtieth of the learning rate.

    That of 118 which were to be, of which 59 were left, has the half.
    """
    grid = {"learning_rate": [1e-4, 3e-4], "anneal_lr": [anneal_lr], "total_timesteps": [updates * 8 * 128]}
    results = population(make(["CartPole-v1", "Pendulum-v1"], grid, seeds=2))
    best = best_settings(results)
    score = scores(results)
    assert best["CartPole-v1"]["learning_rate"] == factor * (1 + score[:4].idxmax())
    assert best["Pendulum-v1"]["learning_rate"] == factor * (1 + score[4:].idxmax())


def test_tables_of_mixed_kinds_give_back_whole_numbers():
    """A column with missing numbers is one of floats, and one of missing booleans holds objects."""
    results = make(["CartPole-v1"], {"learner": ["trust-region", "sgd"]})
    reversed_scores = results.metrics.assign(episode_return=-results.metrics["episode_return"])
    for tables in (results, results._replace(metrics=reversed_scores)):
        settings = best_settings(tables)["CartPole-v1"]
        assert all(type(value) in (bool, int, float, str, list) for value in settings.values())
        assert to_settings(from_settings(settings))["learner"] == settings["learner"]
    assert type(settings["num_epochs"]) is int
    assert type(settings["anneal_lr"]) is bool


def test_what_was_made_in_python_has_no_file(tmp_path):
    """A network class of a user's own, or an environment that no name makes."""
    results = make(["CartPole-v1"])
    for column in ("network", "env"):
        agents = results.agents.assign(**{column: "MyOwn"})
        assert write_best(best_settings(results._replace(agents=agents)), tmp_path) == []


def test_toml_text():
    """By hand; TOML's booleans are lower case and its text has double quotes."""
    settings = {
        "env": 'a"b',
        "x": 1e-05,
        "hidden": [64, 2],
        "on": True,
        "far": math.inf,
        "no": None,
        "env_params": {"g": 9.8},
    }
    assert to_toml(settings) == (
        'env = "a\\"b"\nx = 1e-05\nhidden = [64, 2]\non = true\nfar = inf\nno = "None"\n\n[env_params]\ng = 9.8\n'
    )


def test_train_takes_the_file(tmp_path):
    """The preset of the environment changes nothing of it."""
    settings = {"env_params": {"max_steps_in_episode": 50}, "total_timesteps": 1024, "learning_rate": 0.25}
    (file,) = write_best(
        best_settings(make(["Pendulum-v1"], {name: [value] for name, value in settings.items()})), tmp_path
    )
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    config = load_run(tmp_path / "run").config
    assert to_settings(config) == to_settings(from_settings(read_toml(file, {})))
    assert np.isclose(config.learner.learning_rate, 0.25)
    assert isinstance(config, jaxppo.Config)

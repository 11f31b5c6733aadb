"""Grids and samples of settings."""

import math

import numpy as np
import pytest

import jaxppo
from jaxppo.search import Range, configs_of, parse_values, read_sweep


def test_every_combination_once():
    """The product of the values."""
    configs = configs_of({"learning_rate": (1e-3, 1e-4), "clip_eps": (0.1, 0.2, 0.3), "env": ("CartPole-v1",)})
    pairs = [(c.learner.learning_rate, c.learner.objective.clip_eps) for c in configs]
    assert sorted(pairs) == sorted((rate, eps) for rate in (1e-3, 1e-4) for eps in (0.1, 0.2, 0.3))


def test_each_environment_has_its_preset_unless_told_otherwise():
    """As `jaxppo train` would."""
    first, second = configs_of({"env": ("CartPole-v1", "Pendulum-v1"), "gamma": (0.5,)})
    assert first == jaxppo.preset("CartPole-v1", gamma=0.5)
    assert second == jaxppo.preset("Pendulum-v1", gamma=0.5)
    (plain,) = configs_of({"env": ("Pendulum-v1",)}, "none")
    assert plain == jaxppo.Config(env="Pendulum-v1")
    (trpo,) = configs_of({"env": ("Pendulum-v1",)}, "trpo")
    assert trpo == jaxppo.preset("Pendulum-v1", "trpo")


def test_settings_of_a_kind_are_varied_with_that_kind_alone():
    """Two clip ranges and one target of the KL divergence are three configs."""
    configs = configs_of({"objective": ("clip", "adaptive-kl"), "clip_eps": (0.1, 0.2), "kl_target": (0.01,)})
    assert [type(c.learner.objective).__name__ for c in configs] == ["Clip", "Clip", "AdaptiveKL"]


def test_a_learner_without_an_objective_is_there_once():
    """Two objectives of SGD, and the trust region, are three configs."""
    configs = configs_of({"learner": ("sgd", "trust-region"), "objective": ("clip", "adaptive-kl")})
    assert [type(c.learner).__name__ for c in configs] == ["SGD", "SGD", "TrustRegion"]
    with pytest.raises(jaxppo.ConfigError, match="objective=clip: must be left out"):
        configs_of({"learner": ("trust-region",), "objective": ("clip",)})


def test_a_negative_seed_of_samples_is_refused():
    """With its name."""
    with pytest.raises(jaxppo.ConfigError, match="search_seed=-1"):
        configs_of({"gamma": Range(0.9, 1.0, False)}, num_samples=2, seed=-1)


def test_samples_are_spread_over_their_range():
    """Uniform in the value or in its logarithm: by the mean and the extremes of many; the seed decides."""
    search = {"gamma": Range(0.9, 1.0, False), "learning_rate": Range(1e-5, 1e-2, True)}
    configs = configs_of(search, num_samples=300, seed=1)
    gammas = np.array([c.gamma for c in configs])
    rates = np.log10([c.learner.learning_rate for c in configs])
    for values, low, high in ((gammas, 0.9, 1.0), (rates, -5, -2)):
        assert values.min() >= low
        assert values.max() <= high
        error = (high - low) / math.sqrt(12 * 300)
        assert abs(values.mean() - (low + high) / 2) < 4 * error
        assert len(set(values)) == 300
    assert configs == configs_of(search, num_samples=300, seed=1)
    assert configs != configs_of(search, num_samples=300, seed=2)


def test_samples_and_values_are_crossed():
    """The same samples for each value."""
    configs = configs_of({"gamma": Range(0.9, 1.0, False), "clip_eps": (0.1, 0.2)}, num_samples=3)
    assert len(configs) == 6
    assert len({c.gamma for c in configs}) == 3


@pytest.mark.parametrize(
    ("name", "texts", "values"),
    [
        ("learning_rate", ["1", "1e-3"], (1.0, 1e-3)),
        ("num_envs", ["4", "8"], (4, 8)),
        ("vf_clip_eps", ["none", "0.2"], (None, 0.2)),
        ("memory", ["none", "gru"], ("none", "gru")),
        ("hidden", ["64,64", "128"], ((64, 64), (128,))),
        ("normalize_obs", ["true", "false"], (True, False)),
        ("normalize_obs", [], (True,)),
        ("activation", ["tanh", "relu"], ("tanh", "relu")),
        ("env_params", ["gravity=9.8,length=0.5"], ({"gravity": 9.8, "length": 0.5},)),
        ("log_std_init", ["-1", "0.5"], (-1, 0.5)),
        ("learning_rate", ["1e-4:1e-2:log"], (1e-4, 1e-2, True)),
        ("gamma", ["0.9:1"], (0.9, 1.0, False)),
    ],
)
def test_words_are_read_as_the_setting_needs(name, texts, values):
    """By value and by type."""
    parsed = parse_values(name, texts)
    assert parsed == values
    assert [type(value) for value in parsed] == [type(value) for value in values]


def test_a_file_holds_values_ranges_and_lists(tmp_path):
    """And keys that are no settings, for whoever knows them."""
    path = tmp_path / "sweep.toml"
    path.write_text(
        'gamma = 0.9\nclip_eps = [0.1, 0.2]\nmax_grad_norm = "None"\nvf_clip_eps = ["None", 0.2]\n'
        "hidden = [[64, 64], [8]]\nseeds = 3\n"
        "learning_rate = {low = 1e-4, high = 1e-2, log = true}\nenv_params = {gravity = 9.8}\n"
    )
    assert read_sweep(path, {"seeds"}) == {
        "gamma": (0.9,),
        "clip_eps": (0.1, 0.2),
        "max_grad_norm": (None,),
        "vf_clip_eps": (None, 0.2),
        "hidden": ((64, 64), (8,)),
        "seeds": 3,
        "learning_rate": Range(1e-4, 1e-2, True),
        "env_params": ({"gravity": 9.8},),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gamma = [0.9, 2.0]", "gamma=2.0"),
        ("gama = 0.9", "did you mean gamma"),
        ("gamma = ", "readable TOML"),
        ("seeds = 3", "seeds=3"),
        ("gamma = {low = 1, high = 0.5}", "lower one first"),
        ("gamma = {low = 0.5}", "a range {low"),
        ("gamma = {lo = 0.5, high = 0.9}", "a range {low"),
        ('gamma = {low = 0.5, high = 0.9, log = "yes"}', "gamma=log='yes'"),
        ('gamma = {low = 0.5, high = "1"}', "finite numbers"),
        ("env = {a = 1}", "name of an environment"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(text, words, tmp_path):
    """The file and the key."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(jaxppo.ConfigError, match=words) as error:
        read_sweep(path)
    assert "bad.toml" in str(error.value)

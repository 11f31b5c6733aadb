"""Presets are valid configs, and what is written on top of them wins."""

import jax
import pytest

import jaxppo
from jaxppo.presets import BY_METHOD, METHODS, PRESETS
from jaxppo.settings import to_settings


@pytest.mark.parametrize("env", PRESETS)
def test_every_preset_is_a_config_that_initialises(env):
    """Each setting of the preset is in the config."""
    config = jaxppo.preset(env)
    settings = to_settings(config)
    assert {name: settings[name] for name in PRESETS[env]} == PRESETS[env]
    jax.eval_shape(lambda: jaxppo.init(config, jax.random.key(0)))


def test_settings_win_over_the_preset():
    """And an environment without a preset gets the defaults."""
    assert jaxppo.preset("Pendulum-v1", gamma=0.5).gamma == 0.5
    assert jaxppo.preset("brax/inverted_pendulum") == jaxppo.Config(env="brax/inverted_pendulum")
    with pytest.raises(jaxppo.ConfigError, match=r"gama=0\.5"):
        jaxppo.preset("Pendulum-v1", gama=0.5)


@pytest.mark.parametrize("env", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_valid_config_on_every_environment(env, method):
    """The method's settings win over the environment's, of which those remain that have a meaning."""
    settings = to_settings(jaxppo.preset(env, method))
    expected = {**METHODS[method], **BY_METHOD.get((env, method), {})}
    assert {name: settings[name] for name in expected} == expected
    for name in PRESETS[env]:
        assert name in settings or method == "trpo"


def test_the_method_follows_from_what_is_asked_for():
    """An objective or a learner among the settings picks the preset of that method."""
    assert jaxppo.preset("CartPole-v1", learner="trust-region") == jaxppo.preset("CartPole-v1", "trpo")
    assert jaxppo.preset("CartPole-v1", objective="fixed-kl") == jaxppo.preset("CartPole-v1", "fixed-kl")
    assert jaxppo.preset("Pendulum-v1") == jaxppo.preset("Pendulum-v1", "clip")
    assert jaxppo.preset("Pendulum-v1", "none") == jaxppo.Config(env="Pendulum-v1")
    with pytest.raises(jaxppo.ConfigError, match="preset=ppo3: must be auto, none, clip"):
        jaxppo.preset("CartPole-v1", "ppo3")
    with pytest.raises(jaxppo.ConfigError, match=r"clip_eps=0\.1: must be left out, or chosen with objective clip"):
        jaxppo.preset("CartPole-v1", "trpo", clip_eps=0.1)

"""Presets are valid configs, and what is written on top of them wins."""

import jax
import pytest

import jaxppo
from jaxppo.presets import PRESETS
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
    assert jaxppo.preset("MountainCar-v0") == jaxppo.Config(env="MountainCar-v0")
    with pytest.raises(jaxppo.ConfigError, match=r"gama=0\.5"):
        jaxppo.preset("Pendulum-v1", gama=0.5)

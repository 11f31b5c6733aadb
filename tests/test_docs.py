"""The code in the documentation runs."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxppo

ROOT = Path(__file__).parent.parent


def blocks(name):
    """The Python blocks of a Markdown file."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def test_an_objective_of_ones_own_as_documented():
    """It trains, and its own metric is kept."""
    names = {}
    (code,) = blocks("docs/methods.md")
    exec(code, names)
    config = jaxppo.Config(total_timesteps=1024, learner=names["config"].learner)
    metrics = jaxppo.train(config, jax.random.key(0)).metrics
    assert np.all(metrics.extra["distance"] > 0)


@pytest.mark.parametrize("name", ["docs/environments.md", "docs/networks.md"])
def test_examples(name):
    """The blocks of a page run one after the other."""
    names = {}
    for code in blocks(name):
        exec(code, names)
    if "many" in names:
        assert names["many"].metrics.value_loss.shape == (4, 8)
        assert np.all(np.isfinite(names["one"].metrics.value_loss))
        assert jaxppo.evaluate(names["config"], names["result"].state, jax.random.key(0)).mean() == 1
    else:
        assert names["action"].shape == (2, 1)
        assert np.all(np.isfinite(names["result"].metrics.value_loss))


def test_the_readmes_example():
    """The README's code as it stands, but for the number of steps; test_learning has what 500,000 of them reach."""
    names = {}
    (code,) = blocks("README.md")
    assert code.count("500_000") == 2
    exec(code.replace("500_000", "20_480"), names)
    assert names["returns"].shape == (128,)
    assert names["returns"].mean() > 30
    assert names["seeds"].metrics.episode_return.shape == (8, 40)
    assert names["swept"].metrics.episode_return.shape == (3, 40)


def test_a_sweep_as_documented():
    """A score for each agent."""
    names = {}
    (code,) = blocks("docs/sweeps.md")
    exec(code, names)
    assert list(names["table"]["learning_rate"]) == [1e-3, 1e-3, 3e-3, 3e-3]
    assert names["table"]["score"].between(-1, 1).all()

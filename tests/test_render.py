"""Moving pictures of a trained policy."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

import jaxppo
from jaxppo.envs.gymnax import CLASSIC, PLAIN
from jaxppo.render import play_episode, render

KEY = jax.random.key(0)


def fresh(env, **options):
    """A config with a small network, and an untrained policy."""
    config = jaxppo.Config(env=env, network=jaxppo.MLP(hidden=(4,)), **options)
    return config, jaxppo.init(config, KEY).policy


def test_an_episode():
    """States follow from one another to the end of the episode, and the return is the sum of the rewards so far."""
    episode = play_episode(*fresh("CartPole-v1"), KEY, max_steps=500)
    length = len(episode.states) - 1
    assert 5 < length < 200
    assert [int(state.time) for state in episode.states] == list(range(length + 1))
    assert episode.returns == list(range(length + 1))
    last = episode.states[-1]
    assert abs(last.x) > 2.4 or abs(last.theta) > 12 * 2 * np.pi / 360
    assert len(play_episode(*fresh("CartPole-v1"), KEY, max_steps=4).states) == 5


@pytest.mark.parametrize("name", sorted(PLAIN | CLASSIC))
def test_pictures_move(name, tmp_path):
    """A frame for every state, not all alike, and with something on it: for every environment that can be drawn."""
    path = tmp_path / "episode.gif"
    options = {"frame_stack": 2} if name == "Catch-bsuite" else {}
    config, policy = fresh(name, **options)
    episode = render(config, policy, KEY, path, greedy=False, max_steps=6)
    with Image.open(path) as picture:
        frames = []
        for i in range(picture.n_frames):
            picture.seek(i)
            frames.append(np.asarray(picture.convert("RGB"), np.int16))
    assert len(frames) == len(episode.states)
    field = [frame[80:] for frame in frames]  # below the title, which counts steps
    assert any(np.any(field[0] != frame) for frame in field[1:])
    assert all(len(np.unique(frame.reshape(-1, 3), axis=0)) > 2 for frame in field)
    assert [each.name for each in tmp_path.iterdir()] == ["episode.gif"]


@pytest.mark.parametrize(
    ("env", "path", "words"),
    [
        ("FrozenLake-misc", "a.gif", "env=FrozenLake-misc: must be an environment that can be drawn"),
        ("Catch-bsuite", "a.mp4", "out=.*must be a file that ends in .gif"),
        ("Catch-bsuite", "nowhere/a.gif", "out=.*in a directory that exists"),
    ],
)
def test_what_cannot_be_drawn(env, path, words, tmp_path):
    """An environment that gymnax can't draw, another format, or no place to write to."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        render(*fresh(env), KEY, tmp_path / path, greedy=True, max_steps=4)


def test_a_failure_leaves_nothing_behind(tmp_path):
    """Where drawing fails, no half-written file stays."""

    def fail(states, returns, params, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    config, policy = fresh("Catch-bsuite")
    config = dataclasses.replace(config, env=dataclasses.replace(config.make_env(), draw=fail))
    with pytest.raises(jaxppo.ConfigError, match="No space left"):
        render(config, policy, KEY, tmp_path / "a.gif", greedy=True, max_steps=4)
    assert not list(tmp_path.iterdir())

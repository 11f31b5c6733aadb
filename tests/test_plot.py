"""Pictures: what is drawn, and the running mean."""

import numpy as np
import pytest
from matplotlib import image

from jaxppo.plot import smooth, write_curves


@pytest.mark.parametrize("window", [1, 3, 10])
def test_smooth_is_the_mean_of_the_last_values(window):
    """Against a loop; at the start there are fewer values to average."""
    y = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0])
    expected = [np.mean(y[max(0, i + 1 - window) : i + 1]) for i in range(len(y))]
    np.testing.assert_allclose(smooth(y, window), expected, rtol=1e-12)


def test_updates_without_a_value_are_left_out(tmp_path):
    """A run whose returns are all missing, or nearly, still gives a picture."""
    metrics = {"env_steps": [1, 2, 3], "wall_time": [0.1, 0.2, 0.3], "episode_return": [float("nan")] * 3}
    write_curves(tmp_path / "a.png", {"run": metrics})
    write_curves(tmp_path / "b.png", {"run": {**metrics, "episode_return": [float("nan"), 1.0, 2.0]}})
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert (tmp_path / "b.png").stat().st_size > (tmp_path / "a.png").stat().st_size


def test_a_single_value_is_a_point(tmp_path):
    """A line through one point would not be seen."""
    metrics = {
        "env_steps": [1, 2, 3],
        "wall_time": [0.1, 0.2, 0.3],
        "episode_return": [float("nan"), 5.0, float("nan")],
    }
    write_curves(tmp_path / "none.png", {"run": {**metrics, "episode_return": [float("nan")] * 3}})
    write_curves(tmp_path / "one.png", {"run": metrics})
    blue = np.array([0x00, 0x72, 0xB2]) / 255
    drawn = [
        (np.abs(image.imread(tmp_path / f"{name}.png")[..., :3] - blue).max(axis=-1) < 0.02).sum()
        for name in ("none", "one")
    ]
    assert drawn[0] == 0
    assert drawn[1] > 20

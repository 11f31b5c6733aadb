"""Wall time against the number of agents at once: points are kept, and told beside one agent after the other."""

import json
import signal
from contextlib import nullcontext

import jax
import pytest

import jaxppo
from jaxppo.cache import without_kept_programs
from jaxppo.cli import main
from jaxppo.figures import save
from jaxppo.progress import Silent
from jaxppo.reproduce import prepare, scaling
from jaxppo.reproduce.points import Point, add_point, open_points, read_points
from jaxppo.reproduce.scaling_report import draw, markdown, speed_up
from jaxppo.results import read_manifest

MEASURED = {"settings": {"env": "CartPole-v1", "total_timesteps": 500_000}, "device": "CPU with 2 cores"}
POINTS = [
    Point(1, 8, 3.5, 2.0, 250_000.0, 2**20, 500.0, 499.0, 501.0),
    Point(2, 4, 3.0, 2.5, 400_000.0, 2**21, 500.0, 499.0, 501.0),
    Point(4, 2, 4.0, 4.0, 500_000.0, 2**22, 499.5, 498.0, 501.0),
]


class Interrupting(Silent):
    """Remembers the steps it is told of, and interrupts after so many chunks."""

    def __init__(self, chunks=None):
        self.steps, self.chunks = [], chunks

    def advance(self, steps, rate, metrics):
        self.steps.append(steps)
        if len(self.steps) == self.chunks:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def _kept_programs(monkeypatch):
    """Here it does not matter how long compilation takes."""
    monkeypatch.setattr(scaling, "without_kept_programs", nullcontext)


def small(agents):
    """Five updates of a small network."""
    config = jaxppo.Config(num_envs=4, num_steps=32, total_timesteps=5 * 128, network=jaxppo.MLP(hidden=(8,)))
    return scaling.Scaling(config, agents)


def test_an_interrupt_after_the_last_update_stops_nothing(tmp_path, monkeypatch):
    """All is measured then."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)  # an update in each chunk
    last = Interrupting(chunks=8 * 5)
    assert small([1]).train(tmp_path / "scaling", overwrite=False, progress=last)
    assert len(last.steps) == 8 * 5
    assert read_manifest(tmp_path / "scaling")["status"] == "finished"


def test_the_settings_are_purejaxrls():
    """4 environments × 128 steps, 4 epochs of 4 minibatches, an annealed step size; and powers of two of agents."""
    experiment = prepare("scaling", agents=100)
    config, learner = experiment.config, experiment.config.learner
    assert (config.env, config.total_timesteps, config.num_envs, config.num_steps) == ("CartPole-v1", 500_000, 4, 128)
    assert (learner.num_epochs, learner.num_minibatches, learner.learning_rate) == (4, 4, 2.5e-4)
    assert learner.anneal_lr
    assert config.network == jaxppo.MLP(hidden=(64, 64), activation="tanh")
    assert experiment.agents == [1, 2, 4, 8, 16, 32, 64]
    assert experiment.steps() == (4 * 8 + 16 + 32 + 64) * 976 * 512
    assert [prepare("scaling", agents=most).agents[-1] for most in (1, 2, 3, 4)] == [1, 2, 2, 4]


def test_points_are_kept_and_not_measured_again(tmp_path):
    """A stopped one goes on with the next point, and a finished one with more agents; learning is the same at all."""
    path = tmp_path / "scaling"
    stopping = Interrupting(chunks=18)  # in the second point, unless a chunk is slow
    assert not small([1, 2]).train(path, overwrite=False, progress=stopping)
    stopped = read_points(path)
    assert len(stopped) <= 1
    assert read_manifest(path)["status"] == "interrupted"
    rest = Interrupting()
    assert small([1, 2]).train(path, overwrite=False, progress=rest)
    one, two = read_points(path)
    assert stopped in ([], [one])
    assert rest.steps[-1] == small([1, 2]).steps() == 16 * 640
    assert (one.agents, one.runs, two.agents, two.runs) == (1, 8, 2, 4)
    assert two.steps_per_second == pytest.approx(2 * 640 / two.seconds)
    assert one.compile_seconds > 0
    assert two.peak_bytes > one.peak_bytes > 0
    assert one.worst < one.episode_return < one.best
    assert two[-3:] == pytest.approx(one[-3:], rel=0.2)  # the same eight seeds, up to rounding

    again = Interrupting()
    assert small([1, 2]).train(path, overwrite=False, progress=again)
    assert again.steps == []
    manifest = read_manifest(path)
    assert (manifest["status"], len(manifest["earlier"])) == ("finished", 2)
    printed = small([1, 2]).present(path)
    assert (path / "scaling.md").read_text() in printed
    assert (path / "scaling.png").stat().st_size > 10_000
    assert (path / "scaling.svg").is_file()


def test_other_points_are_refused_the_directory(tmp_path):
    """Those of other settings or another device, unless they are to replace it; and never what isn't ours."""
    open_points(tmp_path / "a", MEASURED, overwrite=False)
    add_point(tmp_path / "a", POINTS[1])
    add_point(tmp_path / "a", POINTS[0])
    assert read_points(tmp_path / "a") == POINTS[:2]
    other = {**MEASURED, "device": "a GPU"}
    with pytest.raises(jaxppo.ConfigError, match=r"out=.*: must be .* the very same settings and device"):
        open_points(tmp_path / "a", other, overwrite=False)
    open_points(tmp_path / "a", other, overwrite=True)
    assert read_points(tmp_path / "a") == []
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "manifest.json").write_text(json.dumps({"agents": "of a sweep"}))
    with pytest.raises(jaxppo.ConfigError, match=r"out=.*: must be a new directory"):
        open_points(tmp_path / "b", MEASURED, overwrite=True)


def test_more_agents_than_fit_in_memory_are_left_out(tmp_path, monkeypatch):
    """And it is an error if not even one does."""
    monkeypatch.setattr(scaling, "free_bytes", lambda: 0)
    assert small([1, 2]).train(tmp_path, overwrite=False, progress=Silent())
    with pytest.raises(jaxppo.ConfigError, match="fits in memory"):
        small([1, 2]).present(tmp_path)


def test_points_are_told_beside_one_agent_after_the_other(tmp_path):
    """By hand: two agents take 2.5 s and not 4, four take 4 and not 8; times are in the table with their units."""
    assert speed_up(POINTS) == [1.0, 1.6, 2.0]
    text = markdown(POINTS, MEASURED)
    assert text.startswith("PPO on CartPole-v1, 500k steps each, CPU with 2 cores.")
    assert "| 2 | 4 | 3.00 | 2.50 | 400,000 | 1.60 × | 2.0 | 500 (499 … 501) |" in text
    assert "Here 4 agents take 2 times as long as one. PureJaxRL reports" in text
    assert "Here" not in markdown(POINTS[:1], MEASURED)
    figure = draw(POINTS, MEASURED)
    for axis, ideal, measured in zip(
        figure.axes, ([2, 4, 8], [250_000] * 3), ([2, 2.5, 4], [250_000, 400_000, 500_000]), strict=True
    ):
        lines = {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}
        assert lines == {"one after the other": ideal, "at once": measured}
        assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    save(figure, tmp_path / "figure")
    assert (tmp_path / "figure.png").is_file()


def test_an_interrupt_exits_130(tmp_path, monkeypatch, capsys):
    """And says how to go on."""
    monkeypatch.setattr("jaxppo.cli.reproduce.Lines", lambda console, steps: Interrupting(chunks=1))
    monkeypatch.setattr("jaxppo.cli.reproduce.prepare", lambda name, **options: small([1]))
    assert main(["reproduce", "scaling", "--quick", "--out", str(tmp_path / "out")]) == 130
    assert "launch it again to go on" in capsys.readouterr().out


def test_programs_are_compiled_anew_to_tell_how_long_it_takes():
    """Whatever is kept, and kept programs are used again afterwards."""
    with without_kept_programs():
        assert not jax.config.jax_enable_compilation_cache
    assert jax.config.jax_enable_compilation_cache

"""The report of a sweep: figures of every size of sweep, and a page that stands alone."""

import html.parser
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sweep_tables import LEVELS, diverge, make, population, write

from jaxppo.cli import main
from jaxppo.figures import draw_all, learning_curves, sensitivity
from jaxppo.scoring import score_table
from jaxppo.stats import iqm, on_grid


class Page(html.parser.HTMLParser):
    """What a page refers to, its tags and its text."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Note the tag and what it loads."""
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        """Note the text."""
        self.text += data


def report(results, path):
    """Write the sweep, report on it, and read the page."""
    write(results, path)
    assert main(["report", str(path)]) == 0
    return Page((path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sweep():
    """Two environments, six settings, three seeds."""
    grid = {"learning_rate": [1e-4, 3e-4, 1e-3], "objective": ["clip", "adaptive-kl"]}
    return make(["CartPole-v1", "Pendulum-v1"], grid, updates=30)


@pytest.fixture(scope="module")
def directory(sweep, tmp_path_factory):
    """The directory of this sweep and the page about it."""
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    return path, report(sweep, path)


def test_the_page_needs_no_other_file(directory):
    """Its pictures are in it, and it runs nothing; what the manifest says is text, not markup."""
    page = directory[1]
    assert page.sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert not {"script", "link", "all"} & set(page.tags)
    assert "jaxppo sweep --env <all> & more" in page.text
    assert "0123456789abcdef" in page.text


def test_files_beside_the_page(directory, sweep):
    """Each figure twice, the summary as a table, and a file for each environment."""
    path = directory[0]
    names = {
        "curves_steps",
        "curves_time",
        "aggregates",
        "profiles",
        "sensitivity_learning_rate",
        "sensitivity_objective",
    }
    assert {file.name for file in (path / "figures").iterdir()} == {f"{n}.{s}" for n in names for s in ("png", "svg")}
    assert len(directory[1].sources) == len(names)
    summary = pd.read_csv(path / "summary.csv")
    means = score_table(sweep).groupby("setting")["score"].mean()
    np.testing.assert_allclose(summary["mean"], means[summary["setting"]], rtol=1e-9)
    assert set(summary["objective"]) == {"clip", "adaptive-kl"}
    for env in ("CartPole-v1", "Pendulum-v1"):
        assert (path / f"best_{env}.toml").read_text(encoding="utf-8") in directory[1].text


def test_a_sweep_of_one_agent_has_a_report(tmp_path):
    """No aggregates, no sensitivity, and no intervals."""
    page = report(make(seeds=1, updates=30), tmp_path / "one")
    assert len(page.sources) == 2
    assert "Over all environments" not in page.text
    assert "Single seeds" in page.text


def test_many_settings_are_folded(tmp_path):
    """Of 24 settings the table shows 20; the curves the best 6, which they say."""
    page = report(make(grid={"gamma": np.linspace(0.9, 0.99, 24).tolist()}, seeds=1, updates=20), tmp_path / "many")
    assert "4 more" in page.text
    assert "the best 6 of 24 settings" in page.text


def test_an_environment_that_was_not_learned_is_left_out(tmp_path):
    """Where no setting is better than random there is no scale; the page says so."""
    results = make(["CartPole-v1", "Pendulum-v1"], updates=10, seeds=2)
    env = results.metrics["agent"].map(results.agents.set_index("agent")["env"])
    flat = results.metrics["episode_return"].where(env != "Pendulum-v1", -7.0)
    page = report(results._replace(metrics=results.metrics.assign(episode_return=flat)), tmp_path / "flat")
    assert "since no setting is better than random: Pendulum-v1" in page.text


def test_diverged_agents_have_a_column(tmp_path, directory):
    """Only where there are any; the setting that lost one is not the best."""
    assert "seedsmean score" in directory[1].text
    page = report(diverge(make(grid={"gamma": [0.9, 0.99]}, updates=20), [0]), tmp_path / "diverged")
    assert "diverged1 agents" in page.text
    captions = [drawn.caption for drawn in draw_all(diverge(make(grid={"gamma": [0.9, 0.99]}), [0, 4])).values()]
    assert len(captions) >= 4
    assert all(caption.endswith("; without 2 agents that diverged.") for caption in captions)
    assert not any("diverged" in drawn.caption for drawn in draw_all(make(grid={"gamma": [0.9, 0.99]})).values())
    assert "seedsdivergedmean score" in page.text
    assert "gamma = 0.99" in page.text


def test_a_population_has_a_report_of_its_own(tmp_path, directory):
    """No figure of what changed on the way, and a word on agents that share ancestors."""
    results = population(make(grid={"learning_rate": [1e-4, 3e-4], "gamma": [0.9, 0.99]}, updates=20))
    page = report(results, tmp_path / "population")
    assert {file.stem for file in (tmp_path / "population" / "figures").glob("sensitivity*.svg")} == {
        "sensitivity_gamma"
    }
    assert "go on from the same ancestors and are not independent" in page.text
    assert "ancestors" not in directory[1].text


def test_a_locale_without_unicode_changes_nothing(tmp_path):
    """Pages and files are UTF-8 wherever they are written."""
    write(make(seeds=2, updates=20), tmp_path / "sweep")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "jaxppo", "report", str(tmp_path / "sweep")]
    subprocess.run(command, env=os.environ | ascii_only, check=True)
    assert "worst … best seed" in (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")


def test_reports_that_cannot_be_written(tmp_path, capsys):
    """One line and exit code 2: nothing there, nothing trained, a page of another kind."""
    assert main(["report", str(tmp_path / "none")]) == 2
    results = make(updates=5)
    write(results, tmp_path / "empty")
    (tmp_path / "empty" / "metrics" / "00000.parquet").unlink()
    assert main(["report", str(tmp_path / "empty")]) == 2
    write(results, tmp_path / "sweep")
    assert main(["report", str(tmp_path / "sweep"), "--out", str(tmp_path / "a.pdf")]) == 2
    (tmp_path / "file").touch()
    assert main(["report", str(tmp_path / "sweep"), "--out", str(tmp_path / "file" / "a.html")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("jaxppo report: ") for line in lines)


def test_lines_are_means_over_seeds_on_a_common_grid(sweep):
    """The drawn points against the tables, also with interquartile means; a line ends where its first seed does."""
    agents = sweep.agents[(sweep.agents["setting"] == 0)]["agent"]
    cut = sweep.metrics[(sweep.metrics["agent"] != agents.iloc[0]) | (sweep.metrics["update"] <= 15)]
    cut = cut.assign(episode_return=cut["episode_return"].fillna(0.0))
    curves = []
    grid = np.linspace(0, cut["env_steps"].max(), 31)
    for agent in agents:
        rows = cut[cut["agent"] == agent]
        curves.append(on_grid(rows["env_steps"].to_numpy(), rows["episode_return"].to_numpy(), grid))
    for centre, expected in ((None, np.mean(curves, axis=0)), (iqm, iqm([np.stack(curves)[:, :15].T]))):
        drawn = learning_curves(sweep._replace(metrics=cut), **({"centre": centre} if centre else {}))
        line = drawn.figure.axes[0].get_lines()[0]
        assert line.get_label() == "objective=clip, learning_rate=0.0001"
        np.testing.assert_allclose(line.get_ydata(), expected[:15], rtol=1e-12)
        np.testing.assert_allclose(line.get_xdata(), (np.arange(15) + 0.5) * 1024)


def test_seeds_that_share_no_stretch_have_no_line():
    """Logged in turns, two seeds meet in each stretch; in the two halves of training, in none."""
    results = make(grid={"gamma": [0.9, 0.99]}, seeds=2, updates=40)
    odd = results.metrics["agent"] % 2 == results.metrics["update"] % 2
    figure = learning_curves(results._replace(metrics=results.metrics[odd].assign(episode_return=1.0))).figure
    assert len(figure.axes[0].get_lines()) == 2
    half = (results.metrics["agent"] % 2 == 0) == (results.metrics["update"] <= 20)
    figure = learning_curves(results._replace(metrics=results.metrics[half].assign(episode_return=1.0))).figure
    assert len(figure.axes[0].get_lines()) == 0
    assert figure.legends == []


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ({"learning_rate": [1e-4, 3e-4, 1e-3]}, "log", ["0.0001", "0.0003", "0.001"]),
        ({"num_epochs": [2, 4, 8]}, "linear", ["2", "4", "8"]),
        ({"vf_clip_eps": [0.2, None]}, "linear", ["0.2", "none"]),
        ({"anneal_lr": [True, False]}, "linear", ["False", "True"]),
        ({"hidden": [(64, 64), (256, 256, 256), (512, 512, 512)]}, "linear", ["256 256 256", "512 512 512", "64 64"]),
    ],
)
def test_axes_of_sensitivity(values, scale, ticks):
    """Logarithmic over a decade or more, otherwise a place for each value."""
    ((field, _),) = values.items()
    axis = sensitivity(make(grid=values, updates=10), field).figure.axes[0]
    assert axis.get_xscale() == scale
    assert [text.get_text() for text in axis.get_xticklabels()] == ticks


def test_close_numbers_on_a_logarithmic_axis_are_not_all_written():
    """Two that are nearly the same would be written over each other, so the ticks are at powers of ten."""
    values = [1e-4, 7.44e-3, 7.52e-3]
    axis = sensitivity(make(grid={"learning_rate": values}, updates=30), "learning_rate").figure.axes[0]
    assert axis.get_xscale() == "log"
    assert set(axis.get_xticks()) >= {1e-4, 1e-3, 1e-2}
    assert 7.44e-3 not in axis.get_xticks()


def test_many_numbers_have_a_linear_axis():
    """At their values, not at places of equal width."""
    gammas = np.linspace(0.9, 0.99, 12) ** 2
    axis = sensitivity(make(grid={"gamma": gammas.tolist()}, updates=30, seeds=1), "gamma").figure.axes[0]
    np.testing.assert_allclose(np.unique(axis.get_lines()[0].get_xdata()), gammas)


@pytest.mark.slow
def test_no_text_of_a_large_sweep_is_cut_off():
    """Twelve environments and twelve settings: everything lies within the picture, and panels don't overlap."""
    results = make(list(LEVELS), {"learning_rate": [1e-4, 3e-4, 1e-3], "num_epochs": [4, 10], "shuffle": [True, False]})
    for figure, _ in draw_all(results).values():
        figure.draw_without_rendering()  # lays it out
        tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert tight.x0 >= 0
        assert tight.y0 >= 0
        assert tight.x1 <= width
        assert tight.y1 <= height
        boxes = [axis.get_tightbbox() for axis in figure.axes]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

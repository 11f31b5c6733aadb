"""A run that is stopped goes on where it was, as if it never had been; what is no such run is refused."""

import json
from functools import partial

import numpy as np
import pytest
from flax import serialization
from recorder import Recorder

import jaxppo
from jaxppo.checkpoint import UNFINISHED
from jaxppo.cli import main
from jaxppo.directories import filling
from jaxppo.results import begun, load_run, open_run, read_metrics
from jaxppo.run import train_run

UPDATES = 6


def config(**changes):
    """A small one, with everything that a state can hold."""
    small = {
        "num_envs": 2,
        "num_steps": 16,
        "total_timesteps": UPDATES * 32,
        "network": jaxppo.MLP(hidden=(8,), memory="gru", memory_size=4),
        "learner": jaxppo.SGD(objective=jaxppo.AdaptiveKL(), num_epochs=2, num_minibatches=2),
        "normalize_obs": True,
        "normalize_reward": True,
    }
    return jaxppo.Config(env="CartPole-v1", **{**small, **changes})


def train(path, chunks=None, **kwargs):
    """Launch the run, stopped after so many updates."""
    interval = kwargs.get("log_interval", 1)
    open_run(path, config(), 3, interval)
    progress = Recorder(chunks)
    return train_run(config(), 3, path, progress, eval_episodes=2, **kwargs), progress


def curves(path):
    """The metrics without their times, NaN as text."""
    return {name: list(map(str, values)) for name, values in read_metrics(path).items() if name != "wall_time"}


@pytest.fixture(scope="module", autouse=True)
def _an_update_in_each_chunk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped, and another that only logs every other update."""
    paths = [tmp_path_factory.mktemp("runs") / name for name in ("every", "other")]
    for path, interval in zip(paths, (1, 2), strict=True):
        assert train(path, log_interval=interval)[0].status == "finished"
    return paths


@pytest.mark.parametrize("interval", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(whole, tmp_path, interval):
    """Stopped twice; its curve and its policy are those of a run that was not."""
    path = tmp_path / "run"
    for chunks, done in ((2, 2), (1, 3)):
        outcome, progress = train(path, chunks, log_interval=interval)
        assert (outcome.status, outcome.num_updates) == ("interrupted", done)
        assert len(progress.steps) == chunks
        assert load_run(path).manifest["num_updates"] == done
    outcome, progress = train(path, log_interval=interval)
    assert (outcome.status, outcome.num_updates) == ("finished", UPDATES)
    assert progress.steps == [32 * update for update in range(4, UPDATES + 1)]
    reference = whole[interval - 1]
    assert curves(path) == curves(reference)
    assert (path / "policy.msgpack").read_bytes() == (reference / "policy.msgpack").read_bytes()
    assert np.all(np.diff(read_metrics(path)["wall_time"]) > 0)
    assert not (path / UNFINISHED).exists()
    manifest = load_run(path).manifest
    assert manifest["status"] == "finished"
    assert len(manifest["earlier"]) == 2
    assert manifest["evaluation"] == load_run(reference).manifest["evaluation"]


def test_what_was_written_after_the_checkpoint_is_written_again(whole, tmp_path):
    """A run killed after its last checkpoint, in the middle of a line, or before its first."""
    path = tmp_path / "run"
    train(path, 2)
    lines = (whole[0] / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text("".join(lines[:4]) + lines[4][:20])
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    assert train(path)[0].status == "finished"
    assert curves(path) == curves(whole[0])
    early = tmp_path / "early"
    open_run(early, config(), 3)
    (early / "metrics.jsonl").write_text("".join(lines[:1]))
    assert train(early)[0].status == "finished"
    assert curves(early) == curves(whole[0])


def test_another_run_is_refused_the_directory(whole, tmp_path):
    """Of another seed, config or interval, or one that is over; nothing is touched."""
    path = tmp_path / "run"
    train(path, 1)
    before = {file: file.read_bytes() for file in path.iterdir()}
    for changes in ({"seed": 4}, {"config": config(gamma=0.9)}, {"log_interval": 2}):
        with pytest.raises(jaxppo.ConfigError, match=r"the very same run to go on with; or add --overwrite"):
            open_run(path, **{"config": config(), "seed": 3, **changes})
    assert {file: file.read_bytes() for file in path.iterdir()} == before
    with pytest.raises(jaxppo.ConfigError, match=r"the run in this one is over; or add --overwrite"):
        open_run(whole[0], config(), 3)
    (path / UNFINISHED).write_bytes(b"\x81")
    with pytest.raises(jaxppo.ConfigError, match=r"unfinished\.msgpack: must be a readable checkpoint"):
        train(path)


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    """One that lacks a metric, by its name; the run stays as it was, its streams too."""
    path = tmp_path / "run"
    train(path, 2, loggers=("tensorboard",))
    content = serialization.msgpack_restore((path / UNFINISHED).read_bytes())
    del content["metrics"]["ratio_max"]
    (path / UNFINISHED).write_bytes(serialization.msgpack_serialize(content))
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(jaxppo.ConfigError, match="one without ratio_max: must be of the version"):
        launch(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    (path / UNFINISHED).write_bytes(b"")
    before[path / UNFINISHED] = b""
    with pytest.raises(jaxppo.ConfigError, match="readable checkpoint"):
        launch(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def launch(path):
    """As the command line does it."""
    with filling(path, partial(open_run, path, config(), 3), begun):
        train_run(config(), 3, path, Recorder(), eval_episodes=2, loggers=("tensorboard",))


@pytest.mark.parametrize("manifest", ["3", '"config"', "[]", "{}", "{"])
def test_a_damaged_manifest_is_refused(manifest, tmp_path):
    """Whatever JSON it is."""
    path = tmp_path / "run"
    path.mkdir()
    (path / "manifest.json").write_text(manifest)
    for overwrite in (False, True):
        with pytest.raises(jaxppo.ConfigError, match="must be a new directory, or that of a run of jaxppo's"):
            open_run(path, config(), 3, overwrite=overwrite)
    assert (path / "manifest.json").read_text() == manifest


def test_checkpoints_come_while_it_trains(tmp_path, monkeypatch):
    """Not only when it is stopped: a killed run loses no more than the time between two of them."""
    monkeypatch.setattr("jaxppo.run.CHECKPOINT_SECONDS", 0.0)
    written = []
    monkeypatch.setattr("jaxppo.run.write_checkpoint", lambda path, agents, training, _: written.append(training.done))
    assert train(tmp_path / "run")[0].status == "finished"
    assert written == list(range(1, UPDATES + 1))


def test_a_run_is_stopped_and_goes_on_from_the_command_line(tmp_path, monkeypatch, capsys):
    """The same command twice; what is printed says how."""
    path = tmp_path / "run"
    flags = ["--total-timesteps", "192", "--num-envs", "2", "--num-steps", "16", "--hidden", "4", "--preset", "none"]
    command = ["train", *flags, "--out", str(path), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr("jaxppo.cli.train.Lines", lambda *_: Recorder(3))
        assert main(command) == 130
    assert f"to go on, launch it again with --out {path} and without --overwrite\n" in capsys.readouterr().out
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "going on after update 3" in printed
    assert "finished after 192 steps" in printed
    assert read_metrics(path)["env_steps"] == [32 * update for update in range(1, UPDATES + 1)]
    assert main(command) == 2
    assert "over" in capsys.readouterr().err

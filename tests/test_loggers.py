"""Loggers: what TensorBoard and Weights & Biases will read is what the tables say, for each agent by itself."""

import json
import math
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import jaxppo
from jaxppo.cli import main
from jaxppo.loggers import chosen, streams
from jaxppo.progress import Silent
from jaxppo.results import read_metrics

UPDATES = 5
BOTH = ("tensorboard", "wandb")


@pytest.fixture(autouse=True, scope="module")
def _offline():
    """No network, and nothing of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.delenv("WANDB_PROJECT", raising=False)
        yield


def read_events(path):
    """The only event file in a directory: points (step, value) by tag, settings by name, and whether it was ended."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    (file,) = path.glob("*tfevents*")
    data, at, points, settings, ended = file.read_bytes(), 0, {}, {}, False
    while at < len(data):  # TFRecords: length, checksum of that, event, checksum of that
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            if value.tag.startswith("_hparams_"):
                content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                ended |= content.HasField("session_end_info")
                for name, setting in content.session_start_info.hparams.items():
                    settings[name] = getattr(setting, setting.WhichOneof("kind"))
            else:
                points.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert at == len(data)
    return points, settings, ended


def read_wandb(path, agent=""):
    """The only run of an agent, once a process of wandb's has written its end: points by name, start, exit code."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = path.glob(f"wandb/offline-run-*/run-*{agent}.wandb")
    for _ in range(500):
        records = [Record.FromString(content) for content in leveldb_records(file.read_bytes())]
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.01)
    (run,) = (record.run for record in records if record.HasField("run"))
    (code,) = (record.exit.exit_code for record in records if record.HasField("exit"))
    points = {}
    for record in records:
        row = {item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() - {"_step", "_runtime", "_timestamp"}:
            points.setdefault(name, []).append((row["_step"], row[name]))
    return points, run, code


def leveldb_records(data):
    """The records of a log in LevelDB's format, after a header of 7 bytes: blocks of 32 KiB, records in parts."""
    record, at = b"", 7
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for another part in this block
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if at + 7 + length > len(data):
            return
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def table_points(rows):
    """The points (step, value) of a table of one agent by name, without what is not finite."""
    return {
        name: [(step, value) for step, value in zip(rows["env_steps"], rows[name], strict=True) if math.isfinite(value)]
        for name in rows
        if name not in ("env_steps", "agent", "update")
    }


def same(points, expected):
    """Whether the points are these, to the precision of a 32-bit float."""
    expected = {name: values for name, values in expected.items() if values}
    assert set(points) == set(expected)
    for name, values in expected.items():
        assert [step for step, _ in points[name]] == [step for step, _ in values], name
        np.testing.assert_allclose([y for _, y in points[name]], [y for _, y in values], rtol=1e-6, err_msg=name)


class Stop(Silent):
    """Interrupts after the third chunk."""

    def __init__(self):
        self.chunks = 0

    def advance(self, steps, rate, metrics):
        self.chunks += 1
        if self.chunks == 3:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """A sweep of two settings × two seeds that was stopped on its way and went on: where, the streams then, results."""
    path = tmp_path_factory.mktemp("sweeps") / "my sweep"
    configs = [
        jaxppo.Config(
            num_envs=2,
            num_steps=8,
            total_timesteps=UPDATES * 16,
            network=jaxppo.MLP(hidden=(4,)),
            learner=jaxppo.SGD(learning_rate=rate, num_epochs=1),
        )
        for rate in (1e-3, 3e-3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)  # an update in each chunk
        stopped = jaxppo.sweep(configs, [7, 8], path, loggers=BOTH, progress=Stop())
        assert stopped.manifest["status"] == "interrupted"
        streams = [
            (read_events(path / "tensorboard" / f"agent_{agent:05}"), read_wandb(path, f"agent_{agent:05}"))
            for agent in range(4)
        ]
        return path, streams, jaxppo.sweep(configs, [7, 8], path, loggers=BOTH)


def test_an_interrupt_ends_the_streams_properly(resumed):
    """With the points of three updates, none of them waiting to be written."""
    for (points, _, ended), (theirs, _, code) in resumed[1]:
        assert [step for step, _ in points["entropy"]] == [step for step, _ in theirs["entropy"]] == [16, 32, 48]
        assert ended
        assert code == 0


@pytest.mark.parametrize("agent", range(4))
def test_each_agent_has_each_point_once(resumed, agent):
    """As in the tables, with its own settings; an update in which no episode ended has no return."""
    path, before, results = resumed
    name = f"agent_{agent:05}"
    expected = table_points(results.metrics[results.metrics["agent"] == agent])
    assert 0 < len(expected["episode_return"]) < len(expected["entropy"]) == UPDATES
    points, settings, ended = read_events(path / "tensorboard" / name)
    same(points, expected)
    assert ended
    own = {"seed": [7, 8][agent % 2], "learning_rate": [1e-3, 3e-3][agent // 2], "hidden": "4", "env": "CartPole-v1"}
    assert {key: settings[key] for key in own} == own
    points, run, code = read_wandb(path, name)
    same(points, expected)
    assert code == 0
    assert (run.project, run.run_group, run.display_name) == ("jaxppo", "my sweep", name)
    assert run.run_id == before[agent][1][1].run_id
    said = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert {key: said[key] for key in own} == own
    assert said["kl_limit"] is None


def test_a_run_is_logged_as_its_file_is(tmp_path, monkeypatch):
    """From the command line, with an interval, and a project by the usual variable."""
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setattr("jaxppo.run.evaluate", lambda *_: np.zeros(1))  # only to compile less
    small = ["--total-timesteps", "80", "--num-envs", "2", "--num-steps", "8", "--hidden", "4", "--preset", "none"]
    path = tmp_path / "run"
    flags = ["--logger", *BOTH, "--log-interval", "2", "--seed", "3", "--out", str(path)]
    assert main(["train", *small, *flags]) == 0
    metrics = read_metrics(path)
    assert metrics["env_steps"] == [16, 32, 64, 80]
    points, settings, _ = read_events(path / "tensorboard")
    same(points, table_points(metrics))
    assert settings["seed"] == 3
    points, run, code = read_wandb(path)
    same(points, table_points(metrics))
    assert (run.project, run.run_group, run.display_name, code) == ("mine", "", "run", 0)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_ends_all_streams_and_marks_them(tmp_path, error):
    """What was written before it is kept."""
    agents = {"agent_00000": {"seed": 0}, "agent_00001": {"seed": 1}}
    metrics = {"env_steps": np.array([[8], [8]]), "wall_time": np.ones((2, 1)), "x": np.array([[1.0], [2.0]])}

    def fail():
        with streams(BOTH, tmp_path, agents, 3, 1) as opened:
            opened.log(metrics)
            raise error

    with pytest.raises(error):
        fail()
    for number, agent in enumerate(agents):
        points, settings, ended = read_events(tmp_path / "tensorboard" / agent)
        assert (points["x"], settings["seed"], ended) == ([(8, number + 1)], number, False)
        points, _, code = read_wandb(tmp_path, agent)
        assert (points["x"], code) == ([(8, number + 1)], 1)


@pytest.mark.parametrize("agent", ["", "agent_00000"])
def test_a_stream_begun_anew_replaces_the_earlier_one(tmp_path, agent):
    """Also where it is the only one."""
    runs = []
    for step in (8, 16):
        with streams(BOTH, tmp_path, {agent: {}}, 3, 1) as opened:
            opened.log({"env_steps": np.array([[step]]), "wall_time": np.ones((1, 1)), "x": np.ones((1, 1))})
        points, run, _ = read_wandb(tmp_path, agent)
        assert points["x"] == read_events(tmp_path / "tensorboard" / agent)[0]["x"] == [(step, 1)]
        runs.append(run.run_id)
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["comet"], "logger=comet: must be one of tensorboard, wandb"),
        (["wandb", "wandb"], "logger=wandb: must be given once"),
        (["wandb"], "logger=wandb: must be installed: pip install 'jaxppo[wandb]'"),
        (["tensorboard"], "logger=tensorboard: must be installed: pip install 'jaxppo[tensorboard]'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "sweep"])
def test_bad_loggers_are_refused_in_one_line(command, names, words, tmp_path, monkeypatch, capsys):
    """Exit code 2, before anything is compiled or written."""
    if "installed" in words:
        monkeypatch.setitem(sys.modules, {"tensorboard": "tensorboardX"}.get(names[0], names[0]), None)
    monkeypatch.chdir(tmp_path)
    assert main([command, "--logger", *names]) == 2
    assert capsys.readouterr().err == f"jaxppo {command}: {words}\n"
    assert not list(tmp_path.iterdir())


def test_streams_need_a_directory():
    """Which a sweep that keeps no files has not."""
    with pytest.raises(jaxppo.ConfigError, match="out=None: must be a directory, where there are loggers"):
        jaxppo.sweep(jaxppo.Config(), loggers="tensorboard")


def test_a_server_that_cannot_be_reached_is_told_of(tmp_path, monkeypatch):
    """With wandb's own reason."""
    import wandb

    def init(**_):
        raise wandb.errors.UsageError("No API key configured.")

    monkeypatch.setattr(wandb, "init", init)
    words = "logger=wandb: must be reachable, or WANDB_MODE=offline be set; No API key configured."
    with pytest.raises(jaxppo.ConfigError, match=words), streams(("wandb",), tmp_path, {"agent_00000": {}}, 1, 1):
        pass


def test_the_packages_are_imported_when_chosen():
    """The module and the command line do without."""
    code = "import sys, jaxppo.loggers, jaxppo.cli.train; print({'tensorboardX', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert chosen("tensorboard") == ("tensorboard",)

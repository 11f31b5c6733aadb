"""Sweeps: the same agents as single runs make, whatever they are trained beside, and tables that survive a stop."""

import importlib
import json
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from recorder import Recorder
from sweep_tables import make, write

import jaxppo
from jaxppo.best import best_settings
from jaxppo.cli import main
from jaxppo.loop import compile_program
from jaxppo.plan import plan
from jaxppo.progress import Silent
from jaxppo.results import open_run, read_metrics
from jaxppo.run import train_run
from jaxppo.settings import to_cells

UPDATES = 6


def config(learning_rate=1e-3, clip_eps=0.2, **changes):
    """A small one."""
    learner = jaxppo.SGD(learning_rate=learning_rate, objective=jaxppo.Clip(clip_eps=clip_eps), num_epochs=2)
    small = {"num_envs": 4, "num_steps": 32, "total_timesteps": UPDATES * 128, "network": jaxppo.MLP(hidden=(8,))}
    return jaxppo.Config(env="CartPole-v1", learner=learner, **{**small, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two settings × three seeds, an odd share for two devices."""
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    progress = Recorder()
    results = jaxppo.sweep([config(1e-3), config(3e-3)], [5, 1, 9], path, progress=progress)
    return path, results, progress


def same(first, second):
    """Whether two tables of metrics are equal but for the time that it took."""
    return first.drop(columns="wall_time").equals(second.drop(columns="wall_time"))


def test_agents_are_those_of_single_runs(finished, tmp_path):
    """Up to the rounding of products of another shape, for as long as that takes to grow."""
    _, results, _ = finished
    for agent, (rate, seed) in enumerate([(1e-3, 5), (1e-3, 1), (1e-3, 9), (3e-3, 5), (3e-3, 1), (3e-3, 9)]):
        row = results.agents.iloc[agent]
        assert (row["agent"], row["setting"], row["seed"]) == (agent, agent // 3, seed)
        assert row["learning_rate"] == rate
        path = tmp_path / str(agent)
        open_run(path, config(rate), seed)
        train_run(config(rate), seed, path, Silent(), eval_episodes=1)
        run = read_metrics(path)
        ours = results.metrics[results.metrics["agent"] == agent]
        for name in ("episodes", "policy_loss", "value_loss", "entropy", "grad_norm"):
            np.testing.assert_allclose(ours[name].iloc[:2], run[name][:2], rtol=1e-3, atol=1e-4, err_msg=name)


def test_tables_are_complete(finished):
    """A row per agent with every setting, a row per agent and update, all finished."""
    path, results, progress = finished
    assert list(results.agents["status"]) == ["finished"] * 6
    assert set(results.agents["hidden"]) == {"8"}
    assert set(results.agents["env"]) == {"CartPole-v1"}
    assert {"gamma", "clip_eps", "num_envs", "activation", "objective"} <= set(results.agents.columns)
    assert list(results.metrics["update"]) == list(range(1, UPDATES + 1)) * 6
    assert list(results.metrics["env_steps"]) == [128 * update for update in range(1, UPDATES + 1)] * 6
    assert (results.metrics.groupby("agent")["wall_time"].diff().dropna() > 0).all()
    assert progress.steps[-1] == 6 * UPDATES * 128
    assert results.manifest["status"] == "finished"
    raw = pd.concat(pd.read_parquet(file) for file in (path / "metrics").glob("*.parquet"))
    assert len(raw) == len(results.metrics)


def test_a_finished_sweep_is_not_trained_again(finished):
    """Nothing is compiled, and the tables are the same, as is what the manifest says of where they come from."""
    path, results, _ = finished
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    progress = Recorder()
    again = jaxppo.sweep([config(1e-3), config(3e-3)], [5, 1, 9], path, progress=progress)
    assert (progress.notes, progress.steps) == ([], [])
    assert same(again.metrics, results.metrics)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_an_interrupt_after_the_last_update_stops_nothing(tmp_path, monkeypatch):
    """Neither a sweep nor a run is to be launched again."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
    results = jaxppo.sweep(config(), 2, tmp_path / "sweep", progress=Recorder(UPDATES))
    assert results.manifest["status"] == "finished"
    assert list(results.agents["status"]) == ["finished"] * 2
    path = tmp_path / "run"
    open_run(path, config(), 0)
    last = Recorder(UPDATES)
    assert train_run(config(), 0, path, last, eval_episodes=1).status == "finished"
    assert len(last.steps) == UPDATES


@pytest.mark.parametrize(("chunks", "done"), [(2, 0), (UPDATES + 2, 6)])
def test_an_interrupted_sweep_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, chunks, done):
    """Two programs, stopped in the first or the second; launched again, the curves are those without a stop."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)  # an update in each chunk
    configs = [config(1e-3), config(3e-3), config(num_envs=2, total_timesteps=UPDATES * 64)]
    path = tmp_path / "sweep"
    stopped = jaxppo.sweep(configs, [5, 1, 9], path, progress=Recorder(chunks))
    assert stopped.manifest["status"] == "interrupted"
    assert (path / "unfinished.msgpack").exists()
    assert list(stopped.agents["status"]) == ["finished"] * done + ["unfinished"] * (9 - done)
    under_way = stopped.metrics[stopped.metrics["agent"] >= done]
    progress = Recorder()
    resumed = jaxppo.sweep(configs, [5, 1, 9], path, progress=progress)
    assert resumed.manifest["status"] == "finished"
    assert len(progress.steps) == 2 * UPDATES - chunks
    assert same(resumed.metrics[resumed.metrics["agent"] < 6], finished[1].metrics)
    assert set(under_way["update"]) == {1, 2}
    beginning = resumed.metrics[resumed.metrics["agent"].isin(under_way["agent"]) & (resumed.metrics["update"] <= 2)]
    assert same(under_way.reset_index(drop=True), beginning.reset_index(drop=True))
    assert list(resumed.agents["status"]) == ["finished"] * 9
    assert not (path / "unfinished.msgpack").exists()


def test_what_does_not_fit_in_memory_is_split(finished):
    """A budget for two agents and a half: three shares of two, with the same curves while rounding is small."""
    devices = (jax.local_devices()[0],)
    one, three = (compile_program(config(), count, devices).peak_bytes for count in (1, 3))
    assert one < three
    budget = compile_program(config(), 2, tuple(jax.local_devices())).peak_bytes + 1
    progress = Recorder()
    results = jaxppo.sweep([config(1e-3), config(3e-3)], [5, 1, 9], memory_gib=budget / 2**30, progress=progress)
    assert "2 agents at once" in progress.notes[-1]
    assert list(results.agents["status"]) == ["finished"] * 6
    first = [each.groupby("agent").first()["policy_loss"] for each in (results.metrics, finished[1].metrics)]
    np.testing.assert_allclose(first[0], first[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("chunks", [2, UPDATES + 2])
def test_a_split_sweep_goes_on_bit_for_bit(tmp_path, monkeypatch, chunks):
    """Five agents in a program for four: four, and then one with three copies; stopped among the first or after."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
    limit = {"memory_gib": (compile_program(config(), 4, tuple(jax.local_devices())).peak_bytes + 1) / 2**30}
    whole = jaxppo.sweep(config(), 5, **limit)
    path = tmp_path / "sweep"
    stopped = jaxppo.sweep(config(), 5, path, **limit, progress=Recorder(chunks))
    assert (stopped.agents["status"] == "finished").sum() == (4 if chunks > UPDATES else 0)
    progress = Recorder()
    resumed = jaxppo.sweep(config(), 5, path, **limit, progress=progress)
    assert len(progress.notes) == 1  # a program for all that is left
    assert same(resumed.metrics, whole.metrics)


def test_memory_for_not_even_one_agent_is_refused(tmp_path):
    """Before anything is trained, and no directory is left of it."""
    path = tmp_path / "sweep"
    with pytest.raises(jaxppo.ConfigError, match=r"memory_gib=.*must be at least .*, which one agent takes"):
        jaxppo.sweep(config(), 1, path, memory_gib=1e-6)
    assert not path.exists()


@pytest.mark.parametrize("before", ["empty", "link", "stopped", "finished"])
def test_what_was_there_stays_where_a_sweep_is_refused(before, tmp_path):
    """An empty directory, a link to one, a sweep that was killed early with a user's file in it, one to replace."""
    path, real = tmp_path / "sweep", tmp_path / "real"
    if before == "empty":
        path.mkdir()
    elif before == "link":
        real.mkdir()
        path.symlink_to(real)
    else:
        jaxppo.sweep(config(), 1, path)
    if before == "stopped":
        (path / "metrics" / "00000.parquet").unlink()
        (path / "notes.md").write_text("mine")
        (path / "manifest.json").write_text(
            json.dumps({**json.loads((path / "manifest.json").read_text()), "status": "running"})
        )
    files = {file.relative_to(tmp_path) for file in tmp_path.rglob("*")}
    changes = {"overwrite": True} if before == "finished" else {}
    with pytest.raises(jaxppo.ConfigError, match=r"memory_gib=9\.31e-10: must be"):
        jaxppo.sweep(config(3e-3 if before == "finished" else 1e-3), 1, path, memory_gib=1.0001e-9, **changes)
    assert {file.relative_to(tmp_path) for file in tmp_path.rglob("*")} == files
    if before == "finished":
        assert list(jaxppo.load_results(path).agents["status"]) == ["finished"]
        assert jaxppo.load_results(path).agents["learning_rate"][0] == 1e-3


def test_a_lost_table_is_trained_again(tmp_path):
    """And no other is written over; one that can't be read is refused by name, and left."""
    path = tmp_path / "sweep"
    configs = [config(), config(num_envs=2)]
    whole = jaxppo.sweep(configs, 2, path)
    files = sorted((path / "metrics").iterdir())
    kept, content = files[1].read_bytes(), files[0].read_bytes()
    files[0].write_bytes(content[:300])
    with pytest.raises(jaxppo.ConfigError, match=r"00000\.parquet: must be a table that can be read, or no such file"):
        jaxppo.sweep(configs, 2, path)
    files[0].unlink()
    assert list(jaxppo.load_results(path).agents["status"]) == ["unfinished"] * 2 + ["finished"] * 2
    again = jaxppo.sweep(configs, 2, path)
    assert again.manifest["status"] == "finished"
    assert files[1].read_bytes() == kept
    assert same(again.metrics, whole.metrics)


def test_a_copy_of_a_table_is_no_number(tmp_path):
    """A user's own file among the tables is not in the way of the next."""
    path = tmp_path / "sweep"
    jaxppo.sweep([config(), config(num_envs=2)], 1, path)
    first = path / "metrics" / "00000.parquet"
    first.rename(path / "metrics" / "kept.parquet")
    (path / "metrics" / "00001.parquet").unlink()
    assert jaxppo.sweep([config(), config(num_envs=2)], 1, path).manifest["status"] == "finished"
    assert {file.name for file in (path / "metrics").iterdir()} == {"kept.parquet", "00000.parquet"}


def test_interrupted_before_anything_was_trained(tmp_path):
    """What was to be replaced is there again."""

    class Early(Recorder):
        """Interrupts once a program is compiled."""

        def note(self, text):
            signal.raise_signal(signal.SIGINT)

    path = tmp_path / "sweep"
    before = jaxppo.sweep(config(), 1, path)
    jaxppo.sweep(config(3e-3), 1, path, overwrite=True, progress=Early())
    after = jaxppo.load_results(path)
    assert list(after.agents["status"]) == ["finished"]
    assert same(after.metrics, before.metrics)
    assert list(tmp_path.iterdir()) == [path]


def test_labels_tell_settings_apart():
    """Those of one environment; in another the same settings have the same."""
    with pytest.raises(jaxppo.ConfigError, match="labels=a: must be another for each config of an environment"):
        jaxppo.sweep([config(1e-3), config(3e-3)], labels=["a", "a"])
    results = jaxppo.sweep([config(), config(env_params={"gravity": 9.0})], labels=["a", "b"])
    assert list(results.agents["label"]) == ["a", "b"]


def test_numpys_own_flags_are_settings_like_others(tmp_path):
    """As they come from an array of both."""
    configs = [config(normalize_obs=each) for each in np.array([False, True])]
    results = jaxppo.sweep(configs, out=tmp_path / "sweep")
    assert list(results.agents["normalize_obs"]) == [False, True]
    assert best_settings(results)["CartPole-v1"]["normalize_obs"] in (False, True)
    for each in configs:
        assert to_cells(each)["normalize_obs"] is bool(each.normalize_obs)


def test_what_was_trained_stays_where_the_rest_is_refused(tmp_path, monkeypatch):
    """Of a sweep that was stopped and goes on with less memory."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
    path = tmp_path / "sweep"
    jaxppo.sweep([config(), config(num_envs=2)], 1, path, progress=Recorder(UPDATES + 1))
    with pytest.raises(jaxppo.ConfigError, match="memory_gib"):
        jaxppo.sweep([config(), config(num_envs=2, num_steps=64)], 1, tmp_path / "other", memory_gib=1e-6)
    (path / "unfinished.msgpack").unlink()
    with pytest.raises(jaxppo.ConfigError, match="memory_gib"):
        jaxppo.sweep([config(), config(num_envs=2)], 1, path, memory_gib=1e-6)
    assert list(jaxppo.load_results(path).agents["status"]) == ["finished", "unfinished"]


def test_a_directory_is_one_process_at_a_time(tmp_path, monkeypatch):
    """The second is refused, whatever it wants of it, and harms nothing."""
    monkeypatch.setattr("jaxppo.loop.CHUNK_SECONDS", 0.0)
    path, refused = tmp_path / "sweep", []

    class Second(Silent):
        """While it trains, the same sweep is launched in another process."""

        def advance(self, steps, rate, metrics):
            if refused:
                return
            for flags in ([], ["--overwrite"]):
                command = [sys.executable, "-m", "jaxppo", "sweep", "--total-timesteps", "512", "--out", str(path)]
                done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
                refused.append((done.returncode, done.stderr))

    results = jaxppo.sweep(config(), 2, path, progress=Second())
    message = f"jaxppo sweep: out={path}: must be a directory that no other process is working in\n"
    assert refused == [(2, message)] * 2
    assert list(results.agents["status"]) == ["finished"] * 2
    assert not results.metrics.duplicated(["agent", "update"]).any()
    assert same(jaxppo.sweep(config(), 2, path).metrics, results.metrics)


def test_exhausted_memory_halves_the_share(finished, monkeypatch):
    """A device that runs out in the middle, whatever was measured before."""
    import jaxppo.checkpoint as checkpoint

    real, calls = checkpoint.begin, []

    def begin(agents, configs, keys):
        calls.append(len(keys))
        if len(keys) > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return real(agents, configs, keys)

    monkeypatch.setattr(checkpoint, "begin", begin)
    results = jaxppo.sweep([config(1e-3), config(3e-3)], [5, 1, 9])
    assert calls[0] == 6
    assert max(calls[-3:]) <= 2
    assert list(results.agents["status"]) == ["finished"] * 6


def test_groups_are_what_can_share_a_program():
    """Numbers do not split a group; shapes, kinds and None do."""
    configs = [config(1e-3), config(clip_eps=0.1), config(num_steps=16), config(gamma=0.9)]
    planned = plan([*configs, jaxppo.Config(learner=jaxppo.SGD(vf_clip_eps=None)), jaxppo.Config()], 2)
    assert planned.groups == [[0, 1, 2, 3, 6, 7], [4, 5], [8, 9], [10, 11]]
    assert planned.seeds == [0, 1] * 6
    assert planned.settings == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert planned.steps([0, 4]) == 2 * UPDATES * 128


def test_environment_parameters_are_swept():
    """As leaves they share a program; the harder pull ends episodes sooner."""
    configs = [config(env_params={"force_mag": np.float32(force)}) for force in (10.0, 40.0)]
    assert len(plan(configs, 1).groups) == 1
    results = jaxppo.sweep(configs, 4)
    assert list(results.agents["env_params"][::4]) == ['{"force_mag": 10.0}', '{"force_mag": 40.0}']
    lengths = results.metrics.groupby("agent")["episode_length"].mean()
    assert lengths[:4].mean() > lengths[4:].mean()


def test_an_agent_that_diverges_is_marked(tmp_path):
    """And the others are not."""
    results = jaxppo.sweep([config(1e-3), config(1e30, total_timesteps=UPDATES * 128)], 1)
    assert list(results.agents["status"]) == ["finished", "diverged"]


def test_an_agent_that_diverges_late_is_marked(tmp_path):
    """After gradients that were finite."""
    made = make(seeds=2, updates=10)
    late = (made.metrics["agent"] == 1) & (made.metrics["update"] > 5)
    made.metrics.loc[late, "grad_norm"] = np.nan
    write(made, tmp_path / "sweep")
    assert list(jaxppo.load_results(tmp_path / "sweep").agents["status"]) == ["finished", "diverged"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([],), "configs=.*at least one"),
        (([config(), config()],), "configs=number 1: must be different from number 0"),
        (([config(), 3],), "configs=int"),
        ((config(), 0), "seeds=0"),
        ((config(), [1, 1]), "seeds=1: must be given once"),
        ((config(), [2**32]), "seeds=4294967296"),
        ((config(), True), "seeds=True"),
        ((config(np.array([1e-3, 2e-3])),), r"learning_rate=array of shape \(2,\)"),
    ],
)
def test_bad_input_is_refused(arguments, words, tmp_path):
    """Before a directory is made."""
    with pytest.raises(jaxppo.ConfigError, match=words):
        jaxppo.sweep(*arguments, out=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_directory_of_something_else_is_left_alone(finished, tmp_path):
    """Whether that is another sweep or no sweep at all."""
    path = finished[0]
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    configs = [config(1e-3), config(3e-3)]
    for others in ((configs[:1], {}), (configs, {"population": jaxppo.Population()}), (configs, {"log_interval": 2})):
        with pytest.raises(jaxppo.ConfigError, match="one of the very same sweep"):
            jaxppo.sweep(others[0], [5, 1, 9], path, **others[1])
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    for overwrite in (False, True):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(jaxppo.ConfigError, match="out="):
            jaxppo.sweep(config(), 1, tmp_path, overwrite=overwrite)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"
    with pytest.raises(jaxppo.ConfigError, match="the directory of a sweep"):
        jaxppo.load_results(tmp_path)


def test_the_command_line_and_a_file_say_the_same(tmp_path, monkeypatch, capsys):
    """One sweep from flags and one from TOML: equal tables, and what will be done is said before."""
    monkeypatch.chdir(tmp_path)
    small = ["--total-timesteps", "512", "--num-steps", "32", "--hidden", "8", "--num-epochs", "1"]
    flags = ["--learning-rate", "1e-3", "3e-3", "--env", "CartPole-v1", "Catch-bsuite", "--seeds", "2"]
    assert main(["sweep", *small, *flags, "--num-envs", "4", "--num-minibatches", "4", "--out", "flags"]) == 0
    said = capsys.readouterr().out
    assert "2 programs, 8 agents (4 settings × 2 seeds), 4.1k steps" in said
    (tmp_path / "sweep.toml").write_text(
        'env = ["CartPole-v1", "Catch-bsuite"]\nlearning_rate = [1e-3, 3e-3]\nseeds = 2\ntotal_timesteps = 512\n'
        "num_steps = 32\nhidden = [[8]]\nnum_epochs = 1\nnum_envs = 4\nnum_minibatches = 4\n"
    )
    assert main(["sweep", "--config", "sweep.toml", "--out", "file"]) == 0
    ours, theirs = jaxppo.load_results("flags"), jaxppo.load_results("file")
    pd.testing.assert_frame_equal(
        ours.agents.sort_values(["env", "learning_rate", "seed"])
        .drop(columns=["agent", "setting"])
        .reset_index(drop=1),
        theirs.agents.sort_values(["env", "learning_rate", "seed"])
        .drop(columns=["agent", "setting"])
        .reset_index(drop=1),
    )
    manifest = json.loads((tmp_path / "flags" / "manifest.json").read_text())
    assert manifest["status"] == "finished"


@pytest.mark.parametrize(
    ("flags", "file", "meant"),
    [(["--seeds", "7"], "", 7), (["--seeds", "3", "7"], "", [3, 7]), ([], "seeds = 7", 7), ([], "seeds = [7]", [7])],
)
def test_one_number_of_seeds_is_how_many_and_a_list_is_which(flags, file, meant, tmp_path, monkeypatch):
    """A list of one can be told from a number in a file only."""
    (tmp_path / "sweep.toml").write_text(file)
    given = []

    def refuse(configs, seeds, *args, **options):
        given.append(seeds)
        raise jaxppo.ConfigError("out", "nowhere", "somewhere")

    monkeypatch.setattr(importlib.import_module("jaxppo.cli.sweep"), "sweep", refuse)
    assert main(["sweep", "--config", str(tmp_path / "sweep.toml"), *flags]) == 2
    assert given == [meant]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--learning-rate"], "learning_rate=: must be at least one value"),
        (["--learning-rate", "1e-3", "1e-3"], "learning_rate=0.001: must be given once"),
        (["--learning-rate", "abc"], "learning_rate=abc: must be a finite number"),
        (["--num-envs", "4.5"], "num_envs=4.5: must be a whole number"),
        (["--env", "Nope"], "env=Nope: must be an environment"),
        (["--objective", "fixed-kl", "--clip-eps", "0.2"], "clip_eps=.*no kind chosen has it"),
        (["--learning-rate", "1:2:lin"], "learning_rate=1:2:lin: must be a range"),
        (["--learning-rate", "2:1"], "the lower one first"),
        (["--gamma", "0:1:log"], "above 0"),
        (["--num-envs", "4:9"], "values and no range"),
        (["--samples", "3"], "samples=3: must be left out"),
        (["--learning-rate", "1e-4:1e-2:log"], "samples=: must be given, as how many to draw .* of learning_rate"),
        (["--env-params", "gravity", "9.8"], "env_params=gravity: must be NAME=NUMBER, or several"),
        (["--hidden", "64", "64"], r"hidden=\(64,\): must be given once; .*as in 64,64"),
        (["--gamma", "2.0"], "gamma=2.0: must be a finite number"),
        (["--seeds", "0"], "seeds=0"),
        (
            ["--pbt", "gama", "--seeds", "4"],
            "perturb=gama: must be a number in the config that training goes by; did you mean gamma",
        ),
        (["--pbt"], "population=1: must be at least two"),
        (["--config", "none.toml"], "config=none.toml"),
    ],
)
def test_bad_flags_are_refused_in_one_line(flags, words, tmp_path, monkeypatch, capsys):
    """Exit code 2, and nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(words, error)
    assert not list(tmp_path.iterdir())

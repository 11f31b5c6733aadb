"""The command line as a user meets it: exit codes, one-line refusals, run directories."""

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxppo
from jaxppo.cli import main
from jaxppo.cli.config import settings_class
from jaxppo.cli.flags import parse
from jaxppo.directories import held
from jaxppo.presets import PRESETS
from jaxppo.results import load_run, read_metrics

SMALL = ["--total-timesteps", "2048", "--num-envs", "4", "--num-steps", "64"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run."""
    path = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *SMALL, "--out", str(path), "--seed", "3", "--gamma", "0.97"]) == 0
    return path


def test_train_leaves_a_complete_run_directory(run):
    """All four files, and a manifest that says what was run and how it ended."""
    assert {p.name for p in run.iterdir()} == {"manifest.json", "metrics.jsonl", "policy.msgpack", "curve.png"}
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert (manifest["seed"], manifest["num_updates"], manifest["env_steps"]) == (3, 8, 2048)
    assert manifest["config"]["gamma"] == 0.97
    assert manifest["config"]["hidden"] == [64, 64]
    assert manifest["versions"]["jaxppo"] == jaxppo.__version__
    assert manifest["device"]["platform"] == "cpu"
    assert manifest["evaluation"]["episodes"] == 128


def test_metrics_have_a_line_per_update_and_no_nan(run):
    """JSON has no NaN: a missing return is null, and reads back as NaN."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["env_steps"] for line in lines] == [256 * (i + 1) for i in range(8)]
    assert "NaN" not in "".join(lines)
    metrics = read_metrics(run)
    absent = {"kl_coef", "kl_update", "gradient_steps", "line_search_success", "step_fraction", "extra"}
    assert set(metrics) == {*jaxppo.Metrics._fields, "wall_time"} - absent
    assert metrics["wall_time"] == sorted(metrics["wall_time"])


def test_log_interval_keeps_every_kth_update(tmp_path):
    """Eight updates at an interval of three: the first, the third, the sixth and the last."""
    assert main(["train", *SMALL, "--out", str(tmp_path / "run"), "--log-interval", "3"]) == 0
    assert read_metrics(tmp_path / "run")["env_steps"] == [256, 768, 1536, 2048]


def test_the_first_and_last_updates_are_always_logged(tmp_path):
    """Also where the interval is longer than the run."""
    assert main(["train", *SMALL, "--log-interval", "100", "--out", str(tmp_path / "run")]) == 0
    assert read_metrics(tmp_path / "run")["env_steps"] == [256, 2048]


def test_a_value_fit_that_diverges_is_noticed(tmp_path, capsys):
    """Even in the last update, after which no gradient is taken."""
    flags = ["--preset", "trpo", "--vf-learning-rate", "1e38", "--total-timesteps", "512", "--hidden", "8"]
    assert main(["train", *flags, "--out", str(tmp_path / "run")]) == 1
    assert not (tmp_path / "run" / "policy.msgpack").exists()


def test_the_same_seed_gives_the_same_run(run, tmp_path):
    """All metrics but the clock are equal."""
    again = tmp_path / "again"
    assert main(["train", *SMALL, "--out", str(again), "--seed", "3", "--gamma", "0.97"]) == 0
    first, second = read_metrics(run), read_metrics(again)
    assert first["value_loss"] == second["value_loss"]
    assert (run / "policy.msgpack").read_bytes() == (again / "policy.msgpack").read_bytes()


def test_evaluate_repeats_itself_and_samples_on_request(run, capsys):
    """The same seed gives the same summary; sampled episodes say that they are."""
    printed = []
    for flags in ([], [], ["--stochastic", "--episodes", "7"]):
        assert main(["evaluate", str(run), *flags]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].startswith("greedy return over 128 episodes")
    assert printed[2].startswith("sampled return over 7 episodes")


def test_plot_overlays_runs(run, tmp_path, capsys):
    """A PNG or SVG is written where asked, with the names of both."""
    other = shutil.copytree(run, tmp_path / "other")
    for name, head in (("a.png", b"\x89PNG"), ("b.svg", b"<?xml")):
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            assert main(["plot", str(run), str(other), "--metric", "entropy", "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(head)
    assert all(f">{path}<" in (tmp_path / "b.svg").read_text() for path in (run, other))
    assert "wrote" in capsys.readouterr().out


def test_toml_file_preset_and_flags_are_layered(tmp_path):
    """Flags win over the file, the file over the preset, the preset over the defaults."""
    file = tmp_path / "my.toml"
    file.write_text(
        'env = "Pendulum-v1"\ntotal_timesteps = 2048\nnum_envs = 4\nnum_steps = 64\ngamma = 0.8\nhidden = [8]\n'
        "[env_params]\nmax_steps_in_episode = 50\n"
    )
    out = tmp_path / "run"
    assert main(["train", "--config", str(file), "--gamma", "0.7", "--out", str(out)]) == 0
    config = load_run(out).config
    assert config.env == "Pendulum-v1"
    assert config.gamma == 0.7
    assert config.network.hidden == (8,)
    assert config.learner.learning_rate == 1e-3
    assert config.learner.vf_clip_eps == jaxppo.SGD().vf_clip_eps
    assert dict(config.env_params) == {"max_steps_in_episode": 50}
    assert main(["train", "--config", str(file), "--preset", "none", "--out", str(tmp_path / "plain")]) == 0
    assert load_run(tmp_path / "plain").config.learner.learning_rate == jaxppo.SGD().learning_rate


@pytest.mark.parametrize("env", PRESETS)
def test_flags_give_the_preset_of_each_environment(env):
    """Whatever its kinds are, also where they would not do for the default environment."""
    settings, flags = settings_class(["--env", env])
    assert parse(settings, [*flags, "--env", env], "jaxppo train").settings == jaxppo.preset(env)


@pytest.mark.slow
def test_train_without_any_flag(tmp_path, monkeypatch, capsys):
    """The first command that a newcomer types: CartPole, learned."""
    monkeypatch.chdir(tmp_path)
    assert main(["train"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "manifest.json").read_text())["evaluation"]["mean_return"] >= 475
    assert str(run.name) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "learner", "metrics"),
    [
        (["--objective", "adaptive-kl", "--kl-target", "0.02"], {"objective": "adaptive-kl"}, ["kl_coef", "kl_update"]),
        (["--preset", "a2c", "--num-envs", "4"], {"objective": "policy-gradient", "num_epochs": 1}, []),
        (
            ["--learner", "trust-region", "--max-kl", "0.02"],
            {"learner": "trust-region"},
            ["line_search_success", "step_fraction"],
        ),
        (["--objective", "policy-gradient", "--preset", "none"], {"num_epochs": 1, "num_minibatches": 1}, []),
        (["--env", "Breakout-MinAtar", "--num-envs", "4", "--num-steps", "16"], {"network": "cnn", "shared": True}, []),
    ],
    ids=["adaptive-kl", "a2c", "trust-region", "policy-gradient", "convolutions"],
)
def test_every_method_trains_and_is_read_again(flags, learner, metrics, tmp_path, capsys):
    """Objective, learner and method are chosen by one flag; the manifest and the metrics say so; the policy loads."""
    out = tmp_path / "run"
    assert main(["train", *flags, "--total-timesteps", "1024", "--hidden", "8", "--out", str(out)]) == 0
    settings = json.loads((out / "manifest.json").read_text())["config"]
    assert {name: settings[name] for name in learner} == learner
    rows = read_metrics(out)
    for name in metrics:
        assert np.all(np.isfinite(rows[name]))
    assert ("clip_fraction" in rows) == (settings.get("objective") == "clip")
    assert main(["evaluate", str(out), "--episodes", "2"]) == 0


def test_a_toml_file_chooses_kinds_which_flags_override(tmp_path, capsys):
    """The file's settings must go with what was chosen in the end."""
    file = tmp_path / "my.toml"
    file.write_text(
        'objective = "fixed-kl"\nkl_coef = 0.3\ntotal_timesteps = 512\nhidden = [8]\nmax_grad_norm = "None"\n'
    )
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "a")]) == 0
    assert load_run(tmp_path / "a").config.learner.objective == jaxppo.FixedKL(kl_coef=0.3)
    assert load_run(tmp_path / "a").config.learner.max_grad_norm is None
    flags = ["--config", str(file), "--objective", "adaptive-kl", "--out", str(tmp_path / "b")]
    assert main(["train", *flags]) == 0
    assert load_run(tmp_path / "b").config.learner.objective == jaxppo.AdaptiveKL(kl_coef=0.3)
    capsys.readouterr()
    assert main(["train", "--config", str(file), "--objective", "clip", "--out", str(tmp_path / "c")]) == 2
    assert "kl_coef=0.3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--env", "CartPole-v2"], ["env=CartPole-v2", "CartPole-v1"]),
        (["--num-envs", "0"], ["num_envs=0", ">= 1"]),
        (["--num-steps", "-3"], ["num_steps=-3", ">= 1"]),
        (["--num-minibatches", "7"], ["num_minibatches=7", "512"]),
        (["--num-minibatches", "512"], ["num_minibatches=512", "normalize_advantage"]),
        (["--total-timesteps", "100"], ["total_timesteps=100", "512"]),
        (["--gamma", "1.5"], ["gamma=1.5", "[0, 1]"]),
        (["--gae-lambda", "-0.1"], ["gae_lambda=-0.1", "[0, 1]"]),
        (["--clip-eps", "0"], ["clip_eps=0.0", "> 0"]),
        (["--learning-rate", "nan"], ["learning_rate=nan", "finite"]),
        (["--activation", "sine"], ["activation=sine", "tanh"]),
        (["--env-params", "gravty", "3"], ["gravty", "gravity"]),
        (["--env-params", "max_steps_in_episode", "0"], ["env_params=max_steps_in_episode=0", "at least 1"]),
        (["--preset", "maybe"], ["preset=maybe", "auto, none, clip", "trpo"]),
        (["--objective", "clop"], ["objective=clop", "clip, adaptive-kl"]),
        (["--learner", "adam"], ["learner=adam", "sgd, trust-region"]),
        (["--kl-target", "0.1"], ["kl_target=0.1", "chosen with objective adaptive-kl"]),
        (["--objective", "unclipped", "--clip-eps", "0.1"], ["clip_eps=0.1", "chosen with objective clip"]),
        (["--learner", "trust-region", "--objective", "clip"], ["objective=clip", "chosen with learner sgd"]),
        (["--learner", "trust-region", "--shared"], ["shared=True", "False"]),
        (["--objective", "policy-gradient", "--num-epochs", "4"], ["num_epochs=4", "on-policy"]),
        (["--learner", "trust-region", "--learning-rate=1e-3"], ["learning_rate=0.001", "chosen with learner sgd"]),
        (["--learner", "trust-region", "--no-anneal-lr"], ["anneal_lr", "chosen with learner sgd"]),
        (["--preset", "adaptive-kl", "--objective", "clip"], ["objective=clip", "adaptive-kl or left out"]),
        (["--preset", "a2c", "--learner", "trust-region"], ["learner=trust-region", "sgd or left out"]),
        (["--dual-clip", "1"], ["dual_clip=1.0", "> 1"]),
        (["--log-interval", "0"], ["log_interval=0", ">= 1"]),
        (["--seed", "-1"], ["seed=-1", ">= 0"]),
        (["--config", "missing.toml"], ["config=missing.toml", "No such file"]),
    ],
)
def test_bad_input_is_refused_in_one_line(flags, words, tmp_path, monkeypatch, capsys):
    """Exit code 2, one line with the field, the value and what is allowed, and nothing written."""
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in words:
        assert word in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lerning_rate = 1e-3", ["lerning_rate", "learning_rate"]),
        ("gamma = 2.0", ["gamma=2.0", "[0, 1]"]),
        ('num_envs = "many"', ["num_envs=many", "whole number"]),
        ("gamma = ", ["my.toml", "Invalid value"]),
        ('gamma = "None"', ["gamma=None", "a finite number"]),
        ('objective = "clop"', ["objective=clop", "clip"]),
        ("[objective]\nkl_target = 0.01", ["objective=", "one of clip, adaptive-kl"]),
        ("env = {a = 1}", ["env=", "name of an environment"]),
        ("seed = 3", ["seed=3", "--seed"]),
    ],
)
def test_bad_toml_is_refused_with_its_name(text, words, tmp_path, capsys):
    """The file, the key and the value are named."""
    file = tmp_path / "my.toml"
    file.write_text(text)
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    for word in ("my.toml", *words):
        assert word in error
    assert not (tmp_path / "run").exists()


def test_an_existing_run_is_only_replaced_on_request(run, tmp_path, capsys):
    """Without --overwrite it is left as it was; with it, only a run directory is replaced."""
    before = (run / "policy.msgpack").read_bytes()
    assert main(["train", *SMALL, "--out", str(run)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (run / "policy.msgpack").read_bytes() == before
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    assert main(["train", *SMALL, "--out", str(precious), "--overwrite"]) == 2
    assert (precious / "thesis.tex").read_text() == "years of work"
    (precious / "manifest.json").write_text('{"agents": "of a sweep"}')
    assert main(["train", *SMALL, "--out", str(precious), "--overwrite"]) == 2
    assert (precious / "thesis.tex").read_text() == "years of work"
    (tmp_path / "link").symlink_to(run)
    assert main(["train", *SMALL, "--out", str(tmp_path / "link"), "--overwrite"]) == 2
    assert (run / "policy.msgpack").read_bytes() == before
    assert main(["train", *SMALL, "--out", str(tmp_path / "new"), "--overwrite"]) == 0
    assert main(["train", *SMALL, "--out", str(tmp_path / "new"), "--overwrite", "--seed", "1"]) == 0
    assert load_run(tmp_path / "new").manifest["seed"] == 1


def test_half_a_line_is_not_read(run, tmp_path):
    """What a run that was killed may leave at the end of its metrics."""
    lines = (run / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(lines[:-20])
    whole, cut = read_metrics(run), read_metrics(tmp_path)
    assert cut == {name: values[:-1] for name, values in whole.items()}


def test_a_path_that_cannot_be_written_is_refused(tmp_path, capsys):
    """A file in the way of a directory."""
    (tmp_path / "file").write_text("")
    assert main(["train", *SMALL, "--out", str(tmp_path / "file" / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_what_is_not_a_run_is_refused(command, tmp_path, capsys):
    """A directory without a run in it, or none at all."""
    assert main([command, str(tmp_path)]) == 2
    assert main([command, str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_a_damaged_policy_is_refused(run, tmp_path, capsys):
    """Half a policy file is an error, not a wrong policy."""
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "manifest.json").write_bytes((run / "manifest.json").read_bytes())
    content = (run / "policy.msgpack").read_bytes()
    (damaged / "policy.msgpack").write_bytes(content[: len(content) // 2])
    assert main(["evaluate", str(damaged)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("manifest", ["[]", '{"config": 3}', "{}", '"run"'])
def test_a_damaged_manifest_is_refused(manifest, run, tmp_path, capsys):
    """JSON, but not what a run has."""
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "policy.msgpack").write_bytes((run / "policy.msgpack").read_bytes())
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", [b"\x01", b"\x80", b"\x93\x01\x02\x03"])
def test_what_is_no_policy_is_refused(content, run, tmp_path, capsys):
    """A number, a mapping without anything, and a list, as msgpack has them."""
    (tmp_path / "manifest.json").write_bytes((run / "manifest.json").read_bytes())
    (tmp_path / "policy.msgpack").write_bytes(content)
    assert main(["evaluate", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("line", ['{"env_steps": 3}', '"x"', "[1, 2]", '{"env_steps": "three"}', "null"])
@pytest.mark.parametrize("place", [0, 2])
def test_damaged_metrics_are_refused(line, place, run, tmp_path, capsys):
    """Lines of JSON that are not those of an update, at the beginning or later."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_text("".join([*lines[:place], f"{line}\n", *lines[place + 1 :]]))
    assert main(["plot", str(tmp_path), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "a.png").exists()


def test_a_command_without_compilation_is_refused(tmp_path, capsys):
    """Before anything is there; from Python it trains all the same."""
    out = tmp_path / "run"
    with jax.disable_jit():
        assert main(["train", *SMALL, "--out", str(out)]) == 2
    assert "jax_disable_jit=True: must be False here" in capsys.readouterr().err
    assert not out.exists()


def test_an_interrupt_while_it_imports(tmp_path):
    """It ends at once and says so, whenever it comes; JAX's own callbacks on collections would lose it."""
    code = (
        "import importlib, signal\n"
        "import jaxppo.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "real = importlib.import_module\n"
        "def interrupted(*name):\n"
        "    import gc\n"
        "    assert not gc.isenabled()\n"
        "    real('jax')\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "importlib.import_module = interrupted\n"
        "raise SystemExit(jaxppo.cli.main(['train']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 130
    assert done.stderr == "jaxppo train: interrupted\n"


def test_unknown_metrics_and_commands_are_refused(run, capsys):
    """With the closest name for the one, and the list of commands for the other."""
    assert main(["plot", str(run), "--metric", "episode_retrun"]) == 2
    assert "episode_return" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["trian"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit) as ended:
        main(["train", "--lerning-rate", "1"])
    assert ended.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_a_diverging_run_stops_and_says_so(tmp_path, capsys):
    """An infinite reward makes the gradient NaN: exit code 1, and no policy that could be taken for a good one.

    It says in which update that was, whatever else was trained before anybody looked.
    """
    out = tmp_path / "run"
    flags = ["--env-params", "masspole", "1e38", "--learning-rate", "1e30", "--total-timesteps", "20480"]
    assert main(["train", *SMALL, *flags, "--out", str(out)]) == 1
    assert json.loads((out / "manifest.json").read_text())["status"] == "diverged"
    assert not (out / "policy.msgpack").exists()
    first = 1 + int(np.flatnonzero(~np.isfinite(read_metrics(out)["grad_norm"]))[0])
    assert f"not finite: the gradient in update {first}\n" in capsys.readouterr().err
    assert json.loads((out / "manifest.json").read_text())["not_finite"] == f"the gradient in update {first}"


def test_lists_are_also_written_as_for_a_sweep(tmp_path):
    """Joined by commas, and parameters with equals signs."""
    written = [
        ["--hidden", "16", "8", "--env-params", "gravity", "9.0", "length", "0.4"],
        ["--hidden", "16,8", "--env-params", "gravity=9.0,length=0.4"],
        ["--env-params", "gravity=9.0", "length=0.4", "--hidden", "16,8"],
        ["--env_params=gravity=9.0,length=0.4", "--hidden=16,8,"],
    ]
    for i, flags in enumerate(written):
        out = tmp_path / str(i)
        assert main(["train", "--total-timesteps", "512", *flags, "--out", str(out), "--quiet"]) == 0
        config = load_run(out).config
        assert config.network.hidden == (16, 8)
        assert dict(config.env_params) == {"gravity": 9.0, "length": 0.4}


def test_more_memory_than_there_is(tmp_path, capsys):
    """One line before anything runs, and no directory that would be in the way of another try."""
    out = tmp_path / "run"
    sizes = ["--num-envs", "100000", "--num-steps", "20000", "--total-timesteps", "2000000000"]
    assert main(["train", *sizes, "--out", str(out), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"jaxppo train: num_envs=100000: must be so few, .* GiB; it takes [\d.,e+]+ GiB\n", error)
    assert not out.exists()
    assert main(["train", *SMALL, "--out", str(out), "--quiet"]) == 0
    before = {file: file.read_bytes() for file in out.rglob("*")}
    assert main(["train", *sizes, "--out", str(out), "--quiet", "--overwrite"]) == 2
    assert {file: file.read_bytes() for file in out.rglob("*")} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_run_that_is_under_way_is_not_overwritten(tmp_path, capsys):
    """Another process is refused the directory until the first has ended."""
    out = tmp_path / "run"
    assert main(["train", *SMALL, "--out", str(out), "--quiet"]) == 0
    before = {file: file.read_bytes() for file in out.rglob("*")}
    with held(out):
        assert main(["train", *SMALL, "--out", str(out), "--quiet", "--overwrite"]) == 2
    assert "no other process is working in" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in out.rglob("*")} == before
    assert main(["train", *SMALL, "--seed", "3", "--out", str(out), "--quiet", "--overwrite"]) == 0
    assert load_run(out).manifest["seed"] == 3
    assert list(tmp_path.iterdir()) == [out]


def test_a_logger_that_cannot_be_reached_leaves_nothing(tmp_path, monkeypatch, capsys):
    """The same command works once it can."""
    out = tmp_path / "run"

    def unreachable(path, agent, settings):
        (path / "tensorboard").mkdir()
        raise jaxppo.ConfigError("logger", "tensorboard", "reachable")

    with monkeypatch.context() as patch:
        patch.setitem(jaxppo.loggers.LOGGERS, "tensorboard", unreachable)
        assert main(["train", *SMALL, "--logger", "tensorboard", "--out", str(out)]) == 2
        assert "logger=tensorboard: must be reachable" in capsys.readouterr().err
        assert not out.exists()
    assert main(["train", *SMALL, "--logger", "tensorboard", "--out", str(out)]) == 0


def test_nothing_to_plot(tmp_path, capsys):
    """A run in which no episode ended."""
    out = tmp_path / "run"
    flags = ["--env", "Pendulum-v1", "--preset", "none", "--total-timesteps", "512", "--out", str(out)]
    assert main(["train", *flags, "--quiet"]) == 0
    assert main(["plot", str(out), "--out", str(tmp_path / "a.png")]) == 2
    assert "metric=episode_return: must be one with a value in" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()


def test_interrupt_saves_what_was_learned(tmp_path):
    """SIGINT in the middle: exit code 130, and a run that evaluates."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "jaxppo", "train", "--total-timesteps", "500000000", "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not ((out / "metrics.jsonl").exists() and (out / "metrics.jsonl").stat().st_size > 0):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "interrupted after" in printed
    saved = load_run(out)
    assert saved.manifest["status"] == "interrupted"
    assert len(read_metrics(out)["env_steps"]) == saved.manifest["num_updates"] > 0
    assert main(["evaluate", str(out), "--episodes", "2"]) == 0


def test_piped_output_is_plain_lines(tmp_path):
    """No escape codes in a pipe, and the compile time, the score and the run directory are told."""
    command = [sys.executable, "-m", "jaxppo", "train", *SMALL, "--out", str(tmp_path / "run")]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "\x1b" not in done.stdout + done.stderr
    assert "compiled in" in done.stdout
    assert "2048 steps" in done.stdout
    assert f"run directory: {tmp_path / 'run'}" in done.stdout


def test_an_observation_of_parts_is_listed(monkeypatch, capsys):
    """Each part with its type and shape."""
    parts = {"seen": jax.ShapeDtypeStruct((2, 3), jnp.float32), "count": jax.ShapeDtypeStruct((), jnp.int32)}
    env = dataclasses.replace(jaxppo.envs.make("CartPole-v1"), observation=parts)
    monkeypatch.setattr(jaxppo.envs, "names", lambda: ["Parts-v0"])
    monkeypatch.setattr(jaxppo.envs, "make", lambda name: env)
    assert main(["envs"]) == 0
    assert "int32 [], float32 [2, 3]" in capsys.readouterr().out


def test_help_and_envs(capsys):
    """Each command explains itself; every registered environment is listed with its spaces."""
    for command in (["--help"], ["train", "--help"], ["evaluate", "--help"], ["plot", "--help"], ["envs", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    assert "--learning-rate" in capsys.readouterr().out
    import gymnax

    assert main(["envs"]) == 0
    printed = capsys.readouterr().out
    for name in gymnax.registered_envs:
        assert name in printed

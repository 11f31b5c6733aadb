"""Profiles of an update: the parts there are, what they must do, and the screen."""

import math

import jax
import pytest

import jaxppo
from jaxppo.cli import main
from jaxppo.machine import Limits
from jaxppo.profiling import profile_update

SMALL = {"num_envs": 4, "num_steps": 16, "total_timesteps": 640, "network": jaxppo.MLP(hidden=(8,))}
PARTS = ["collection", "advantages", "shuffling", "gradient", "optimiser"]


LIMITS = Limits(1024, 1e9, {2**16: 4e9, 2**20: 1e9})


@pytest.fixture(autouse=True, scope="module")
def machine():
    """Measuring the machine takes seconds, and what it is does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxppo.profiling.measure_limits", lambda: LIMITS)
        patch.setattr("jaxppo.profiling.product_seconds", lambda product: product.flops / 5e8)
        patch.setattr("jaxppo.profiling.RUN_SECONDS", 0.005)
        yield


@pytest.fixture(scope="module")
def profile(machine):
    """Of a small perceptron on CartPole."""
    return profile_update(jaxppo.Config(**SMALL), jax.random.key(0), repeats=1)


def parts_of(profile):
    """Parts by name."""
    return {part.name: part for part in profile.parts}


def test_the_parts_of_sgd(profile):
    """Operations and bytes by hand: P parameters, M samples, 4 epochs of 4 minibatches."""
    parts = parts_of(profile)
    assert list(parts) == PARTS
    assert profile.env_steps == 64
    params = 2 * (4 * 8 + 8) + (8 * 2 + 2) + (8 * 1 + 1)
    forward = 2 * (2 * 4 * 8 + 8 * 2 + 8)
    assert parts["collection"].flops == 64 * forward
    backward = 2 * forward - 2 * 2 * 4 * 8
    assert 0 <= parts["gradient"].flops - 4 * 64 * (forward + backward) < 4 * 64 * 100
    assert parts["optimiser"].flops == parts["shuffling"].flops == 0
    # A step of Adam reads parameters, gradient and two moments, and writes three of them, and counts its steps.
    assert parts["optimiser"].num_bytes == 16 * (7 * 4 * params + 2 * 4)
    # Observation, reset, action, logits, value, advantage and target, read and written, and the index that says where.
    sample = 4 * 4 + 1 + 4 + 2 * 4 + 3 * 4
    assert parts["shuffling"].num_bytes == 4 * 64 * 2 * (sample + 4)
    assert parts["optimiser"].peak_seconds == parts["optimiser"].num_bytes / 4e9
    assert parts["gradient"].peak_seconds == parts["gradient"].flops / 1e9
    assert parts["gradient"].shapes_seconds > parts["gradient"].peak_seconds
    assert profile.seconds == pytest.approx(sum(part.seconds for part in profile.parts) + profile.other_seconds)
    assert all(part.seconds > 0 for part in profile.parts)
    assert profile.memory["arguments"] > 0


def test_agents_side_by_side_do_as_many_times_the_work(profile):
    """Bytes and operations of three agents are three times those of one."""
    many = profile_update(jaxppo.Config(**SMALL), jax.random.key(0), agents=3, repeats=1)
    assert many.env_steps == 3 * profile.env_steps
    one, three = parts_of(profile), parts_of(many)
    for name in PARTS:
        assert three[name].flops == 3 * one[name].flops
        assert three[name].num_bytes == 3 * one[name].num_bytes


def test_a_trust_region_is_one_part():
    """Its conjugate gradient stops when it may, so that nobody knows how much it must do."""
    profile = profile_update(jaxppo.Config(**SMALL, learner=jaxppo.TrustRegion()), jax.random.key(0), repeats=1)
    parts = parts_of(profile)
    assert list(parts) == ["collection", "advantages", "learner"]
    assert math.isnan(parts["learner"].flops)
    assert math.isnan(parts["learner"].peak_seconds)
    assert parts["learner"].seconds > 0


def test_every_option_that_changes_the_parts():
    """Normalisers, memory, an objective with a state, and steps that may end early."""
    config = jaxppo.Config(
        env="Pendulum-v1",
        normalize_obs=True,
        normalize_reward=True,
        num_envs=4,
        num_steps=16,
        total_timesteps=640,
        network=jaxppo.MLP(hidden=(8,), memory="gru", memory_size=8),
        learner=jaxppo.SGD(objective=jaxppo.AdaptiveKL(), kl_limit=0.01),
    )
    profile = profile_update(config, jax.random.key(0), repeats=1)
    assert [part.name for part in profile.parts] == PARTS
    assert all(part.seconds > 0 for part in profile.parts)
    forward = 2 * (2 * (3 * 8 + 8 * 3 * 8 + 8 * 3 * 8) + 8 + 8)
    assert parts_of(profile)["collection"].flops == 64 * forward


def test_the_screen(profile, monkeypatch, capsys):
    """A row per part within 80 columns; the settings, the agents and the repeats reach the profiler."""
    asked = []

    def remember(config, key, *, agents, repeats):
        asked.append((config, agents, repeats))
        return profile

    monkeypatch.setattr("jaxppo.cli.profile.profile_update", remember)
    flags = ["--env", "Pendulum-v1", "--preset", "none", "--num-steps", "16", "--agents", "3", "--repeats", "2"]
    assert main(["profile", *flags]) == 0
    ((config, agents, repeats),) = asked
    assert (config.env, config.num_steps, agents, repeats) == ("Pendulum-v1", 16, 3, 2)
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    for name in [*PARTS, "other", "update"]:
        assert any("%" in cell for cell in rows[name])
    for words in ("compiled in", "64 steps (", "memory of the program: arguments", "1 GFLOP/s (1024³)"):
        assert words in printed
    assert max(len(line) for line in printed.split("\n\n")[1].splitlines()) <= 80


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--agents", "0"], "agents=0: must be a whole number >= 1"),
        (["--repeats", "0"], "repeats=0: must be a whole number >= 1"),
        (["--seed", "-1"], "seed=-1"),
        (["--gamma", "2"], "gamma=2.0"),
    ],
)
def test_bad_input_is_refused(flags, words, capsys):
    """Exit code 2 and one line."""
    assert main(["profile", *flags]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1

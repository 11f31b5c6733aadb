"""Agents spread over devices are the agents that they are side by side."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trees import assert_same

import jaxppo
from jaxppo import devices
from jaxppo.cores import num_cores

KEY = jax.random.key(0)


def config(**fields):
    """Four updates of a small network."""
    return jaxppo.Config(num_steps=16, total_timesteps=256, network=jaxppo.MLP(hidden=(8,)), **fields)


@pytest.mark.parametrize("count", [2, 5])
def test_agents_are_those_of_vmap(count):
    """With a key and a learning rate each; five are filled up to six on two devices."""
    keys = jax.random.split(KEY, count)
    many = config(learner=jaxppo.SGD(learning_rate=jnp.linspace(1e-4, 1e-3, count)))
    spread = jaxppo.train_agents(many, keys)
    assert_same(spread, jax.vmap(jaxppo.train, in_axes=(jaxppo.batch_axes(many), 0))(many, keys))
    assert spread.metrics.entropy.shape == (count, 4)
    assert len(spread.metrics.entropy.devices()) == 2


def test_agents_of_one_config_inside_jit():
    """The config's numbers are everyone's, and a caller's jit may hold the whole of it."""
    keys = jax.random.split(KEY, 4)
    returns = jax.jit(lambda keys: jaxppo.train_agents(config(), keys).metrics.episode_return)(keys)
    assert_same(returns, jaxppo.train_agents(config(), keys).metrics.episode_return)


def test_what_was_trained_on_two_devices_plays():
    """What `train_agents` returns goes on into evaluation, an agent each."""
    keys = jax.random.split(KEY, 4)
    trained = jaxppo.train_agents(config(), keys)
    returns = jax.vmap(jaxppo.evaluate, in_axes=(None, 0, None))(config(), trained.state, KEY)
    one = jax.tree.map(lambda x: x[3], trained.state)
    np.testing.assert_allclose(returns[3], jaxppo.evaluate(config(), one, KEY))


@pytest.mark.parametrize(("count", "lanes"), [(2, 1), (6, 1), (8, 2), (8, 4)])
def test_turns(count, lanes):
    """Each agent gets its own arguments and the shared one, however many take turns, and has its place."""
    agents = devices.Spread(count, devices.devices_for(count), lanes)
    function = agents.over(lambda shared, x, tree: (shared * x, x.sum() + tree["y"]))
    x, y = jax.random.normal(KEY, (count, 3)), jnp.arange(count, dtype=jnp.float32)
    scaled, total = jax.jit(function)(jnp.float32(2), x, {"y": y})
    np.testing.assert_allclose(scaled, 2 * x, rtol=1e-6)
    np.testing.assert_allclose(total, np.asarray(x).sum(axis=1) + np.arange(count), rtol=1e-5)


def test_devices_do_not_wait_for_each_other():
    """No collective in the program: an agent knows nothing of the others."""
    text = jax.jit(jaxppo.train_agents).lower(config(), jax.random.split(KEY, 4)).compile().as_text()
    assert "while" in text
    assert not any(name in text for name in ("all-reduce", "all-gather", "all-to-all", "collective-permute"))


def test_how_many_train_in_step():
    """Equal shares in turns, no more samples of them than are good for a core; one at least."""
    two = tuple(jax.local_devices())
    for agents in (2, 6, 64, 74):
        for batch_size in (32, 512, 5000, 10**6):
            lanes = devices.lanes(agents // 2, batch_size, two)
            assert (agents // 2) % lanes == 0
            assert lanes == 1 or lanes * batch_size <= devices.CORE_SAMPLES
    assert devices.lanes(128, 512, two) == 4
    assert devices.lanes(256, 512, two[:1]) == 32
    assert devices.lanes(61, 512, two[:1]) == 61  # a prime: one in step would leave a core idle
    assert devices.lanes(61, 512, two) == 1
    assert devices.lanes(1, 10**6, two) == 1


@pytest.mark.parametrize(("agents", "count", "full"), [(1, 1, 1), (2, 2, 2), (5, 2, 6), (8, 2, 8)])
def test_shares(agents, count, full):
    """As few devices as give the largest share, and as few agents added as make shares equal."""
    spread = devices.spread(config(), agents)
    assert (len(spread.devices), spread.num_agents, spread.each) == (count, full, full // count)


def test_one_agent_has_all_devices_if_its_minibatches_are_large():
    """It is worth 512 samples of a minibatch for each; whoever asks for a device gets that."""
    large = jaxppo.Config(num_envs=64, num_steps=64, total_timesteps=10**5)
    assert devices.spread(large, 1) == (1, tuple(jax.local_devices()), 1)
    assert devices.spread(large, 1, tuple(jax.local_devices()[:1])) == (1, tuple(jax.local_devices()[:1]), 1)


@pytest.mark.parametrize(
    ("keys", "rates", "message"),
    [
        (KEY, 1e-3, r"^keys=key<fry> of shape \(\): must be one or more PRNG keys in a row"),
        (jax.random.split(KEY, (2, 2)), 1e-3, r"^keys=key<fry> of shape \(2, 2\): must be"),
        (jax.random.split(KEY, 0), 1e-3, r"^keys=key<fry> of shape \(0,\): must be"),
        (jax.random.PRNGKey(0), 1e-3, r"^keys=uint32 of shape \(2,\): must be"),
        (jax.random.split(KEY, 3), jnp.ones(2), r"learning_rate=array of shape \(2,\): must be one number, or 3 in a"),
    ],
)
def test_what_is_no_row_of_keys(keys, rates, message):
    """Bad input is named before anything is compiled."""
    with pytest.raises(jaxppo.ConfigError, match=message):
        jaxppo.train_agents(config(learner=jaxppo.SGD(learning_rate=rates)), keys)


def run(code, **environment):
    """What a fresh process with no choice of devices prints of itself."""
    chosen = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")
    clean = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**clean, **environment}, check=False, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


COUNT = "import jax, jaxppo; jaxppo.use_cores(); print(jax.local_device_count())"


def test_cores_become_devices():
    """All that the process may use, unless the number was chosen; too late once JAX has started."""
    cores = num_cores()
    assert run(COUNT) == str(cores)
    assert run(COUNT, JAX_NUM_CPU_DEVICES="3") == "3"
    assert run(COUNT, XLA_FLAGS="--xla_force_host_platform_device_count=4") == "4"
    late = run("import jax, jaxppo; jax.devices(); jaxppo.use_cores()")
    assert late == "RuntimeError: jaxppo.use_cores() must come before JAX's first computation"


def test_runs_and_sweeps_have_the_cores(tmp_path):
    """From the command line, unless someone says otherwise, and so has a run."""
    code = (
        "import sys, jaxppo.cli; sys.argv = ['jaxppo', *{argv}, '--env', 'CartPole-v1', '--total-timesteps', '1024', "
        "'--out', {out!r}]; jaxppo.cli.main(); import jax; print(); print(jax.local_device_count())"
    )
    sweep = code.format(argv=["sweep", "--seeds", "2", "--quiet"], out=str(tmp_path / "sweep"))
    train = code.format(argv=["train", "--quiet"], out=str(tmp_path / "run"))
    cores = num_cores()
    assert run(sweep).splitlines()[-1] == str(cores)
    assert run(sweep.replace("sweep')", "other')"), JAX_NUM_CPU_DEVICES="2").splitlines()[-1] == "2"
    assert run(train).splitlines()[-1] == str(cores)

"""Options of the compiler: used at the top level, out of the way inside another's program, and right for a config."""

import gc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxppo
from jaxppo import backend, compilation, loop
from jaxppo.compilation import program


def double(x):
    """A function to compile."""
    return 2 * x


@pytest.fixture
def asked(monkeypatch):
    """What the options were asked for, as a list that grows."""
    calls = []

    def options(config):
        calls.append(config)
        return {"xla_backend_optimization_level": 1}

    monkeypatch.setattr(compilation, "compiler_options", options)
    return calls


def test_options_at_the_top_level(asked):
    """A call by itself compiles with the options, once for all calls."""
    traced = []
    function = program(lambda x: traced.append(x) or double(x))
    for _ in range(2):
        assert function(jnp.float32(1)) == 2
    assert asked == [1, 1]
    assert len(traced) == 1


def test_no_options_under_vmap_and_grad(asked):
    """The transformed function gives what it should."""
    np.testing.assert_array_equal(jax.vmap(program(double))(jnp.ones(3)), [2, 2, 2])
    assert jax.grad(program(double))(jnp.float32(1)) == 2
    assert not asked


@pytest.mark.parametrize("inner", [lambda f: f, jax.vmap], ids=["alone", "vmap"])
def test_no_options_inside_a_program(inner, asked):
    """Inside a jit, where options are an error, there are none: also if the arguments are constants."""
    function, x = inner(program(double)), jnp.ones(3)
    np.testing.assert_array_equal(jax.jit(function)(x), [2, 2, 2])
    np.testing.assert_array_equal(jax.jit(lambda: function(x))(), [2, 2, 2])
    assert jax.eval_shape(function, x).shape == (3,)
    assert not asked


def test_the_options_are_known():
    """This backend's compiler takes them."""
    options = compilation.compiler_options()
    assert jax.default_backend() == "cpu"
    assert options
    assert jax.jit(double, compiler_options=options)(jnp.float32(3)) == 6


def test_options_of_a_gpu(monkeypatch):
    """They are asked for where they were measured, and XLA knows them: a name or a choice unknown to it is an error."""
    with backend.tracing_for(SimpleNamespace(platform="gpu", compute_capability="9.0")):
        monkeypatch.setattr(jax, "__version_info__", (0, 10, 9))
        assert compilation.compiler_options() == {}
        monkeypatch.setattr(jax, "__version_info__", (0, 11, 0))
        options = compilation.compiler_options()
    with backend.tracing_for(SimpleNamespace(platform="gpu", compute_capability="gfx942")):
        assert compilation.compiler_options() == {}
    monkeypatch.undo()
    assert options
    assert jax.jit(double, compiler_options=options)(jnp.float32(3)) == 6


@pytest.mark.parametrize(
    ("fields", "small"),
    [
        ({}, True),
        ({"network": jaxppo.MLP(hidden=(256, 256))}, True),
        ({"network": jaxppo.MLP(memory="gru")}, True),
        ({"network": jaxppo.MLP(hidden=(512,))}, False),
        ({"network": jaxppo.MLP(memory="lstm", memory_size=512)}, False),
        ({"num_envs": 64, "learner": jaxppo.SGD(num_minibatches=16)}, True),
        ({"num_envs": 128, "learner": jaxppo.SGD(num_minibatches=32)}, False),  # collection is large
        ({"num_envs": 64}, False),  # minibatches are large
        ({"env": "Breakout-MinAtar"}, False),  # observations are large
        ({"env": "Breakout-MinAtar", "network": jaxppo.CNN()}, False),
    ],
)
def test_small_operations_are_not_divided(fields, small):
    """Not over threads, where all of them are small: neither elementwise ones nor products."""
    options = compilation.compiler_options(jaxppo.Config(**fields))
    assert ("xla_disable_hlo_passes" in options) == small
    assert options.get("xla_cpu_multi_thread_eigen", True) is not small
    assert jax.jit(double, compiler_options=options)(jnp.float32(3)) == 6


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_while_a_program_is_traced(enabled):
    """The collector rests then, and is as it was before after that, also where tracing fails."""

    def trace(fails):
        def function(x):
            seen.append(gc.isenabled())
            return x + "no number" if fails else x

        return program(function)(jnp.float32(1))

    seen, before = [], gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        trace(fails=False)
        assert gc.isenabled() is enabled
        with pytest.raises(TypeError):
            trace(fails=True)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
    assert seen == [False, False]


def test_garbage_is_collected_without_jit():
    """Where tracing is all of the run."""
    assert gc.isenabled()
    with jax.disable_jit(), compilation.uncollected():
        assert gc.isenabled()


def test_no_garbage_is_collected_for_a_run(monkeypatch):
    """Whose program is compiled ahead of it."""
    seen = []

    def spy(config, state):
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    monkeypatch.setattr(loop, "update_step", spy)
    with pytest.raises(ZeroDivisionError):
        loop.compile_program(jaxppo.Config(num_envs=3), 1)
    assert seen == [False]
    assert gc.isenabled()

"""Options of the compiler: used at the top level, and out of the way inside another's program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxppo import compilation
from jaxppo.compilation import program


def double(x):
    """A function to compile."""
    return 2 * x


@pytest.fixture
def asked(monkeypatch):
    """How often the options were asked for, as a list that grows."""
    calls = []

    def options():
        calls.append(1)
        return {"xla_backend_optimization_level": 1}

    monkeypatch.setattr(compilation, "compiler_options", options)
    return calls


def test_options_at_the_top_level(asked):
    """A call by itself compiles with the options, once for all calls."""
    function = program(double)
    for _ in range(2):
        assert function(jnp.float32(1)) == 2
    assert len(asked) == 1


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

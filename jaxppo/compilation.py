"""How the package compiles its own programs: for a short wait at equal speed."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["compiler_options", "program"]


def compiler_options() -> dict[str, Any]:
    """What the package's programs are compiled with, as `jax.jit` takes it; nothing but on a CPU.

    LLVM's costlier passes are left out, a third of the wait, since training runs as fast without
    (docs/performance.md has the measurements).
    """
    return {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else {}


def program(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit(function)`, with the options above when it is called by itself: not inside a jit, vmap or grad."""
    plain = jax.jit(function)
    # The backend is not known before the first call: asking for it would start it.
    outermost = functools.cache(lambda: jax.jit(function, compiler_options=compiler_options()))

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        # A jit of the caller's traces even what depends on no argument. JAX refuses options under grad as well.
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in (jnp.zeros(()), *jax.tree.leaves(args)))
        return (plain if traced else outermost())(*args)

    return call

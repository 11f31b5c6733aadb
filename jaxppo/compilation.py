"""How the package compiles its own programs: for a short wait at equal speed."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo import backend
from jaxppo.garbage import resting
from jaxppo.networks import MLP

if TYPE_CHECKING:
    from jaxppo.config import Config

__all__ = ["compiler_options", "program", "uncollected"]

SMALL_BATCH, SMALL_LAYER = 2**13, 2**15  # samples; numbers in a layer of a minibatch: by measurement, for the below

# Elementwise operations are not divided over threads, and products not handed to others.
ONE_THREAD: dict[str, Any] = {
    "xla_disable_hlo_passes": "cpu-parallel-task-assigner",
    "xla_cpu_multi_thread_eigen": False,
}
CUDA_OPTIONS = {
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,CONDITIONAL,WHILE",
    "xla_gpu_command_buffer_scheduling_mode": "CONCURRENT",
}


def compiler_options(config: "Config | None" = None) -> dict[str, Any]:
    """What the package's programs are compiled with, as `jax.jit` takes it (docs/performance.md has measurements).

    On a CPU, LLVM's costlier passes are left out, a third of the wait, since training runs as fast without. It may use
    the widest registers that there are, of which it takes half by itself. And where operations are as small as this
    config's, each is one thread's, since others take longer to ask than they save.

    On an NVIDIA GPU, whole loops are launched as one CUDA graph, in which kernels run side by side unless one waits for
    the other: from the version of JAX on that this was measured with.
    """
    if backend.launches_count():
        return dict(CUDA_OPTIONS) if _runs_graphs() else {}
    options: dict[str, Any] = {"xla_backend_optimization_level": 1, "xla_cpu_prefer_vector_width": 512}
    if config is not None and _is_small(config):
        options |= ONE_THREAD
    return options


def program(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit(function)` of a config and more, with its options if called by itself: not in a jit, vmap or grad."""
    function = uncollected()(function)
    plain = jax.jit(function)
    compiled: Any = functools.cache(lambda *options: jax.jit(function, compiler_options=dict(options)))

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        # A jit of the caller's traces even what depends on no argument. JAX refuses options under grad as well.
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in (jnp.zeros(()), *jax.tree.leaves(args)))
        # The backend is not known before the first call: asking for it would start it.
        return (plain if traced else compiled(*compiler_options(args[0]).items()))(*args)

    return call


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's garbage collector at rest while a program is traced."""
    settings: Any = jax.config
    with nullcontext() if settings.jax_disable_jit else resting():  # without jit tracing is all of the run
        yield


def _runs_graphs() -> bool:
    return jax.__version_info__ >= (0, 11) and backend.compute_capability() is not None


def _is_small(config: "Config") -> bool:
    """Whether a core does each operation faster alone: a perceptron on minibatches that fit its caches."""
    network = config.network
    if not isinstance(network, MLP):
        return False
    inputs = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(config.make_env().observation))
    widest = max(inputs, *network.hidden, 0 if network.memory == "none" else network.memory_size)
    return config.batch_size <= SMALL_BATCH and config.minibatch_size * widest <= SMALL_LAYER

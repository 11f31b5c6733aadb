"""Settings for every test: two CPU devices, strict promotion, compiled programs kept between runs."""

import os
from pathlib import Path

# Read when jax is imported or its backend starts, and inherited by the processes that tests start.
# The second flag is what jaxppo asks for where it may (jaxppo/compilation.py), for all that tests compile themselves.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + (
    " --xla_force_host_platform_device_count=2 --xla_backend_optimization_level=1"
)
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".jax_cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import hypothesis
import jax
import pytest

# A core for each test process: XLA starts a thread for every core that it may use, and more threads than cores get in
# each other's way.
worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if worker and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile("jaxppo", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("jaxppo")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled programs hold memory mappings, of which a process may have only so many: XLA aborts at the limit."""
    yield
    jax.clear_caches()

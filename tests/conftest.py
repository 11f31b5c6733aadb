"""Settings for every test: two CPU devices, strict promotion, compiled programs kept between runs."""

import os
from pathlib import Path

# Read by XLA when the backend starts, so it has to be set before anything imports jax.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"

import hypothesis
import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(Path(__file__).parent.parent / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

hypothesis.settings.register_profile("jaxppo", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("jaxppo")


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled programs hold memory mappings, of which a process may have only so many: XLA aborts at the limit."""
    yield
    jax.clear_caches()

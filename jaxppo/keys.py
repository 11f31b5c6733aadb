"""PRNG keys that callers bring."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxppo.fields import check

__all__ = ["typed_key", "typed_keys"]


def typed_key(key: Any) -> jax.Array:
    """One key as `jax.random.key` makes them, also of one as `jax.random.PRNGKey` does.

    Raises:
        ConfigError: anything else.
    """
    return _typed("key", key, 0, "a PRNG key, as from jax.random.key(0); for several, jaxppo.train_agents or jax.vmap")


def typed_keys(keys: Any) -> jax.Array:
    """A row of such keys.

    Raises:
        ConfigError: anything else, or none.
    """
    allowed = "one or more PRNG keys in a row, as from jax.random.split"
    keys = _typed("keys", keys, 1, allowed)
    check(len(keys) > 0, "keys", _describe(keys), allowed)
    return keys


def _typed(name: str, keys: Any, ndim: int, allowed: str) -> jax.Array:
    is_array = isinstance(keys, jax.Array | np.ndarray)
    if is_array and jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        check(keys.ndim == ndim, name, _describe(keys), allowed)
        return keys
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
    legacy = is_array and keys.dtype == jnp.uint32 and keys.shape[ndim:] == words
    check(legacy, name, _describe(keys) if is_array else keys, allowed)
    return jax.random.wrap_key_data(keys)


def _describe(keys: Any) -> str:
    return f"{keys.dtype} of shape {keys.shape}"

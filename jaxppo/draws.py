"""Random numbers made of PRNG keys themselves, whose words are random bits.

Each call of the generator is a loop that takes XLA a while to compile. So where many keys come from one `split`, some
of them serve as the numbers that would be drawn from them.
"""

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["gumbel", "normal", "num_keys", "uniform"]

WORDS = 2  # of 32 bits in a key, at least, whatever the generator


def num_keys(size: int) -> int:
    """How many keys `size` numbers take."""
    return -(-size // WORDS)


def uniform(keys: jax.Array, size: int) -> jax.Array:
    """Numbers in [0, 1), multiples of 2⁻²³: float32 [B, size] of keys [B, num_keys(size)]. Consumes `keys`."""
    words = jax.random.key_data(keys)
    words = words.reshape(*keys.shape[:-1], -1)[..., :size]
    # The upper bits as the fraction of a number in [1, 2).
    return jax.lax.bitcast_convert_type((words >> 9) | jnp.uint32(0x3F800000), jnp.float32) - 1


def gumbel(keys: jax.Array, size: int) -> jax.Array:
    """Numbers with a standard Gumbel distribution, shaped as in `uniform`. Consumes `keys`."""
    tiny = np.finfo(np.float32).tiny
    return -jnp.log(-jnp.log(jnp.maximum(uniform(keys, size), tiny)))


def normal(keys: jax.Array, size: int) -> jax.Array:
    """Numbers with a standard normal distribution, shaped as in `uniform`. Consumes `keys`."""
    inside = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(2 * uniform(keys, size) - 1, inside))

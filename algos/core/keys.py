"""Random keys: of a seed, for the steps of a scan, and the permutations that are drawn with
them.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def seed_key(seed: int) -> chex.PRNGKey:
    """The typed key of a seed. `jax.random.key` takes seeds that are 2^32 apart for the same.

    Raises:
      ValueError: the seed is no integer between 0 and 2^32 − 1.
    """
    is_integer = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not is_integer or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: must be an integer between 0 and {2**32 - 1}")
    return jax.random.key(int(seed))


def split_for_scan(key: chex.PRNGKey, length: int, keys_per_step: int) -> chex.Array:
    """Keys for each step of a scan, as raw numbers `[length, keys_per_step, ...]` for
    `unpack_keys`.

    All at once, because a hash per step and purpose is a good part of a cheap environment's time;
    and as numbers, because jax's key-reuse checker refuses a vmapped scan over an array of keys.
    """
    return jax.random.key_data(jax.random.split(key, (length, keys_per_step)))


def unpack_keys(key_data: chex.Array, like: chex.PRNGKey) -> tuple[chex.PRNGKey, ...]:
    """The keys of one step of a scan; `like` is a key of the same kind."""
    return tuple(jax.random.wrap_key_data(x, impl=jax.random.key_impl(like)) for x in key_data)


def shuffled_indices(key: chex.PRNGKey, num_epochs: int, size: int) -> chex.Array:
    """Random permutations of range(size), int32 `[num_epochs, size]`.

    `jax.random.permutation` takes several times as long on a CPU. Up to 2^16 elements each is one
    sort of random bits that carry the index in their low half (16 random bits decide, so that about
    1 in 2^16 neighbours keeps its order); above, one sort of pairs.
    """
    bits = jax.random.bits(key, (num_epochs, size), jnp.uint32)
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), bits.shape)
    if size <= 2**16:
        packed = jax.lax.sort((bits & jnp.uint32(0xFFFF0000)) | index)
        return (packed & jnp.uint32(0xFFFF)).astype(jnp.int32)
    return jax.lax.sort((bits, index), num_keys=1)[1].astype(jnp.int32)

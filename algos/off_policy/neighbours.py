"""The nearest of many points, exactly, in pieces that fit into the cache."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from ..core.networks import actor_obs


def keys_of(obs: Any, action: chex.Array, beta: chex.Array | float) -> chex.Array:
    """(β·s, a) as one vector, `[B, D]`: where a transition lies.

    Args:
      obs: what the actor sees, leaves `[B, ...]`.
      action: `[B, d]`.
      beta: weight of the state.
    """
    flat = actor_obs(obs).reshape(len(action), -1)
    return jnp.concatenate([beta * jnp.asarray(flat, jnp.float32), action], axis=-1)


def nearest(
    queries: chex.Array, keys: chex.Array, *, chunk_size: int = 4096
) -> tuple[chex.Array, chex.Array]:
    """The key with the smallest Euclidean distance from each query, the first of equals.

    Args:
      queries: `[B, D]`.
      keys: `[M, D]`.
      chunk_size: keys that are compared at once.

    Returns:
      (index, int32 `[B]`; the squared distance, `[B]`). What is compared is ‖k‖² − 2·q·k, which
      costs one matrix product; with rounding, keys that are closer to each other than 1e-3 of their
      length may be taken for each other. The distance is then computed from the differences.
    """
    num_keys, width = keys.shape
    chunk_size = min(chunk_size, num_keys)
    num_chunks = -(-num_keys // chunk_size)
    padding = num_chunks * chunk_size - num_keys
    squares = jnp.pad(jnp.sum(jnp.square(keys), -1), (0, padding), constant_values=jnp.inf)
    chunks = jnp.pad(keys, ((0, padding), (0, 0))).reshape(num_chunks, chunk_size, width)

    def search(best, chunk):
        value, index = best
        number, keys, squares = chunk
        products = jnp.matmul(queries, keys.T, precision=jax.lax.Precision.HIGHEST)
        scores = squares[None] - 2.0 * products
        place = jax.lax.argmin(scores, 1, jnp.int32)
        score = jnp.min(scores, axis=1)
        found = number * chunk_size + place
        closer = score < value
        return (jnp.where(closer, score, value), jnp.where(closer, found, index)), None

    start = jnp.full(len(queries), jnp.inf), jnp.zeros(len(queries), jnp.int32)
    numbers = jnp.arange(num_chunks, dtype=jnp.int32)
    pieces = numbers, chunks, squares.reshape(num_chunks, chunk_size)
    (_, index), _ = jax.lax.scan(search, start, pieces)
    return index, jnp.sum(jnp.square(queries - keys[index]), axis=-1)

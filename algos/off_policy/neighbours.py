"""The nearest of many transitions, exactly, in pieces that fit into the cache."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ..core.networks import actor_obs


class Pieces(NamedTuple):
    """M transitions among which a neighbour is looked for, in P pieces of C; what is missing of the
    last piece is padded, and is nobody's neighbour.

    Attributes:
      keys: (s, a) as one vector, `[P, C, D]`.
      state2: ‖s‖², `[P, C]`.
      action2: ‖a‖², `[P, C]`; infinite where padded.
    """

    keys: chex.Array
    state2: chex.Array
    action2: chex.Array


class Nearest(NamedTuple):
    """The nearest of M transitions to each of B: its number, int32 `[B]`, its action, `[B, d]`, and
    the squared distance, `[B]`.
    """

    index: chex.Array
    action: chex.Array
    distance2: chex.Array


def keys_of(obs: Any, action: chex.Array) -> chex.Array:
    """(s, a) as one vector, `[B, D]`, of what an actor sees, leaves `[B, ...]`, and `[B, d]`."""
    flat = actor_obs(obs).reshape(len(action), -1)
    return jnp.concatenate([jnp.asarray(flat, jnp.float32), action], axis=-1)


def pieces_of(obs: Any, action: chex.Array, *, chunk_size: int = 4096) -> Pieces:
    """Transitions, leaves `[M, ...]`, in pieces of at most chunk_size."""
    keys = keys_of(obs, action)
    num_keys, width = keys.shape
    chunk_size = min(chunk_size, num_keys)
    num_pieces = -(-num_keys // chunk_size)
    padding = (0, num_pieces * chunk_size - num_keys)
    state, action = jnp.split(keys, [width - action.shape[-1]], axis=-1)

    def cut(squares, value):
        padded = jnp.pad(squares, padding, constant_values=value)
        return padded.reshape(num_pieces, chunk_size)

    return Pieces(
        jnp.pad(keys, (padding, (0, 0))).reshape(num_pieces, chunk_size, width),
        cut(jnp.sum(jnp.square(state), -1), 0.0),
        cut(jnp.sum(jnp.square(action), -1), jnp.inf),
    )


def nearest(pieces: Pieces, obs: Any, action: chex.Array, *, beta: chex.Array | float) -> Nearest:
    """The transition with the smallest Euclidean distance of (β·s, a), the first of equals.

    Args:
      pieces: the transitions.
      obs: what the actor sees, leaves `[B, ...]`.
      action: `[B, d]`.
      beta: weight of the state; it leaves the pieces as they are, so that runs under vmap share
        them.

    Returns:
      The neighbours. What is compared is β²·(‖s'‖² − 2·s·s') + ‖a'‖² − 2·a·a', which costs one
      matrix product; with rounding, keys that are closer to each other than 1e-3 of their length
      may be taken for each other. The distance is then computed from the differences.
    """
    num_pieces, chunk_size, width = pieces.keys.shape
    queries = keys_of(obs, action)
    is_state = jnp.arange(width) < width - action.shape[-1]
    weight = jnp.where(is_state, jnp.square(jnp.float32(beta)), 1.0)[None]
    weighted = weight * queries

    def search(best, piece):
        value, index = best
        number, (keys, state2, action2) = piece
        products = jnp.matmul(weighted, keys.T, precision=jax.lax.Precision.HIGHEST)
        scores = (jnp.square(jnp.float32(beta)) * state2 + action2)[None] - 2.0 * products
        place = jax.lax.argmin(scores, 1, jnp.int32)
        score = jnp.min(scores, axis=1)
        found = number * chunk_size + place
        closer = score < value
        return (jnp.where(closer, score, value), jnp.where(closer, found, index)), None

    start = jnp.full(len(queries), jnp.inf), jnp.zeros(len(queries), jnp.int32)
    numbers = jnp.arange(num_pieces, dtype=jnp.int32)
    (_, index), _ = jax.lax.scan(search, start, (numbers, pieces))
    keys = pieces.keys.reshape(-1, width)[index]
    distance2 = jnp.sum(weight * jnp.square(queries - keys), axis=-1)
    return Nearest(index, keys[:, width - action.shape[-1] :], distance2)

"""Experience replay for environments that are stepped together: a ring of rows, each one step of
all of them.

Rows are time-leading, `[capacity, N, ...]` with N environments, in any pytree; every leaf keeps its
dtype, bfloat16 as `Bits`. A row is written in place, so in a scan or a loop it must be the carry,
and in a jitted function donated; it must never go through `cond` or `where`, which copy all of it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np


class Bits(NamedTuple):
    """A leaf of bfloat16 as it is stored: XLA computes in float32 where a CPU has no bfloat16, and
    would convert the whole ring, forth and back, to write a row of it.

    Attributes:
      bits: uint16.
    """

    bits: chex.Array

    @classmethod
    def of(cls, x: chex.Array) -> "Bits":
        """The bits of an array."""
        return cls(jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint16))

    def read(self) -> chex.Array:
        """The bfloat16 array again."""
        return jax.lax.bitcast_convert_type(self.bits, jnp.bfloat16)


class Replay(NamedTuple):
    """The ring.

    Attributes:
      rows: any pytree, leaves `[capacity, N, ...]`.
      cursor: the row that is written next, int32.
      size: rows that have been written, at most capacity, int32.
    """

    rows: Any
    cursor: chex.Array
    size: chex.Array


def init(row: Any, capacity: int) -> Replay:
    """An empty ring.

    Args:
      row: what one row is like: a pytree of arrays or `jax.ShapeDtypeStruct`s, leaves `[N, ...]`.
      capacity: how many rows.

    Raises:
      ValueError: capacity is below 1.
    """
    if capacity < 1:
        raise ValueError(f"capacity={capacity}: must be at least 1")

    def zeros(x):
        empty = jnp.zeros((capacity, *x.shape), x.dtype)
        return Bits.of(empty) if x.dtype == jnp.bfloat16 else empty

    return Replay(jax.tree.map(zeros, row), cursor=jnp.int32(0), size=jnp.int32(0))


def add(replay: Replay, row: Any) -> Replay:
    """Writes a row over the oldest one; leaves `[N, ...]`."""
    capacity = _capacity(replay)
    return Replay(
        rows=_map(lambda rows, x: _write(rows, x[None], replay.cursor), replay.rows, row),
        cursor=(replay.cursor + 1) % capacity,
        size=jnp.minimum(replay.size + 1, capacity),
    )


def filled(replay: Replay, rows: Any) -> Replay:
    """The ring with these rows alone, oldest first, leaves `[R, N, ...]`, at most its capacity."""
    size = len(jax.tree.leaves(rows)[0])
    rows = jax.tree.map(jnp.asarray, rows)
    return Replay(
        rows=_map(lambda ring, x: _write(ring, x, 0), replay.rows, rows),
        cursor=jnp.int32(size % _capacity(replay)),
        size=jnp.int32(size),
    )


def newest(replay: Replay) -> Any:
    """The row that was written last, leaves `[N, ...]`; zeros if there is none."""
    last = (replay.cursor - 1) % _capacity(replay)
    return _read(lambda rows: jax.lax.dynamic_index_in_dim(rows, last, keepdims=False), replay.rows)


def in_order(replay: Replay) -> Any:
    """What has been written, oldest first, leaves `[size, N, ...]`, numpy; not for a program."""
    cursor, size = int(replay.cursor), int(replay.size)
    order = (cursor - size + np.arange(size)) % _capacity(replay)
    return jax.tree.map(np.asarray, _read(lambda rows: np.asarray(rows)[order], replay.rows))


def sample_places(
    replay: Replay, key: chex.PRNGKey, shape: tuple[int, ...], *, window: int = 1
) -> tuple[Any, Any]:
    """Where to read: windows of consecutive steps of one environment, drawn uniformly with
    replacement.

    No window crosses the head of the ring. Costs O(number of samples), whatever the capacity.

    Args:
      replay: a ring with at least `window` rows written.
      key: a typed key.
      shape: of the sample, `[...]`.
      window: rows in a window.

    Returns:
      (row, env): int32 `[window, ...]`, the places of the rows in the ring, oldest first; and int32
      `[...]`.
    """
    capacity = _capacity(replay)
    num_envs = jax.tree.leaves(replay.rows)[0].shape[1]
    oldest = replay.cursor - replay.size
    draw = jax.random.randint(key, shape, 0, (replay.size - window + 1) * num_envs, jnp.int32)
    start, env = draw // num_envs, draw % num_envs
    steps = jnp.arange(window, dtype=jnp.int32).reshape((window,) + (1,) * len(shape))
    return (oldest + start[None] + steps) % capacity, env


def take(rows: Any, row: chex.Array, env: chex.Array) -> Any:
    """Reads entries: leaves `[capacity, N, ...]` at places `[...]` to leaves `[..., ...]`."""
    return _read(lambda x: x[row, env], rows)


class Sampler(NamedTuple):
    """How minibatches are drawn from a replay; `uniform` is one, and prioritised replay another.

    A sampler's own state is any pytree, which the State of a run carries.

    Attributes:
      init: (replay) -> state, with the rows that have been written so far.
      add: (state, rows) -> state, after the rows `[R]` of the ring were written.
      sample: (state, replay, key, shape, window) -> (row, env, weight): places as `sample_places`
        gives them, `[window, ...]` and `[...]`, and the weight `[...]` of each in the critics'
        loss, or () where all count the same.
      update: (state, row, env, td_error) -> state, after an update: the first row of each window,
        its environment, and its TD error, each `[...]`.
    """

    init: Callable[..., Any]
    add: Callable[..., Any]
    sample: Callable[..., tuple[chex.Array, chex.Array, Any]]
    update: Callable[..., Any]


def _sample_uniformly(state, replay, key, shape, window):
    del state
    return *sample_places(replay, key, shape, window=window), ()


uniform = Sampler(
    init=lambda replay: (),
    add=lambda state, rows: state,
    sample=_sample_uniformly,
    update=lambda state, row, env, td_error: state,
)


def _capacity(replay):
    return jax.tree.leaves(replay.rows)[0].shape[0]


def _map(function, *trees):
    return jax.tree.map(function, *trees, is_leaf=lambda x: isinstance(x, Bits))


def _read(function, rows):
    return _map(
        lambda x: Bits(function(x.bits)).read() if isinstance(x, Bits) else function(x), rows
    )


def _write(ring, rows, cursor):
    if isinstance(ring, Bits):
        return Bits(_write(ring.bits, Bits.of(rows).bits, cursor))
    return jax.lax.dynamic_update_slice_in_dim(ring, rows.astype(ring.dtype), cursor, 0)

"""The replay against a Python list: what is in it, what is drawn, and that nothing copies it."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos.off_policy import replay

N = 3


def row(t):
    """The row of step t: t in every leaf, with the environment's index behind the point."""
    marks = t + jnp.arange(N) / 10.0
    return {
        "obs": jnp.stack([marks, -marks], axis=1),
        "done": jnp.full(N, t % 2 == 0),
        "mark": marks,
    }


def filled(capacity, steps):
    ring = replay.init(row(0), capacity)
    add = jax.jit(replay.add)
    for t in range(steps):
        ring = add(ring, row(t))
    return ring


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 13])
def test_holds_the_last_rows(steps):
    ring = filled(5, steps)
    expected = collections.deque(range(steps), maxlen=5)
    assert ring.size == len(expected)
    oldest = (int(ring.cursor) - int(ring.size)) % 5
    order = [(oldest + i) % 5 for i in range(len(expected))]
    for name in ("obs", "done", "mark"):
        np.testing.assert_array_equal(
            ring.rows[name][np.array(order)], np.stack([row(t)[name] for t in expected])
        )
    np.testing.assert_array_equal(replay.newest(ring)["mark"], row(steps - 1)["mark"])


def test_keeps_the_dtype_of_every_leaf():
    ring = replay.init({"a": jnp.zeros(N, jnp.bfloat16), "b": jnp.zeros((N, 2), jnp.uint8)}, 4)
    third = jnp.full(N, 1 / 3, jnp.float32)
    ring = replay.add(ring, {"a": third, "b": jnp.ones((N, 2), jnp.uint8)})
    first = replay.take(ring.rows, jnp.zeros(N, jnp.int32), jnp.arange(N))
    for each in (replay.newest(ring), first):
        assert each["b"].dtype == jnp.uint8
        assert each["a"].dtype == jnp.bfloat16
        np.testing.assert_array_equal(each["a"], third.astype(jnp.bfloat16))


@pytest.mark.parametrize("steps", [3, 5, 9])
@pytest.mark.parametrize("window", [1, 3])
def test_windows_are_uniform_and_never_cross_the_head(steps, window):
    ring = filled(5, steps)
    place, env = jax.jit(lambda key: replay.sample_places(ring, key, (6000,), window=window))(
        jax.random.key(0)
    )
    marks = np.asarray(replay.take(ring.rows["mark"], place, env[None]))
    step, index = np.round(marks).astype(int), np.round((marks % 1) * 10).astype(int)
    # consecutive steps of one environment
    np.testing.assert_array_equal(step, step[:1] + np.arange(window)[:, None])
    np.testing.assert_array_equal(index, np.broadcast_to(env, index.shape))
    # and all windows that there are, about equally often
    oldest = max(0, steps - 5)
    starts = range(oldest, steps - window + 1)
    counts = collections.Counter(zip(step[0].tolist(), index[0].tolist(), strict=True))
    assert set(counts) == {(start, e) for start in starts for e in range(N)}
    expected = 6000 / len(counts)
    assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_write_is_in_place(dtype):
    ring = replay.init({"obs": jnp.zeros((N, 50), dtype)}, 9_973)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(ring.rows))

    def many(ring, key):
        def step(ring, t):
            ring = replay.add(ring, {"obs": jnp.full((N, 50), t, jnp.float32)})
            place, env = replay.sample_places(ring, jax.random.fold_in(key, t), (32,), window=2)
            return ring, jnp.sum(replay.take(ring.rows["obs"], place, env[None]))

        return jax.lax.scan(step, ring, jnp.arange(5))

    compiled = jax.jit(many, donate_argnums=0).lower(ring, jax.random.key(0)).compile()
    memory = compiled.memory_analysis()
    assert memory.temp_size_in_bytes < size / 10
    assert memory.alias_size_in_bytes >= size
    # On a CPU a whole ring of bfloat16 was converted for each row, inside of a fusion.
    assert not re.findall(r"\[9973,\S* (?:copy|convert)\(", compiled.as_text())


def test_capacity_must_be_positive():
    with pytest.raises(ValueError, match="capacity=0: must be at least 1"):
        replay.init(row(0), 0)

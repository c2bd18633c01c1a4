"""Running moments against numpy, and over more data than float32 can count."""

import jax
import jax.numpy as jnp
import numpy as np

from onejit import envs
from onejit.algos.core import normalize


def test_moments_of_batches_are_the_moments_of_all_data():
    data = np.random.default_rng(0).normal(3.0, 2.0, (6, 10, 4, 3)).astype(np.float32)
    statistics = normalize.init(jnp.zeros(3))
    for batch in data:
        statistics = normalize.update(statistics, jnp.asarray(batch))
    np.testing.assert_allclose(statistics.mean, data.reshape(-1, 3).mean(0), rtol=1e-5)
    np.testing.assert_allclose(statistics.var, data.reshape(-1, 3).var(0), rtol=1e-5)
    assert statistics.count == 240


def test_before_any_data_apply_only_clips():
    statistics = normalize.init(jnp.zeros(2))
    x = jnp.array([[0.5, -2.0], [30.0, -30.0]])
    np.testing.assert_array_equal(normalize.apply(statistics, x), [[0.5, -2.0], [10.0, -10.0]])


def test_apply_standardises_by_hand():
    statistics = normalize.Statistics(jnp.float32(10), jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0]))
    # (3 − 1)/2 = 1, (−1 − 2)/3 = −1
    np.testing.assert_allclose(
        normalize.apply(statistics, jnp.array([[[3.0, -1.0]]])), [[[1.0, -1.0]]], rtol=1e-6
    )


def test_scale_leaves_the_mean_in():
    statistics = normalize.Statistics(jnp.float32(10), jnp.float32(100.0), jnp.float32(4.0))
    np.testing.assert_allclose(normalize.scale(statistics, jnp.array([3.0])), [1.5], rtol=1e-6)


def test_neither_overflows_nor_stalls_after_1e10_observations():
    statistics = normalize.Statistics(jnp.float32(1e10), jnp.zeros(1), jnp.ones(1))
    update = jax.jit(
        lambda s: jax.lax.fori_loop(
            0, 300_000, lambda _, s: normalize.update(s, jnp.full((64, 1), 5.0)), s
        )
    )
    statistics = update(statistics)
    # At the smallest weight 1e-5, 300,000 batches leave e^-3 = 0.0498 of the old mean 0: 5·(1 −
    # 0.0498) = 4.751.
    np.testing.assert_allclose(statistics.mean, 4.751, rtol=1e-3)
    # The mixture's variance is (1 − 0.0498)·0.0498·25 + 0.0498·1 = 1.2328.
    np.testing.assert_allclose(statistics.var, 1.2328, rtol=1e-3)
    assert jnp.isfinite(statistics.count)


def test_works_on_a_dict_of_observations():
    example = {"state": jnp.zeros(2), "privileged_state": jnp.zeros((3, 1))}
    batch = jax.tree.map(lambda x: jnp.ones((5, 4, *x.shape)), example)
    statistics = normalize.update(normalize.init(example), batch)
    assert jax.tree.structure(statistics.mean) == jax.tree.structure(example)
    normalized = normalize.apply(statistics, batch)
    assert jax.tree.map(jnp.shape, normalized) == jax.tree.map(jnp.shape, batch)
    np.testing.assert_allclose(normalized["state"], 0.0)


def test_a_feature_that_wakes_up_late_does_not_saturate_and_a_small_one_does_not_vanish():
    rng = np.random.default_rng(0)
    warm_up = np.stack(
        [np.full(1000, 0.7), rng.normal(0.7, 1e-3, 1000), rng.normal(0.7, 0.1, 1000)], axis=1
    )
    statistics = normalize.update(normalize.init(jnp.zeros(3)), jnp.asarray(warm_up, jnp.float32))
    seen = normalize.apply(statistics, jnp.array([[0.701, 0.701, 0.8]]))
    np.testing.assert_allclose(seen, [[1.0, 1.0, 1.0]], rtol=0.05, atol=0.05)


def test_what_is_no_physical_quantity_is_left_alone():
    space = {"state": envs.Box(-9.0, 9.0, (2,)), "mask": envs.Box(0.0, 1.0, (3,), normalize=False)}
    batch = {"state": jnp.full((5, 4, 2), 7.0), "mask": jnp.ones((5, 4, 3))}
    statistics = normalize.update(normalize.of_space(space), batch)
    assert set(statistics.mean) == {"state"}
    np.testing.assert_allclose(statistics.mean["state"], [7.0, 7.0])
    seen = normalize.apply(statistics, batch)
    np.testing.assert_array_equal(seen["mask"], batch["mask"])
    np.testing.assert_allclose(seen["state"], 0.0, atol=1e-3)
    assert normalize.of_space(space["mask"]) == ()
    assert normalize.of_space({"mask": space["mask"]}) == ()

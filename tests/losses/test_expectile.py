"""The expectile loss at ½, and where its minimum lies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses


def test_at_one_half_it_is_the_square_bit_for_bit():
    q, target = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)

    def slope(loss):
        return jax.jit(jax.vmap(jax.value_and_grad(loss)))(q, target)

    half = slope(lambda q, y: losses.expectile_td_loss(q, y, expectile=0.5))
    jax.tree.map(np.testing.assert_array_equal, half, slope(losses.squared_td_loss))


@pytest.mark.parametrize("expectile", [0.5, 0.9, 0.99])
def test_its_minimum_is_the_expectile_of_the_targets(expectile):
    """Where τ·E(y − q)₊ = (1 − τ)·E(q − y)₊; the mean at ½, above it beyond."""
    target = np.random.default_rng(1).normal(size=2000)
    low, high = target.min(), target.max()
    for _ in range(60):  # bisection, in float64
        q = 0.5 * (low + high)
        above = expectile * np.maximum(target - q, 0.0).mean()
        low, high = (
            (q, high) if above > (1 - expectile) * np.maximum(q - target, 0).mean() else (low, q)
        )

    def total(q):
        losses_ = losses.expectile_td_loss(
            jnp.full(2000, q), jnp.float32(target), expectile=expectile
        )
        return jnp.mean(losses_)

    assert abs(jax.grad(total)(jnp.float32(low))) < 1e-5
    assert low >= target.mean() - 1e-6
    assert (low > target.mean() + 0.5) == (expectile > 0.5)

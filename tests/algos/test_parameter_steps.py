"""Steps of whole parameters: the limits that they have, and pytrees with traced steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos import parameter_steps

close = np.testing.assert_allclose

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": (jnp.array([0.3]),)}


@jax.jit
def descended(params):
    """A step of gradient descent on Σ (x − 1)⁴."""
    slope = jax.grad(lambda p: sum(jnp.sum((x - 1.0) ** 4) for x in jax.tree.leaves(p)))(params)
    return jax.tree.map(lambda x, g: x - 0.1 * g, params, slope)


@pytest.mark.parametrize(("alpha", "num_steps"), [(1.0, 4), (0.0, 1)])
def test_three_fast_steps_and_one_more_are_four_or_one(alpha, num_steps):
    path = [jax.tree.map(lambda x: 0.1 * x, PARAMS)]
    for _ in range(4):
        path.append(descended(path[-1]))
    params = descended(jax.jit(parameter_steps.reposition)(path[0], path[3], alpha=alpha))
    jax.tree.map(functools.partial(close, rtol=1e-6), params, path[num_steps])


def test_the_reference_moves_at_multiples_of_every_and_not_at_the_start():
    ref = jax.tree.map(jnp.zeros_like, PARAMS)
    move = jax.jit(jax.vmap(parameter_steps.moving_reference, in_axes=(None, None, 0)))
    moved = move(PARAMS, ref, jnp.array([0, 1, 511, 512, 513, 1024]))
    expected = np.array([0.0, 0.0, 0.0, 0.6, 0.0, 0.6])
    for leaf, params in zip(jax.tree.leaves(moved), jax.tree.leaves(PARAMS), strict=True):
        close(leaf, np.multiply.outer(expected, params), rtol=1e-6)


def test_a_hard_move_copies_and_between_moves_nothing_of_the_parameters_enters(
    assert_bitwise_equal,
):
    broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), PARAMS)
    assert_bitwise_equal(parameter_steps.moving_reference(broken, PARAMS, 3, every=2), PARAMS)
    ref = jax.tree.map(lambda x: x + 0.123, PARAMS)
    moved = parameter_steps.moving_reference(PARAMS, ref, 4, alpha=1.0, every=2)
    assert_bitwise_equal(moved, PARAMS)


@pytest.mark.parametrize(
    ("mean_grad_sq", "variance_trace", "batch", "expected"),
    [
        (4.0, 0.0, 8, 0.1),  # no noise
        (4.0, 32.0, 8, 0.05),  # .1·4/(4 + 4)
        (4.0, 32.0, 1e12, 0.1),
        (0.0, 32.0, 8, 0.0),
        (0.0, 0.0, 8, 0.0),
    ],
)
def test_snr_step_size_by_hand(mean_grad_sq, variance_trace, batch, expected):
    size = jax.jit(lambda g, v, b: parameter_steps.snr_step_size(g, v, batch=b, scale=0.1))
    value, slope = jax.value_and_grad(size)(mean_grad_sq, variance_trace, batch)
    close(value, expected, rtol=1e-6)
    assert np.isfinite(slope)


def test_snr_step_size_refuses_shapes_that_would_broadcast():
    with pytest.raises(AssertionError):
        parameter_steps.snr_step_size(jnp.ones(3), jnp.ones((3, 1)), batch=8, scale=0.1)

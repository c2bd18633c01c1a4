"""What the losses share: selections, quotients and exponentials that stay finite, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np

from onejit.losses import _numerics

close = np.testing.assert_allclose


def test_select_looks_at_nothing_that_is_masked():
    x = jnp.array([1.0, jnp.nan, jnp.inf, 2.0])
    for mask in (jnp.array([True, False, False, True]), jnp.array([1.0, 0.0, 0.0, 1.0])):
        np.testing.assert_array_equal(_numerics.select(x, mask), [1.0, 0.0, 0.0, 2.0])
        gradient = jax.grad(lambda x, mask=mask: jnp.sum(_numerics.select(x, mask) ** 2))(x)
        np.testing.assert_array_equal(gradient, [2.0, 0.0, 0.0, 4.0])


def test_a_quotient_by_0_is_0_and_so_is_its_gradient():
    numerator, denominator = jnp.array([6.0, 5.0, 0.0]), jnp.array([3.0, 0.0, 0.0])
    np.testing.assert_array_equal(_numerics.safe_divide(numerator, denominator), [2.0, 0.0, 0.0])
    gradients = jax.grad(lambda *a: jnp.sum(_numerics.safe_divide(*a)), argnums=(0, 1))(
        numerator, denominator
    )
    close(gradients, [[1 / 3, 0.0, 0.0], [-2 / 3, 0.0, 0.0]], rtol=1e-6)


def test_the_exponential_of_a_log_ratio_is_clamped_and_flat_beyond():
    values, slopes = jax.vmap(jax.value_and_grad(_numerics.clamped_exp))(
        jnp.array([-jnp.inf, -21.0, 0.5, 21.0, 1e30])
    )
    close(values, np.exp([-20.0, -20.0, 0.5, 20.0, 20.0]), rtol=1e-6)
    close(slopes, [0.0, 0.0, np.exp(0.5), 0.0, 0.0], rtol=1e-6)


def test_what_is_equal_is_centred_to_exactly_0():
    x = jnp.stack([jnp.full(7, 0.1), jnp.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 13.0])])
    expected = [np.zeros(7), [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0, 9.0]]  # the mean is 28/7
    np.testing.assert_array_equal(_numerics.centred(x), expected)


def test_a_standard_deviation_is_exactly_0_of_equal_ones_and_of_one_alone():
    x = jnp.array([[0.1, 0.1, 0.1], [1.0, 2.0, 6.0]])
    close(_numerics.group_std(x), [0.0, np.sqrt((4 + 1 + 9) / 2)], rtol=1e-6)
    np.testing.assert_array_equal(_numerics.group_std(x[:1]), [0.0])
    np.testing.assert_array_equal(_numerics.group_std(x[:, :1]), [0.0, 0.0])


def test_ranks_begin_with_the_largest_and_equal_ones_keep_their_order():
    x = jnp.array([[1.0, 3.0, 1.0, 3.0], [0.0, -jnp.inf, jnp.inf, -1.0]])
    np.testing.assert_array_equal(_numerics.descending_rank(x), [[2, 0, 3, 1], [1, 3, 0, 2]])


def test_a_share_that_misses_a_whole_number_by_rounding_is_it():
    fraction = jnp.array([0.3, 0.1, 0.7, 0.3, 1.0])
    count = jnp.array([50, 30, 10, 49, 7])
    shares = _numerics.share(fraction, count)
    np.testing.assert_array_equal(shares[jnp.array([0, 1, 2, 4])], [15.0, 3.0, 7.0, 7.0])
    assert shares[3] == np.float32(0.3) * np.float32(49.0)
    assert _numerics.share(1, count[0]) == 50.0

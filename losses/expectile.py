"""Regression to an expectile of the target, and not to its mean (Newey and Powell, 1987)."""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


@at_least_float32
def expectile_td_loss(q: Array, target: Array, *, expectile: Scalar) -> Array:
    """Asymmetric squared error of a critic: 2·|expectile − 1[y < Q]|·(Q − y)².

    Above ½ a critic that is below its target weighs more than one that is above, and the minimum
    over many targets lies above their mean, towards their maximum at 1. At ½ it is
    `squared_td_loss`, bit for bit. To be summed over several critics.

    Args:
      q: Q(s, a), `[...]`, in units of return.
      target: y, `[...]`; its gradient is stopped.
      expectile: τ, in (0, 1).

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Newey and Powell 1987; Kostrikov et al. 2022 (arXiv 2110.06169), equation 5, for a
      value function. The factor of 2, with which ½ is the square, is ours.
    """
    chex.assert_equal_shape([q, target])
    error = jax.lax.stop_gradient(target) - q
    weight = 2.0 * jnp.abs(expectile - (error < 0.0))
    return weight * jnp.square(q - jax.lax.stop_gradient(target))

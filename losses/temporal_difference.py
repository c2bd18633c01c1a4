"""Learning a value from its own successor: the target of one step, and the error against it.

What TD3, SAC and StaQ have in common; `td3_target`, `sac_target` and `staq_target` differ in the
value that they bootstrap from.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array


@at_least_float32
def bootstrapped_target(reward: Array, discount: Array, next_value: Array) -> Array:
    """The target of one step, or of n: r + discount·V(s').

    Args:
      reward: r, or a discounted sum of n rewards, `[...]`.
      discount: factor of the bootstrap, γ·(1 − terminated) or its n-step equivalent, `[...]`.
      next_value: estimate of the value of the true successor, `[...]`, in units of return.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Sutton and Barto 2018, section 6.1; Mnih et al. 2015 for the stopped gradient.
    """
    chex.assert_equal_shape([reward, discount, next_value])
    return jax.lax.stop_gradient(reward + discount * next_value)


@at_least_float32
def squared_td_loss(q: Array, target: Array) -> Array:
    """Squared error of a critic: (Q − y)². To be summed over several critics.

    Args:
      q: Q(s, a), `[...]`, in units of return.
      target: y, `[...]`; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Mnih et al. 2015, the loss of algorithm 1; without a factor ½, as there.
    """
    chex.assert_equal_shape([q, target])
    return jnp.square(q - jax.lax.stop_gradient(target))

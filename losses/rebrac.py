"""The losses of ReBRAC (Tarasov et al., 2023, arXiv 2305.09836): TD3+BC with a penalty in the
critics too.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .temporal_difference import bootstrapped_target

Array = chex.Array
Scalar = float | Array


@at_least_float32
def rebrac_target(
    reward: Array,
    discount: Array,
    next_q: Array,
    next_action: Array,
    next_data_action: Array,
    *,
    beta: Scalar,
) -> Array:
    """Target with the distance from the data: r + discount·(Q' − β·Σ_d (ã' − a')²).

    Args:
      reward: r, `[...]`.
      discount: γ·(1 − terminated), `[...]`.
      next_q: the smaller of the target critics at the policy's next action, `[...]`.
      next_action: ã', that action, `[..., d]`.
      next_data_action: a', what was done there in the data, `[..., d]`.
      beta: weight of the penalty, in units of return; with 0 it is TD3's target.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Tarasov et al. 2023, equation 4; the sum over entries is that of the code released with
      it.
    """
    distance = _distance(next_q, next_action, next_data_action)
    return bootstrapped_target(reward, discount, next_q - beta * distance)


@at_least_float32
def rebrac_actor_loss(
    q: Array, action: Array, data_action: Array, *, weight: Scalar, beta: Scalar
) -> Array:
    """The actor's loss: −λ·Q(s, π(s)) + β·Σ_d (π(s) − a)².

    Args:
      q: the smaller of the critics at the actor's action, `[...]`.
      action: π(s), `[..., d]`.
      data_action: a, `[..., d]`; its gradient is stopped.
      weight: λ, `behaviour_weight` with alpha 1.
      beta: weight of the distance.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Tarasov et al. 2023, equation 3, with the normalisation of Q of the code released with
      it.
    """
    return -weight * q + beta * _distance(q, action, data_action)


def _distance(q, action, data_action):
    chex.assert_shape(q, action.shape[:-1])
    chex.assert_equal_shape([action, data_action])
    return jnp.sum(jnp.square(action - jax.lax.stop_gradient(data_action)), axis=-1)

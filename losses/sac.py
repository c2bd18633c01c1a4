"""The losses of Soft Actor-Critic with automatic temperature (Haarnoja et al., 2018, arXiv
1812.05905).

For discrete actions (Christodoulou 2019, arXiv 1910.07207) pass expectations under the policy: Σ_a
π(a)·Q(a) as q and Σ_a π(a)·log π(a), the negative entropy, as log_prob; the formulas are the same.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .temporal_difference import bootstrapped_target

Array = chex.Array
Scalar = float | Array


@at_least_float32
def sac_target(
    reward: Array, discount: Array, next_q: Array, next_log_prob: Array, *, alpha: Scalar
) -> Array:
    """Soft target: r + discount·(Q' − α·log π(a'|s')).

    Args:
      reward: r, or a discounted sum of n rewards, `[...]`.
      discount: factor of the bootstrap, γ·(1 − terminated) or its n-step equivalent, `[...]`.
      next_q: target critic at the true successor and a' drawn from the policy, `[...]`, in units of
        return; the smaller of two in SAC.
      next_log_prob: log π(a'|s'), `[...]`, in nats.
      alpha: temperature, in units of return per nat.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Haarnoja et al. 2018, equations 2 and 3.
    """
    chex.assert_equal_shape([reward, discount, next_q, next_log_prob])
    return bootstrapped_target(reward, discount, next_q - alpha * next_log_prob)


@at_least_float32
def sac_actor_loss(log_prob: Array, q: Array, *, alpha: Scalar) -> Array:
    """α·log π(a|s) − Q(s, a) for a reparameterised action.

    Args:
      log_prob: log π(a|s), `[...]`, in nats, differentiated through the action too.
      q: the critic at that action, `[...]`, in units of return; the smaller of two in SAC.
      alpha: temperature; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Haarnoja et al. 2018, equation 7.
    """
    chex.assert_equal_shape([log_prob, q])
    return jax.lax.stop_gradient(alpha) * log_prob - q


@at_least_float32
def sac_temperature_loss(log_alpha: Array, log_prob: Array, *, target_entropy: Scalar) -> Array:
    """−exp(log_alpha)·(log π(a|s) + target_entropy): raises α where the entropy is below its
    target.

    Args:
      log_alpha: logarithm of the temperature, a scalar.
      log_prob: log π(a|s), `[...]`, in nats; its gradient is stopped.
      target_entropy: the entropy to hold on average, in nats.

    Returns:
      The loss, `[...]`.

    Source: Haarnoja et al. 2018, equation 18, for log_alpha as the parameter; the published code
    drops the factor α in some versions, which rescales the gradient but not its zero.
    """
    return -jnp.exp(log_alpha) * jax.lax.stop_gradient(log_prob + target_entropy)

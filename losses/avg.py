"""What Action Value Gradient (Vasan et al., NeurIPS 2024) minimises: a TD error in units of its own
scale.
"""

import chex
import jax

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


@at_least_float32
def scaled_td_error(q: Array, target: Array, scale: Array) -> Array:
    """(y − Q)/σ; its square is the critic's loss, the actor's is `sac_actor_loss`.

    Args:
      q: Q(s, a), `[...]`, in units of return.
      target: y, `[...]`, as `sac_target` gives it; its gradient is stopped.
      scale: σ, `[...]`, above 0, in units of return; its gradient is stopped.

    Returns:
      The error, `[...]`, without a unit.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Vasan et al. 2024, algorithm 1; the scale is that of Schaul et al. 2021 (arXiv
      2105.05347).
    """
    chex.assert_equal_shape([q, target, scale])
    return (jax.lax.stop_gradient(target) - q) / jax.lax.stop_gradient(scale)


@at_least_float32
def soft_reward(reward: Array, log_prob: Array, *, alpha: Scalar) -> Array:
    """r − α·log π(a|s): what a step is worth to a policy that is paid for its entropy.

    Args:
      reward: r, `[...]`.
      log_prob: log π(a|s) of the action that was taken, `[...]`, in nats.
      alpha: temperature, in units of reward per nat.

    Returns:
      The reward, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Haarnoja et al. 2018 (arXiv 1812.05905), equation 1; its moments and its sums over
      episodes are what the scale of Vasan et al. 2024 is made of.
    """
    chex.assert_equal_shape([reward, log_prob])
    return jax.lax.stop_gradient(reward - alpha * log_prob)

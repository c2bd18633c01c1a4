"""The loss of PROPS's behaviour policy (Corrado and Hanna 2023, arXiv 2311.08290)."""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .ratios import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def props_loss(log_prob: Array, target_log_prob: Array, *, clip_eps: Scalar) -> Array:
    """Makes what was sampled less likely: max(r, clip(r, 1 − clip_eps, 1 + clip_eps)).

    With r the ratio of the behaviour policy to the target policy at a sampled action. An action
    that was sampled more often than the target policy would falls in probability, and others rise;
    below 1 − clip_eps it has no gradient any more, so that one which is rare is not driven out.

    Args:
      log_prob: log π_φ(a|s) under the behaviour policy, which is trained, `[...]`, in nats.
      target_log_prob: log π_θ(a|s) under the policy that data are to look like, `[...]`; data.
      clip_eps: how far below 1 the ratio may be pushed.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Corrado and Hanna 2023, the clipped surrogate: PPO's with an advantage of −1.
    """
    chex.assert_equal_shape([log_prob, target_log_prob])
    ratio = importance_ratio(log_prob, target_log_prob)
    return jnp.maximum(ratio, jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps))

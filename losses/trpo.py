"""The loss of Trust Region Policy Optimization (Schulman et al., 2015, arXiv 1502.05477)."""

import chex

from ._numerics import at_least_float32
from .ratios import importance_ratio

Array = chex.Array


@at_least_float32
def trpo_loss(log_prob: Array, old_log_prob: Array, advantage: Array) -> Array:
    """The surrogate objective, negated: −r·A. What keeps r near 1 is not in it but in the step.

    The ratio r is that of `importance_ratio`. At r = 1 its gradient is that of −log_prob·A, the
    policy gradient.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the three arrays differ in shape.

    Source: Schulman et al. 2015, equation 14.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    return -importance_ratio(log_prob, old_log_prob) * advantage

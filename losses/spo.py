"""The losses of Simple Policy Optimization (Xie et al., ICML 2025, arXiv 2401.16025)."""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .ratios import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def spo_loss(log_prob: Array, old_log_prob: Array, advantage: Array, *, eps: Scalar) -> Array:
    """The surrogate objective with a quadratic penalty on the ratio, negated.

    With r = exp(log_prob − old_log_prob): −(r·A − |A|/(2·eps)·(r − 1)²). At r = 1 its gradient is
    that of −log_prob·A, the policy gradient; it is zero at r = 1 + sign(A)·eps and points back from
    beyond, where PPO's is zero.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).
      eps: distance of the ratio from 1 at which the objective is greatest.

    Returns:
      The loss, `[...]`; its ratio is that of `importance_ratio`, which does not overflow.

    Raises:
      AssertionError: the three arrays differ in shape.

    Source: Xie et al. 2025, the objective of SPO; the released code is the same.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    ratio = importance_ratio(log_prob, old_log_prob)
    return jnp.abs(advantage) / (2.0 * eps) * jnp.square(ratio - 1.0) - ratio * advantage


@at_least_float32
def spo_aligned_loss(
    log_prob: Array, old_log_prob: Array, advantage: Array, *, eps: Scalar
) -> Array:
    """The simplest ε-aligned objective, negated: (r − 1 − sign(A)·eps)².

    It has the same optimal ratio as `spo_loss` and pulls towards it whatever the size of the
    advantage: spo_loss = |A|/(2·eps)·spo_aligned_loss − A − |A|·eps/2. It reaches the optimal ratio
    sooner and raises the surrogate r·A less.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`; only its sign matters.
      eps: distance of the ratio from 1 that is aimed at.

    Returns:
      The loss, `[...]`; its ratio is that of `importance_ratio`, which does not overflow.

    Raises:
      AssertionError: the three arrays differ in shape.

    Source: Xie et al. 2025, the alternative that the paper compares SPO with.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    return jnp.square(importance_ratio(log_prob, old_log_prob) - 1.0 - jnp.sign(advantage) * eps)

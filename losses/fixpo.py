"""The losses of FixPO (Zentner et al., 2023): a penalty on the divergence, with a learned weight.

The penalty is PPO's own second form (Schulman et al., 2017, equation 8).
"""

import chex
import jax

from ._numerics import at_least_float32
from .ratios import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def fixpo_policy_loss(
    log_prob: Array, old_log_prob: Array, advantage: Array, kl: Array, *, beta: Scalar
) -> Array:
    """The surrogate objective with a divergence to the old policy, negated: −r·A +
    beta·KL(π_old‖π).

    The ratio r is that of `importance_ratio`; nothing is clipped. At π = π_old the divergence has
    no gradient, and that of the loss is the policy gradient.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).
      kl: KL(π_old(·|s)‖π(·|s)), `[...]`, in nats: the old policy first, unlike MDPO's;
        differentiated.
      beta: weight of the divergence, in units of the advantage per nat, not negative.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Zentner et al. 2023, the loss of the primary phase; Schulman et al. 2017, equation 8.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage, kl])
    return beta * kl - importance_ratio(log_prob, old_log_prob) * advantage


@at_least_float32
def fixpo_beta_loss(beta: Array, max_kl: Array, *, kl_bound: Scalar, kl_factor: Scalar) -> Array:
    """What moves the weight of the divergence: beta·(kl_bound − kl_factor·max KL).

    Its minimum over beta pushes beta up where the largest divergence exceeds kl_bound/kl_factor.

    Args:
      beta: the weight, `[...]`.
      max_kl: the largest KL(π_old‖π) of a minibatch, `[...]`, in nats; its gradient is stopped.
      kl_bound: ε, the bound of the divergence at every state, in nats.
      kl_factor: C, how far below the bound the largest divergence is to be held.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Zentner et al. 2023, the loss of β.
    """
    chex.assert_equal_shape([beta, max_kl])
    return beta * (kl_bound - kl_factor * jax.lax.stop_gradient(max_kl))

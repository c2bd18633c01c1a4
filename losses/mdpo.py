"""The losses of Mirror Descent Policy Optimization (Tomar et al., ICLR 2022, arXiv 2005.09814).

Entropies of Tsallis come in two conventions: of the joint density of all action dimensions, and, as
in the released code, of each dimension's density for itself, summed. For the Shannon entropy (q =
1) the two are the same.
"""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .distributions import tsallis_log_prob
from .ratios import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def mdpo_on_policy_loss(
    log_prob: Array, old_log_prob: Array, advantage: Array, kl: Array, *, step_size: Scalar
) -> Array:
    """The surrogate objective with a divergence from the old policy, negated: −r·A +
    KL(π‖π_old)/step_size.

    The ratio r is that of `importance_ratio`.
    At π = π_old the divergence has no gradient, and that of the loss is the policy gradient.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).
      kl: KL(π(·|s)‖π_old(·|s)), `[...]`, in nats: the new policy first, unlike TRPO's;
        differentiated.
      step_size: t of mirror descent, in nats per unit of advantage.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Tomar et al. 2022, the on-policy update with the KL divergence as Bregman divergence.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage, kl])
    return kl / step_size - importance_ratio(log_prob, old_log_prob) * advantage


@at_least_float32
def mdpo_off_policy_actor_loss(
    log_prob: Array, old_log_prob: Array, q_value: Array, *, kappa: Scalar, lam: Scalar
) -> Array:
    """κ·log π(a|s) + (λ − κ)·log π_old(a|s) − Q(s, a) for a reparameterised action, with the
    Shannon entropy.

    That is λ·log π − Q, SAC's loss at temperature λ, plus (κ − λ)·(log π − log π_old), whose mean
    is the divergence from the old policy: κ − λ is one over the step size of mirror descent. With κ
    = λ it is SAC.

    Args:
      log_prob: log π(a|s), `[...]`, in nats, differentiated through the action too.
      old_log_prob: log π_old(a|s) of that same action, `[...]`, differentiated through the action.
      q_value: the critic at that action, `[...]`, in units of return.
      kappa: κ, weight of log π, in units of return per nat.
      lam: λ, the temperature of the entropy.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Tomar et al. 2022, the off-policy actor loss, in the form of the released code
    (`kl_coef`, `lam`).
    """
    chex.assert_equal_shape([log_prob, old_log_prob, q_value])
    return kappa * log_prob + (lam - kappa) * old_log_prob - q_value


@at_least_float32
def mdpo_off_policy_tsallis_joint_actor_loss(
    log_prob: Array, old_log_prob: Array, q_value: Array, *, kappa: Scalar, lam: Scalar, q: Scalar
) -> Array:
    """κ·log_q π(a|s) + (2 − q)·(λ − κ)·log_q π_old(a|s) − Q(s, a), with log_q of the joint
    densities.

    Args:
      log_prob: log π(a|s) of all action dimensions together, `[...]`, in nats.
      old_log_prob: log π_old(a|s) of that same action, `[...]`.
      q_value: the critic at that action, `[...]`, in units of return.
      kappa: κ, weight of log_q π.
      lam: λ, the weight of the entropy.
      q: entropic index; 1 is Shannon's. The released code calls 2 − q what is q here, and uses 0 to
        1.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Tomar et al. 2022, the Tsallis entropy as Bregman potential; see the per-dimension form
    for the code's.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, q_value])
    return _tsallis_terms(log_prob, old_log_prob, kappa, lam, q) - q_value


@at_least_float32
def mdpo_off_policy_tsallis_per_dimension_actor_loss(
    log_probs: Array, old_log_probs: Array, q_value: Array, *, kappa: Scalar, lam: Scalar, q: Scalar
) -> Array:
    """The same with log_q of each action dimension's density, summed over the dimensions.

    Args:
      log_probs: log π(a_i|s) of each action dimension, `[..., d]`, in nats.
      old_log_probs: log π_old(a_i|s) of that same action, `[..., d]`.
      q_value: the critic at that action, `[...]`, in units of return.
      kappa: κ, weight of log_q π.
      lam: λ, the weight of the entropy.
      q: entropic index; 1 is Shannon's. The released code calls 2 − q what is q here, and uses 0 to
        1.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the two log-probabilities differ in shape, or q_value is not of their shape
        without the last axis.

    Source: the released code of Tomar et al. 2022 (`tsallis_coeff` = 2 − q), which bounds densities
    below at 1e-6.
    """
    chex.assert_equal_shape([log_probs, old_log_probs])
    chex.assert_shape(q_value, log_probs.shape[:-1])
    return jnp.sum(_tsallis_terms(log_probs, old_log_probs, kappa, lam, q), axis=-1) - q_value


def _tsallis_terms(log_prob, old_log_prob, kappa, lam, q):
    log_q = tsallis_log_prob(log_prob, q=q)
    old_log_q = tsallis_log_prob(old_log_prob, q=q)
    return kappa * log_q + (2.0 - q) * (lam - kappa) * old_log_q

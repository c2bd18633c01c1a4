"""Surrogates without a clip: weighted or penalised, and the mask that takes its place."""

import chex
import jax
import jax.numpy as jnp

from ..._numerics import assert_fits, at_least_float32, clamped_exp, log_softmax

Array = chex.Array
Scalar = float | Array


@at_least_float32
def policy_gradient_loss(log_prob: Array, advantage: Array) -> Array:
    """REINFORCE: −A·log π.

    Args:
      log_prob: log π of the drawn action, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Williams 1992.
    """
    assert_fits(log_prob, advantage)
    return -jax.lax.stop_gradient(advantage) * log_prob


@at_least_float32
def truncated_importance_loss(
    log_ratio: Array, log_prob: Array, advantage: Array, *, cap: Scalar
) -> Array:
    """REINFORCE with an importance weight that is capped, and so never without a gradient.

    −sg(min(ρ, cap))·A·log π, ρ = e^{log_ratio}. With a log-ratio a token it is CISPO's; with sums
    over sequences of log_ratio and log_prob, and a cap of 2, RAPID's, whose baseline is the group's
    mean of ρ·r.

    Args:
      log_ratio: log π − log π_old, `[..., T]` or `[..., 1]`, in nats; not differentiated.
      log_prob: log π of the drawn action, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      cap: greatest weight.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: CISPO (arXiv 2506.13585); after RAPID (arXiv 2510.03515), whose cap is confirmed and
    whose baseline is reconstructed: the paper's exact form was not available.
    """
    assert_fits(log_prob, log_ratio, advantage)
    weight = jnp.minimum(clamped_exp(log_ratio), cap)
    return -jax.lax.stop_gradient(weight * advantage) * log_prob


@at_least_float32
def ratio_variance_loss(log_ratio: Array, advantage: Array, *, coef: Scalar = 0.04) -> Array:
    """The unclipped surrogate with a quadratic penalty on the ratio.

    −(ρ·A − coef·(ρ − 1)²): the gradient is −ρ·(A − 2·coef·(ρ − 1))·∇log π, zero at ρ = 1 +
    A/(2·coef). With coef = |A|/(2ε) it is `spo_loss`. The penalty can be held at a target by a
    coefficient that `dual_step` moves on the mean of (ρ − 1)².

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      coef: weight of the penalty, in units of the advantage, a scalar or `[..., T]`.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: R²VPO (arXiv 2601.03320), with a fixed coefficient as in a re-implementation; the dual
    is after the paper, whose exact form was not available.
    """
    assert_fits(log_ratio, advantage, bounds=(coef,))
    ratio = clamped_exp(log_ratio)
    return coef * jnp.square(ratio - 1.0) - ratio * jax.lax.stop_gradient(advantage)


@at_least_float32
def haepo_loss(log_prob_sum: Array, advantage: Array, *, entropy_coef: Scalar) -> Array:
    """The expected return of a softmax over the group of the sequences' log-probabilities.

    With w = softmax_K(L): −Σ_k w_k·R_k − entropy_coef·H(w). Without the entropy the gradient is
    −w_k·(R_k − Σ w·R). The paper also adds a divergence from a reference policy.

    Args:
      log_prob_sum: L, log π summed over each sequence of a group, `[..., K]`, in nats.
      advantage: R, the returns, standardised over the K, `[..., K]`.
      entropy_coef: weight of the entropy of w.

    Returns:
      The loss per group, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after HAEPO (arXiv 2508.18884): L and w are the paper's; the sign and the coefficient of
    the regulariser are reconstructed, its exact form was not available.
    """
    chex.assert_equal_shape([log_prob_sum, advantage])
    log_weights = log_softmax(log_prob_sum)
    objective = jax.lax.stop_gradient(advantage) - entropy_coef * log_weights
    return -jnp.sum(jnp.exp(log_weights) * objective, axis=-1)


@at_least_float32
def rec_mask(
    log_ratio: Array,
    advantage: Array,
    *,
    mode: str,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.2,
    outer_low: Scalar = 0.6,
    outer_high: Scalar = 2.0,
) -> Array:
    """Which tokens a REINFORCE loss keeps by their ratio; the loss is −A·w·log π times this.

      none      all
      one-side  ρ ≤ 1 + clip_high where A ≥ 0, ρ ≥ 1 − clip_low where A ≤ 0; with w = sg(ρ) PPO
      two-side  1 − clip_low ≤ ρ ≤ 1 + clip_high
      ring      these, and ρ ≤ 1 − outer_low where A ≥ 0, ρ ≥ 1 + outer_high where A ≤ 0

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      mode: one of the four names above, static.
      clip_low: distance of the lower bound from 1.
      clip_high: distance of the upper bound from 1.
      outer_low: distance from 1 of the ratio below which a good action is kept again.
      outer_high: distance from 1 of the ratio above which a bad action is kept again.

    Returns:
      1 where a token is kept, else 0, `[..., T]`, with stopped gradients.

    Raises:
      AssertionError: the arrays differ in shape.
      ValueError: the mode is none of the four.

    Source: REC (arXiv 2509.24203) and Trinity-RFT, where the clips are .4 unless given.
    """
    assert_fits(log_ratio, advantage)
    ratio = clamped_exp(jax.lax.stop_gradient(log_ratio))
    is_good, is_bad = advantage >= 0, advantage <= 0
    above_low, below_high = ratio >= 1.0 - clip_low, ratio <= 1.0 + clip_high
    if mode == "none":
        return jnp.ones_like(ratio)
    if mode == "one-side":
        kept = (is_good & below_high) | (is_bad & above_low)
    elif mode == "two-side":
        kept = above_low & below_high
    elif mode == "ring":
        kept = above_low & below_high
        kept |= is_good & (ratio <= 1.0 - outer_low)
        kept |= is_bad & (ratio >= 1.0 + outer_high)
    else:
        raise ValueError(f"mode={mode!r}: must be one of none, one-side, two-side, ring")
    return kept.astype(ratio.dtype)

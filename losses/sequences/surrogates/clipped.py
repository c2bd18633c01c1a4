"""Surrogates with bounds of the ratio, beyond which the gradient ends or changes."""

import math

import chex
import jax
import jax.numpy as jnp

from ..._numerics import assert_fits, at_least_float32, clamped_exp
from ..reductions import sequence_mean

Array = chex.Array
Scalar = float | Array


@at_least_float32
def clip_surrogate(
    log_ratio: Array,
    advantage: Array,
    *,
    low: Scalar,
    high: Scalar,
    dual_clip: Scalar = math.inf,
) -> Array:
    """The clipped surrogate of PPO, with a bound for either side and one for bad actions' losses.

    With ρ = e^{log_ratio}: L = max(−A·ρ, −A·clip(ρ, low, high)), and where A < 0 at most
    −A·dual_clip. With 1 ∓ ε it is `ppo_clip_loss`.

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      low: lower bound of the ratio, a scalar or `[..., T]`; .8 in GRPO and DAPO.
      high: upper bound of the ratio, a scalar or `[..., T]`; 1.2 in GRPO, 1.28 in DAPO.
      dual_clip: the ratio above which a bad action has no gradient, more than 1; 3 or 10 where it
        is used.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Schulman et al. 2017 (arXiv 1707.06347), equation 7; two bounds as in DAPO (arXiv
    2503.14476); the dual clip is that of Ye et al. 2020 (arXiv 1912.09729).
    """
    assert_fits(log_ratio, advantage, bounds=(low, high))
    advantage = jax.lax.stop_gradient(advantage)
    ratio = clamped_exp(log_ratio)
    loss = jnp.maximum(-advantage * ratio, -advantage * jnp.clip(ratio, low, high))
    return jnp.minimum(loss, jnp.where(advantage < 0, -advantage, jnp.inf) * dual_clip)


@at_least_float32
def soft_upper_clip(
    log_ratio: Array,
    advantage: Array,
    *,
    low: Scalar = 0.8,
    high: Scalar = 1.28,
    dual_clip: Scalar = 3.0,
) -> Array:
    """The clipped surrogate that keeps the gradient of good actions above the upper bound.

    The value is that of `clip_surrogate`; where A > 0 and ρ > high the gradient is −A·high·∇log π:
    −A·high·ρ/sg(ρ).

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      low: lower bound of the ratio, a scalar or `[..., T]`.
      high: upper bound of the ratio, a scalar or `[..., T]`.
      dual_clip: the ratio above which a bad action has no gradient, more than 1.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: AEPO (arXiv 2510.14545), a copy of the released code.
    """
    loss = clip_surrogate(log_ratio, advantage, low=low, high=high, dual_clip=dual_clip)
    ratio = clamped_exp(log_ratio)
    is_kept = (advantage > 0) & (ratio > high)
    return jnp.where(is_kept, loss * (ratio / jax.lax.stop_gradient(ratio)), loss)


@at_least_float32
def asymmetric_surrogate(
    log_ratio: Array,
    advantage: Array,
    *,
    clip_low: Scalar = 0.2,
    clip_high: Scalar = 0.2,
    cap: Scalar = 3.0,
) -> Array:
    """A surrogate that weighs good actions by 1/ρ, so that improbable ones are raised most.

    The gradient is −A·w·∇log π. Where A > 0: w = min(1/ρ, cap), and 0 above ρ = 1 + clip_high.
    Where A < 0: w = min(ρ, cap), and 0 below ρ = 1 − clip_low. The value is −A·w, where w is 0 that
    at the bound. At ρ = 1 the gradient is PPO's.

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      clip_low: distance of the lower bound from 1, a scalar or `[..., T]`.
      clip_high: distance of the upper bound from 1, a scalar or `[..., T]`.
      cap: greatest weight, more than 1.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: ASPO (arXiv 2510.06062). The released code has clips of .2 and .4 by entropy; its mask
    named high-entropy selects the tokens at or below the .8 quantile, which get .2. Deviation:
    where the cap binds the code's value is −A·cap·log π; the gradient is the same.
    """
    assert_fits(log_ratio, advantage, bounds=(clip_low, clip_high))
    advantage = jax.lax.stop_gradient(advantage)
    ratio = clamped_exp(log_ratio)
    is_good = advantage > 0
    bounded = jnp.where(
        is_good, jnp.minimum(ratio, 1.0 + clip_high), jnp.maximum(ratio, 1.0 - clip_low)
    )
    weight = jnp.minimum(jnp.where(is_good, 1.0 / bounded, bounded), cap)
    unit = bounded / jax.lax.stop_gradient(bounded)
    return -advantage * jax.lax.stop_gradient(weight) * unit


@at_least_float32
def clipped_log_ratio_loss(
    log_ratio: Array, advantage: Array, *, clip_low: Scalar = 0.2, clip_high: Scalar = 0.2
) -> Array:
    """The policy gradient without the ratio as its factor, clipped where PPO's is.

    With x = log ρ: −min(A·x, A·clip(x, ln(1 − clip_low), ln(1 + clip_high))), of which the gradient
    is −A·∇log π or 0. The paper adds α·`policy_drift`. Its clip may widen along a response of n
    tokens: at the i-th ε·(λ + (1 − λ)·i/n), as an array.

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, `[..., T]` or `[..., 1]`.
      clip_low: distance of the ratio's lower bound from 1, a scalar or `[..., T]`.
      clip_high: distance of the ratio's upper bound from 1, a scalar or `[..., T]`.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: CPGD (arXiv 2505.12504), equations 1, 2 and 5; α and λ were not in what could be read.
    """
    assert_fits(log_ratio, advantage, bounds=(clip_low, clip_high))
    advantage = jax.lax.stop_gradient(advantage)
    clipped = jnp.clip(log_ratio, jnp.log1p(-clip_low), jnp.log1p(clip_high))
    return -jnp.minimum(advantage * log_ratio, advantage * clipped)


@at_least_float32
def geometric_mean_surrogate(
    log_ratio: Array,
    advantage: Array,
    mask: Array,
    *,
    clip_low: Scalar = 0.4,
    clip_high: Scalar = 0.4,
) -> Array:
    """The clipped surrogate of a sequence with the geometric mean of its tokens' ratios.

    With x = log ρ, bounded on the side that the sign of A allows, min(x, clip_high) if A > 0 and
    max(x, −clip_low) if A < 0: −A·exp(mean_t x). The gradient of a token that is not bounded is L
    over the number of tokens.

    Args:
      log_ratio: log π − log π_old, `[..., T]`, in nats.
      advantage: A, one a sequence, `[...]`.
      mask: 1 (or True) where a token counts, `[..., T]`.
      clip_low: the log-ratio is at least −clip_low where A < 0.
      clip_high: the log-ratio is at most clip_high where A > 0.

    Returns:
      The loss per sequence, `[...]`; 0 where no token is valid. The paper's aggregate is the mean.

    Raises:
      AssertionError: log_ratio and mask differ in shape, or the advantage is not one a sequence.

    Source: GMPO (arXiv 2507.20673), as in verl.
    """
    chex.assert_equal_shape([log_ratio, mask])
    chex.assert_shape(advantage, log_ratio.shape[:-1])
    advantage = jax.lax.stop_gradient(advantage)
    is_good = (advantage > 0)[..., None]
    bounded = jnp.where(
        is_good, jnp.minimum(log_ratio, clip_high), jnp.maximum(log_ratio, -clip_low)
    )
    loss = -advantage * clamped_exp(sequence_mean(bounded, mask))
    return jnp.where(jnp.any(mask, axis=-1), loss, 0.0)

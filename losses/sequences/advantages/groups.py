"""Each sequence of a group against the others of it, and groups against the batch that they are in.

A group is the last axis, G answers to one prompt. A group of one has no advantage (verl gives it
its reward), nor has one of equal rewards, exactly.
"""

import math

import chex
import jax
import jax.numpy as jnp

from ..._numerics import (
    as_float,
    at_least_float32,
    centred,
    group_var,
    less_the_others,
    safe_divide,
    select,
    standardised,
)
from ..reductions import masked_whiten

Array = chex.Array
Scalar = float | Array


@at_least_float32
def group_normalize(rewards: Array, *, eps: Scalar = 1e-6) -> Array:
    """How many standard deviations a reward is above the mean of its group: (r − mean)/(std + eps).

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      eps: added to the standard deviation, which is that of G − 1; above 0, in units of reward.

    Returns:
      The advantages, `[..., G]`, with stopped gradients; of a group they sum to 0.

    Source: GRPO (arXiv 2402.03300); std and eps as in verl and TRL.
    """
    return jax.lax.stop_gradient(standardised(as_float(rewards), eps=eps))


@at_least_float32
def group_center(rewards: Array) -> Array:
    """A reward minus the mean of its group: r − mean.

    Args:
      rewards: r, one number a sequence, `[..., G]`.

    Returns:
      The advantages, `[..., G]`, in units of reward, with stopped gradients; of a group they sum to
      0.

    Source: Dr. GRPO (arXiv 2503.20783).
    """
    return jax.lax.stop_gradient(centred(as_float(rewards)))


@at_least_float32
def leave_one_out(rewards: Array) -> Array:
    """A reward minus the mean of the others of its group: G/(G − 1)·(r − mean).

    Args:
      rewards: r, one number a sequence, `[..., G]`.

    Returns:
      The advantages, `[..., G]`, in units of reward, with stopped gradients; of a group they sum to
      0.

    Source: RLOO (arXiv 2402.14740).
    """
    return jax.lax.stop_gradient(less_the_others(as_float(rewards)))


@at_least_float32
def whitened_group_center(rewards: Array, *, eps: Scalar = 1e-8) -> Array:
    """`group_center` over its standard deviation in the whole batch, of all groups.

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      eps: added to the variance, above 0, in units of reward squared.

    Returns:
      The advantages, `[..., G]`, with stopped gradients; of a group they sum to 0.

    Source: REINFORCE++ with baseline (arXiv 2501.03262); verl whitens tokens, so that long answers
    weigh more in its standard deviation.
    """
    advantage = centred(as_float(rewards))
    whitened = masked_whiten(advantage, jnp.ones_like(advantage, bool), eps=eps)
    return jax.lax.stop_gradient(whitened)


@at_least_float32
def best_minus_second(rewards: Array) -> Array:
    """The best of a group gets its reward minus the second best, all others 0.

    That is what the greatest reward of the group would lose without the sequence.

    Args:
      rewards: r, one number a sequence, `[..., G]`.

    Returns:
      The advantages, `[..., G]`, in units of reward, with stopped gradients; all 0 where two are
      best.

    Source: the advantage of Pass@k in verl, after Tang et al. 2025 (arXiv 2503.19595); verl can
    divide it by the standard deviation.
    """
    rewards = as_float(rewards)
    size = rewards.shape[-1]
    ascending = jnp.sort(rewards, axis=-1)
    lead = ascending[..., -1:] - ascending[..., -min(size, 2), None]
    best = jax.nn.one_hot(jnp.argmax(rewards, axis=-1), size, dtype=rewards.dtype)
    return jax.lax.stop_gradient(best * lead)


@at_least_float32
def segment_normalize(
    rewards: Array, segment: Array, *, num_segments: int, eps: Scalar = 1e-6
) -> Array:
    """`group_normalize` of groups that lie scattered, and may differ in size.

    A group is what has the same key; the caller makes one number of prompt, turn and agent.

    Args:
      rewards: r, one number a sequence, `[B]`.
      segment: key of the group of each, integers, `[B]`. One below 0, or of num_segments and above,
        is in no group, and has the advantage 0.
      num_segments: number of keys, static.
      eps: added to the standard deviation, which is that of n − 1; above 0, in units of reward.

    Returns:
      The advantages, `[B]`, with stopped gradients; 0 for one that is alone with its key.

    Raises:
      AssertionError: the arrays differ in shape, or have more than one axis.

    Source: the grouping by agent and turn of AT-GRPO (arXiv 2510.11062).
    """
    chex.assert_rank([rewards, segment], 1)
    chex.assert_equal_shape([rewards, segment])
    inside = (segment >= 0) & (segment < num_segments)
    key = jnp.where(inside, segment, num_segments)

    def total(x):
        return jax.ops.segment_sum(x, key, num_segments + 1)[key]

    rewards = select(as_float(rewards), inside)
    count = total(jnp.ones_like(rewards))
    differences = rewards - jax.ops.segment_max(rewards, key, num_segments + 1)[key]
    centre = differences - total(differences) / count
    std = jnp.sqrt(total(jnp.square(centre)) / jnp.maximum(count - 1.0, 1.0))
    return jax.lax.stop_gradient(select(centre / (std + eps), inside))


@at_least_float32
def token_weighted_normalize(
    rewards: Array, lengths: Array, *, fallback: Scalar = 5.0, eps: Scalar = 1e-6
) -> Array:
    """Mean and standard deviation of the tokens of a group, each with the reward of its sequence.

    mean = Σ_i n_i·r_i/Σ_i n_i and var = Σ_i n_i·(r_i − mean)²/Σ_i n_i, so that long answers weigh
    more: (r − mean)/(std + eps). A group in which one of these is of the size of fallback, or
    beyond, has those of `group_normalize` instead.

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      lengths: n, valid tokens of each sequence, `[..., G]`. A sequence of none does not count.
      fallback: the size of an advantage at which its group is normalised by sequence.
      eps: added to the standard deviations, above 0, in units of reward.

    Returns:
      The advantages, `[..., G]`, with stopped gradients; 0 for a sequence without tokens.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: HAPO (arXiv 2509.16591), as released: the whole group falls back.
    """
    chex.assert_equal_shape([rewards, lengths])
    rewards, lengths = as_float(rewards), as_float(lengths)
    centre = centred(rewards, lengths)
    weights = safe_divide(lengths, jnp.sum(lengths, axis=-1, keepdims=True))
    centre = select(centre - jnp.sum(weights * centre, axis=-1, keepdims=True), lengths)
    std = jnp.sqrt(jnp.sum(weights * jnp.square(centre), axis=-1, keepdims=True))
    by_token = centre / (std + eps)
    by_sequence = standardised(rewards, lengths, eps=eps)
    too_large = jnp.any(jnp.abs(by_token) >= fallback, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(too_large, by_sequence, by_token))


@at_least_float32
def beta_normalize(rewards: Array) -> Array:
    """`group_center`, weighed by how rare the success rate of the group is in the batch.

    With p the mean of a group, m and v mean and variance (of N − 1) of p in the batch, t =
    m(1 − m)/v − 1: the weight is 1/BetaPDF(p; α, β), at most 1e6, with α = max(1, 1 + t·m/3) and
    β = max(1, 1 + t·(1 − m)/3). Where p does not vary, or N is 1, α = β = 1: the weight is 1.

    Args:
      rewards: r in [0, 1], `[N, G]`: all groups of the batch.

    Returns:
      The advantages, `[N, G]`, with stopped gradients; of a group they sum to 0.

    Raises:
      AssertionError: the rewards have not two axes.

    Source: BNPO (arXiv 2506.02864) and its released code. TRL's loss_type "bnpo" is no more than a
    mean over tokens.
    """
    chex.assert_rank(rewards, 2)
    rewards = as_float(rewards)
    rate = jnp.clip(jnp.mean(rewards, axis=-1), 0.0, 1.0)
    mean = jnp.mean(rate)
    strength = safe_divide(mean * (1.0 - mean), group_var(rate)) - 1.0
    alpha = jnp.maximum(1.0, 1.0 + strength * mean / 3.0)
    beta = jnp.maximum(1.0, 1.0 + strength * (1.0 - mean) / 3.0)
    rarity = -jax.scipy.stats.beta.logpdf(rate, alpha, beta)
    weight = jnp.exp(jnp.minimum(rarity, math.log(1e6)))
    return jax.lax.stop_gradient(weight[:, None] * centred(rewards))

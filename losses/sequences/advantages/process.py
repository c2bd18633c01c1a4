"""Advantages out of rewards for every token or step, which a second model gives by being trained on
outcomes alone.
"""

import chex
import jax
import jax.numpy as jnp

from ..._numerics import as_float, at_least_float32, less_the_others, safe_divide, select
from ..reductions import masked_whiten, sequence_mean

Array = chex.Array
Scalar = float | Array


@at_least_float32
def implicit_process_rewards(log_prob: Array, ref_log_prob: Array, *, beta: Scalar = 0.05) -> Array:
    """The reward of a token by a model that was trained on outcomes: β·(log π_φ − log π_ref).

    Their sum is the model's logit of the sequence being right; `preferences.outcome_cross_entropy`
    trains it.

    Args:
      log_prob: log π_φ of the token under the reward model, `[..., T]`, in nats.
      ref_log_prob: log π_ref of it, `[..., T]`.
      beta: β, above 0.

    Returns:
      The rewards, `[..., T]`, with stopped gradients.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: PRIME (arXiv 2502.01456).
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    return jax.lax.stop_gradient(beta * (log_prob - ref_log_prob))


@at_least_float32
def process_advantage(
    process_rewards: Array,
    outcome: Array,
    mask: Array,
    *,
    process_coef: Scalar,
    outcome_coef: Scalar,
) -> Array:
    """Returns of two rewards, each against the other sequences of the group, whitened. Batch.

    A token earns process_coef·(q_t − the mean over the other sequences of their mean q), and the
    last one outcome_coef·`leave_one_out(outcome)` besides; what a token and all after it earn is
    whitened over the batch.

    Args:
      process_rewards: q, one number a token, `[..., G, T]`; may hold NaN where it is masked.
      outcome: whether the sequence is right, or its reward, `[..., G]`.
      mask: 1 (or True) where a token counts, `[..., G, T]`. A sequence without one is no member of
        the group; one that is alone has a baseline of 0.
      process_coef: weight of the first, at least 0.
      outcome_coef: weight of the second, at least 0; the paper has 5 for both.

    Returns:
      The advantages, `[..., G, T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: rewards and mask differ in shape, or the outcome is not of that shape without
        time.

    Source: PRIME (arXiv 2502.01456). The code in verl weighs q_t by G/(G − 1), and subtracts the
    mean of all G times as much.
    """
    chex.assert_equal_shape([process_rewards, mask])
    chex.assert_shape(outcome, mask.shape[:-1])
    valid = jnp.asarray(mask, bool)
    member = jnp.any(valid, axis=-1)
    means = sequence_mean(as_float(process_rewards), valid)
    others = jnp.sum(member, axis=-1, keepdims=True) - member
    baseline = safe_divide(jnp.sum(means, axis=-1, keepdims=True) - means, others)
    earned = process_coef * select(process_rewards - baseline[..., None], valid)
    remaining = jax.lax.cumsum(valid.astype(jnp.int32), axis=valid.ndim - 1, reverse=True)
    last = valid & (remaining == 1)
    at_the_end = outcome_coef * less_the_others(as_float(outcome), member)
    earned = earned + jnp.where(last, at_the_end[..., None], 0.0)
    returns = jax.lax.cumsum(earned, axis=earned.ndim - 1, reverse=True)
    return jax.lax.stop_gradient(masked_whiten(returns, valid))


@at_least_float32
def step_rewards(
    process_rewards: Array, segment: Array, mask: Array, *, num_segments: int
) -> Array:
    """Sums of the rewards of the tokens of each step: Σ_{t in step s} q_t.

    Args:
      process_rewards: q, one number a token, `[..., T]`; may hold NaN where it is masked.
      segment: number of the step that a token belongs to, from 0, integers, `[..., T]`.
      mask: 1 (or True) where a token counts, `[..., T]`.
      num_segments: S, the number of steps, static. Tokens of others are left out.

    Returns:
      The sums, `[..., S]`, with stopped gradients; 0 for a step without a valid token.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: iStar (arXiv 2509.19199).
    """
    chex.assert_equal_shape([process_rewards, segment, mask])
    rewards = select(as_float(process_rewards), mask)[..., None]
    inside = jax.nn.one_hot(segment, num_segments, dtype=bool)
    return jax.lax.stop_gradient(jnp.sum(jnp.where(inside, rewards, 0.0), axis=-2))


@at_least_float32
def step_advantage(
    process_rewards: Array,
    outcome: Array,
    segment: Array,
    mask: Array,
    *,
    num_segments: int,
    step_coef: Scalar = 1.0,
) -> Array:
    """A sequence against the others of its group, plus each step of it against all their steps.

    `leave_one_out(outcome)` + step_coef·the sum of q over the step, minus the mean of those of all
    other steps of the group, at all tokens of the step.

    Args:
      process_rewards: q, one number a token, `[..., G, T]`, as `implicit_process_rewards` gives it;
        may hold NaN where it is masked.
      outcome: reward of the sequence, `[..., G]`.
      segment: number of the step that a token belongs to, from 0, integers, `[..., G, T]`.
      mask: 1 (or True) where a token counts, `[..., G, T]`. A sequence without one is no member of
        the group.
      num_segments: the greatest number of steps, static.
      step_coef: weight of the steps, at least 0.

    Returns:
      The advantages, `[..., G, T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: the first, third and fourth differ in shape, or the outcome is not of that
        shape without time.

    Source: iStar (arXiv 2509.19199). The released code takes one step of each sequence into its
    mean; an option of it, to divide the step rewards by their greatest return, is left out.
    """
    chex.assert_equal_shape([process_rewards, segment, mask])
    chex.assert_shape(outcome, mask.shape[:-1])
    valid = jnp.asarray(mask, bool)
    sums = step_rewards(process_rewards, segment, valid, num_segments=num_segments)
    present = step_rewards(valid, segment, valid, num_segments=num_segments) > 0
    group = (*sums.shape[:-2], -1)
    steps = less_the_others(sums.reshape(group), present.reshape(group)).reshape(sums.shape)
    inside = jax.nn.one_hot(segment, num_segments, dtype=bool)
    of_token = jnp.sum(jnp.where(inside, steps[..., None, :], 0.0), axis=-1)
    episode = less_the_others(as_float(outcome), jnp.any(valid, axis=-1))
    return jax.lax.stop_gradient(select(episode[..., None] + step_coef * of_token, valid))

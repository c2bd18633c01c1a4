"""Masks and weights that a loss is multiplied by; the masks are made in `masks`."""

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32, log_softmax, safe_divide, select
from ..ratios import approx_kl
from .masks import (
    advantage_log_prob_covariance,
    covariance_clip_mask,
    entropy_above,
    max_variance_subset,
    second_moment_mask,
    spread_mask,
    top_advantage_mask,
    top_entropy_mask,
    top_fraction_mask,
    void_turn_mask,
)
from .reductions import masked_mean, sequence_mean

__all__ = [
    "advantage_log_prob_covariance",
    "conflict_weights",
    "covariance_clip_mask",
    "curvature_shifts",
    "dependency",
    "duration_weights",
    "entropy_above",
    "entropy_advantage_weights",
    "max_variance_subset",
    "second_moment_mask",
    "spread_mask",
    "top_advantage_mask",
    "top_entropy_mask",
    "top_fraction_mask",
    "trajectory_weight",
    "void_turn_mask",
]

Array = chex.Array
Scalar = float | Array


@at_least_float32
def entropy_advantage_weights(
    advantage: Array, entropy: Array, *, alpha: Scalar, temperature: Scalar
) -> Array:
    """A softmax over the group of advantage and entropy: softmax_G((A + alpha·H)/temperature).

    It multiplies a loss that is then summed over the group. Per step it is this under `vmap` over
    time, with −inf for what is masked.

    Args:
      advantage: A of each sample of a group, `[..., G]`; −inf leaves it out.
      entropy: H of the policy, `[..., G]`, in nats; −inf leaves out, too.
      alpha: what a nat is worth in units of advantage; tuned for each task.
      temperature: above 0, in units of advantage; tuned for each task, inf gives the mean.

    Returns:
      The weights, `[..., G]`, with stopped gradient; they sum to 1, or are 0 where all are left
      out.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: EGSW (arXiv 2503.22456), the formula as reviews quote it.
    """
    chex.assert_equal_shape([advantage, entropy])
    left_out = (advantage == -jnp.inf) | (entropy == -jnp.inf)
    score = jnp.where(left_out, -jnp.inf, advantage + alpha * entropy)
    below = (score - jnp.max(score, axis=-1, keepdims=True)) / temperature
    weights = jax.nn.softmax(jnp.where(left_out, -jnp.inf, below), axis=-1)
    return jax.lax.stop_gradient(jnp.where(left_out, 0.0, weights))


@at_least_float32
def dependency(log_prob: Array, masked_log_prob: Array) -> Array:
    """How much an action depended on what was hidden: e^d − d − 1, d = masked_log_prob − log_prob.

    d is clamped to ±20 and the result to [0, 10]. Any policy will do whose observation can be
    ablated.

    Args:
      log_prob: log π(a|s), `[...]`, in nats.
      masked_log_prob: log π(a|s without what is hidden), `[...]`.

    Returns:
      The dependency, `[...]`, in nats, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: VPPO (arXiv 2510.09285), and its released code.
    """
    chex.assert_equal_shape([log_prob, masked_log_prob])
    d = jnp.clip(masked_log_prob - log_prob, -20.0, 20.0)
    return jax.lax.stop_gradient(jnp.clip(approx_kl(d, jnp.zeros_like(d)), 0.0, 10.0))


@at_least_float32
def trajectory_weight(dependency: Array, mask: Array, *, floor: Scalar = 0.9) -> Array:
    """A weight of each row that grows with its mean dependency, mean 1 over the batch.

    With x the row's mean: floor + (1 − floor)·(x − min x)/mean(x − min x); 1 where all x are equal.

    Args:
      dependency: of each token, `[..., T]`, as `dependency` gives it, or another measure.
      mask: 1 (or True) where a token counts, `[..., T]`.
      floor: the weight of the row that depends least, in [0, 1].

    Returns:
      The weights, `[...]`, with stopped gradient; 0 for a row without a valid token, which is not
      counted.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: VPPO (arXiv 2510.09285), which scales x to [0, 1] first: the scale cancels.
    """
    row_mean = sequence_mean(dependency, mask)
    counted = jnp.any(jnp.asarray(mask, bool), axis=-1)
    above = select(row_mean - jnp.min(jnp.where(counted, row_mean, jnp.inf)), counted)
    average = masked_mean(above, counted)
    weight = jnp.where(average > 0, floor + (1.0 - floor) * safe_divide(above, average), 1.0)
    return jax.lax.stop_gradient(select(weight, counted))


@at_least_float32
def conflict_weights(tokens: Array, advantage: Array, mask: Array) -> Array:
    """Spares what good and bad responses have in common: weight 0 in the bad, 2 in the good ones.

    A token conflicts if the same one stands at the same place of a response of the group whose
    advantage has the opposite sign, places counted among the valid tokens. Of these count the
    unbroken run from the left end, and the one from the right end with places counted from there.

    Args:
      tokens: ids, int, `[..., G, T]`.
      advantage: of each response, `[..., G]`; only its sign matters, 0 is neither.
      mask: 1 (or True) where a token counts, `[..., G, T]`.

    Returns:
      The weights, `[..., G, T]`: 0 or 2 at conflicts, 1 at other valid tokens, 0 where it is
      masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: GTPO (arXiv 2508.03772). Its loss is −A'·weight·log π/max(conflicts, 1), A' = (A −
    0.1·H)·1[H ≤ 0.7], H the mean entropy of the response: 0.7 is the released code's constant, the
    readme derives it from the entropy at the start. That code gives 4 to a token of a good response
    that is in both runs.
    """
    chex.assert_equal_shape([tokens, mask])
    chex.assert_rank(tokens, advantage.ndim + 1)
    chex.assert_equal_shape_prefix([tokens, advantage], advantage.ndim)
    valid = jnp.asarray(mask, bool)
    good, bad = advantage > 0, advantage < 0
    opposite = (good[..., :, None] & bad[..., None, :]) | (bad[..., :, None] & good[..., None, :])
    conflict = _conflicting_prefix(tokens, opposite, valid) | jnp.flip(
        _conflicting_prefix(jnp.flip(tokens, -1), opposite, jnp.flip(valid, -1)), -1
    )
    weight = jnp.where(conflict, jnp.where(good, 2.0, 0.0)[..., None], 1.0)
    return select(weight, valid)


def _conflicting_prefix(tokens: Array, opposite: Array, valid: Array) -> Array:
    order = jnp.argsort(~valid, axis=-1)  # the valid ones first, in their order
    tokens, valid = (jnp.take_along_axis(each, order, axis=-1) for each in (tokens, valid))
    same = tokens[..., :, None, :] == tokens[..., None, :, :]
    shared = same & opposite[..., None] & valid[..., None, :, :]
    run = jnp.cumprod(valid & jnp.any(shared, axis=-2), axis=-1)
    return jnp.take_along_axis(run, jnp.argsort(order, axis=-1), axis=-1).astype(bool)


@at_least_float32
def duration_weights(duration: Array, mask: Array) -> Array:
    """How long each action lasted, over the batch's mean: Δt/mean(Δt).

    Without it a learner that works while actions still run sees short ones more often, by 1/Δt.

    Args:
      duration: Δt, `[..., T]`, in seconds or any other unit, not negative.
      mask: 1 (or True) where there is an action, `[..., T]`.

    Returns:
      The weights, `[..., T]`, with stopped gradient, mean 1 over valid actions; 0 where they are
      masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: "Reinforcement learning for machine learning engineering agents" (arXiv 2509.01684), the
    gradient as a note quotes it.
    """
    chex.assert_equal_shape([duration, mask])
    weight = safe_divide(select(duration, mask), masked_mean(duration, mask))
    return jax.lax.stop_gradient(weight)


@at_least_float32
def curvature_shifts(
    features: Array, logits: Array, action: Array, advantage: Array, update: Array
) -> tuple[Array, Array]:
    """What a step of the last layer would do to the objective and to the policy, to second order.

    With h the features, v = onehot(a) − π, g = A·v⊗h the gradient, F = diag π − ππᵀ and u = Δ·h the
    shift of the logits: objective ⟨g, Δ⟩ + ½A·((v·u)² − uᵀFu), policy ½(v·u)². Their use is to
    accept a sample while low ≤ objective ≤ high and policy ≤ most; the recipes have |objective| <
    0.01 and policy < 1e-4 with GRPO and Adam, 5e-4 and 1e-3 with Dr. GRPO.

    Args:
      features: h, the input of the last layer, `[..., D]`.
      logits: its output, `[..., V]`.
      action: a, int, `[...]`.
      advantage: A, `[...]`.
      update: Δ, the step of the last layer's weights that the sample would make, `[..., V, D]`:
        learning_rate·g, or what the optimiser makes of it.

    Returns:
      (objective_shift, policy_shift), both `[...]` with stopped gradients.

    Raises:
      AssertionError: the arrays do not fit together.

    Source: CAPO (arXiv 2510.00819), and its released code, whose policy shift is that of the drawn
    action, (v·u)², not the expectation uᵀFu.
    """
    chex.assert_equal_shape([action, advantage])
    chex.assert_shape([features, logits], (*advantage.shape, None))
    chex.assert_shape(update, (*advantage.shape, logits.shape[-1], features.shape[-1]))
    probs = jnp.exp(log_softmax(logits))
    shift = jnp.sum(update * features[..., None, :], axis=-1)
    shift = shift - jnp.sum(probs * shift, axis=-1, keepdims=True)
    along = jnp.take_along_axis(shift, action[..., None], axis=-1)[..., 0]
    variance = jnp.sum(probs * jnp.square(shift), axis=-1)
    objective_shift = advantage * (along + 0.5 * (jnp.square(along) - variance))
    return jax.lax.stop_gradient((objective_shift, 0.5 * jnp.square(along)))

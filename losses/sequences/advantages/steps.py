"""Advantages of tokens, turns and ranks: sums of what is to come, and weights by entropy.

Time is last here, `[..., T]`; `egae` takes it to the front for `losses.gae`.
"""

import chex
import jax
import jax.numpy as jnp

from ..._numerics import as_float, at_least_float32, safe_divide, select, standardised
from ...returns import gae, lambda_returns
from ..reductions import masked_mean, masked_whiten

Array = chex.Array
Scalar = float | Array


@at_least_float32
def egae(
    rewards: Array,
    values: Array,
    mask: Array,
    truncated: Array,
    *,
    gamma: Scalar = 1.0,
    gae_lambda: Scalar = 0.95,
) -> tuple[Array, Array]:
    """`losses.gae` of responses of which some are cut before they end.

    A response that has ended bootstraps from 0. A cut one bootstraps from the value of its own last
    state, V(s_{l−1}), in the place of the unknown V(s_l): δ_{l−1} = r_{l−1} + (γ − 1)·V(s_{l−1}).

    Args:
      rewards: r_t, `[..., T]`.
      values: V(s_t), `[..., T]`, in units of return.
      mask: 1 (or True) for the l tokens of the response, the first ones of a row, `[..., T]`.
      truncated: the response was cut behind its last valid token, bool (or 0/1), `[...]`.
      gamma: discount per token, in [0, 1].
      gae_lambda: λ in [0, 1]; 0 is the one-step advantage, 1 the Monte Carlo one.

    Returns:
      (advantages, returns), both `[..., T]` with stopped gradients; returns = advantages + values;
      0 where they are masked.

    Raises:
      AssertionError: the first three differ in shape, or truncated is not of that shape without
        time.

    Source: T-PPO (arXiv 2506.15050); the bootstrap as two notes on it agree.
    """
    chex.assert_equal_shape([rewards, values, mask])
    chex.assert_shape(truncated, rewards.shape[:-1])
    mask, truncated = jnp.asarray(mask, bool), jnp.asarray(truncated, bool)[..., None]
    rewards, values = (select(as_float(x), mask) for x in (rewards, values))
    last = mask & ~jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], axis=-1)
    following = jnp.concatenate([values[..., 1:], values[..., -1:]], axis=-1)
    next_values = jnp.where(last, values, following)
    rows = rewards, values, next_values, last & ~truncated, last & truncated
    time_major = (jnp.moveaxis(x, -1, 0) for x in rows)
    results = gae(*time_major, gamma=gamma, gae_lambda=gae_lambda)
    return tuple(select(jnp.moveaxis(x, 0, -1), mask) for x in results)


@at_least_float32
def turn_normalize(turn_rewards: Array, mask: Array, *, eps: Scalar = 1e-6) -> Array:
    """`group_normalize` over all turns of all sequences of a group.

    Args:
      turn_rewards: r, one number a turn, `[..., G, T]`; may hold NaN where it is masked.
      mask: 1 (or True) where there is a turn, `[..., G, T]`.
      eps: added to the standard deviation, which is that of n − 1; above 0, in units of reward.

    Returns:
      The normalised rewards, `[..., G, T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: IGPO (arXiv 2510.14967), the first half of its advantage; `turn_returns` is the second.
    """
    chex.assert_equal_shape([turn_rewards, mask])
    group = (*mask.shape[:-2], -1)
    flat = standardised(as_float(turn_rewards).reshape(group), mask.reshape(group), eps=eps)
    return jax.lax.stop_gradient(flat.reshape(mask.shape))


@at_least_float32
def turn_returns(turn_rewards: Array, mask: Array, *, gamma: Scalar) -> Array:
    """What a turn and all turns after it earn: Σ_{j≥t} γ^(j−t)·r_j.

    The paper's advantage is `turn_returns(turn_normalize(turn_rewards, mask), mask, gamma=gamma)`.
    Its two released codes do otherwise: one has γ = 1 and subtracts the mean of the group at the
    same turn from the return, the other γ = 0.5 and normalises the return by mean and standard
    deviation of the first turn's.

    Args:
      turn_rewards: r_t, one number a turn, `[..., T]`; the last may be the outcome.
      mask: 1 (or True) where there is a turn, `[..., T]`. A turn that is masked pays nothing, and
        its place counts.
      gamma: γ, discount per turn, in [0, 1].

    Returns:
      The returns, `[..., T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: IGPO (arXiv 2510.14967).
    """
    chex.assert_equal_shape([turn_rewards, mask])
    rewards = jnp.moveaxis(select(as_float(turn_rewards), mask), -1, 0)
    nothing = jnp.zeros_like(rewards)
    returns = lambda_returns(rewards, nothing, nothing, nothing, gamma=gamma, gae_lambda=1.0)
    return select(jnp.moveaxis(returns, 0, -1), mask)


@at_least_float32
def rank_returns(relevance: Array, *, discount: str) -> Array:
    """What a list earns from a rank on: Σ_{j≥k} rel_j/log₂(j + 1), or rel_k alone.

    The advantage compares a rank with the same rank of the other lists of the group:
    `group_normalize(jnp.swapaxes(returns, -1, -2), eps=1e-4)`, swapped back.

    Args:
      relevance: rel of the item at a rank, from the first, `[..., G, L]`; 0 where there is none.
      discount: "log_decay", the sum, or "exp_inf", the exponential decay that leaves only the first
        term; static.

    Returns:
      The returns, `[..., G, L]`, with stopped gradients.

    Raises:
      ValueError: the discount is neither.

    Source: Rank-GRPO (arXiv 2510.20150).
    """
    if discount not in ("log_decay", "exp_inf"):
        raise ValueError(f"discount={discount!r}: must be log_decay or exp_inf")
    returns = as_float(relevance)
    if discount == "log_decay":
        last = returns.ndim - 1
        rank = 1.0 + jax.lax.broadcasted_iota(returns.dtype, returns.shape, last)
        returns = jax.lax.cumsum(returns / jnp.log2(1.0 + rank), axis=last, reverse=True)
    return jax.lax.stop_gradient(returns)


@at_least_float32
def entropy_modulated_advantage(
    advantage: Array,
    step_entropy: Array,
    mask: Array,
    *,
    k: Scalar = 1.0,
    k_future: Scalar = 1.0,
    bonus: Scalar = 0.05,
) -> Array:
    """Confident steps get more of the advantage, and a step before a confident one a bonus. Batch.

    h is the entropy of a step, scaled to [0, 1] by its least and greatest in the batch (0 where all
    are equal), and g = e^{−k·h} over its mean in the batch. A·g + bonus·e^{−k_future·h'} with h' of
    the next step (no bonus for the last), minus the mean of that in the batch.

    Args:
      advantage: A, `[..., T]`, or `[..., 1]` where it is one a sequence.
      step_entropy: mean entropy of the policy in a step, `[..., T]`, in nats.
      mask: 1 (or True) where there is a step, `[..., T]`.
      k: how much certainty counts, at least 0.
      k_future: how much that of the next step does, at least 0.
      bonus: what a next step without any doubt adds, in units of the advantage.

    Returns:
      The advantages, `[..., T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: entropy and mask differ in shape, or the advantage fits neither.

    Source: EMPG (arXiv 2509.09265), by two implementations of others; one has a bonus of 0.05, one
    of 0.1.
    """
    chex.assert_equal_shape([step_entropy, mask])
    chex.assert_shape(advantage, (*mask.shape[:-1], {1, mask.shape[-1]}))
    step_entropy, valid = as_float(step_entropy), jnp.asarray(mask, bool)
    least = jnp.min(step_entropy, where=valid, initial=jnp.inf)
    spread = jnp.max(step_entropy, where=valid, initial=-jnp.inf) - least
    h = safe_divide(select(step_entropy - least, valid), jnp.maximum(spread, 0.0))
    certainty = select(jnp.exp(-k * h), valid)
    g = safe_divide(certainty, masked_mean(certainty, valid))
    ahead = select(jnp.exp(-k_future * h[..., 1:]), valid[..., 1:])
    ahead = jnp.concatenate([ahead, jnp.zeros_like(h[..., :1])], axis=-1)
    modulated = select(select(advantage, valid) * g + bonus * ahead, valid)
    return jax.lax.stop_gradient(select(modulated - masked_mean(modulated, valid), valid))


@at_least_float32
def entropy_scaled_advantage(
    advantage: Array, entropy: Array, mask: Array, *, coef: Scalar = 0.2
) -> Array:
    """The advantage, larger where the policy is less certain than usual. Batch.

    A·(1 + coef·(H − mean)/std), mean and std (of n − 1) over the valid tokens of the batch; A where
    H does not vary.

    Args:
      advantage: A, `[..., T]`, or `[..., 1]` where it is one a sequence.
      entropy: H of the policy at a token, `[..., T]`, in nats.
      mask: 1 (or True) where a token counts, `[..., T]`.
      coef: how much a standard deviation of entropy changes the advantage; at 0 nothing does.

    Returns:
      The advantages, `[..., T]`, with stopped gradients; 0 where they are masked.

    Raises:
      AssertionError: entropy and mask differ in shape, or the advantage fits neither.

    Source: AEPO (arXiv 2510.14545), by a copy of its code.
    """
    chex.assert_equal_shape([entropy, mask])
    chex.assert_shape(advantage, (*mask.shape[:-1], {1, mask.shape[-1]}))
    whitened = masked_whiten(as_float(entropy), mask, eps=1e-30)
    return jax.lax.stop_gradient(select(advantage, mask) * (1.0 + coef * whitened))

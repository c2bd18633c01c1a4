"""Rewards against those of the same prompt, or of all prompts, in earlier updates."""

import chex
import jax
import jax.numpy as jnp

from ..._numerics import as_float, at_least_float32, centred, group_var, safe_divide
from ..reductions import masked_quantile

Array = chex.Array


@at_least_float32
def cumulative_normalize(
    rewards: Array, count: Array, mean: Array, var: Array
) -> tuple[Array, Array, Array]:
    """Advantages by the group and by all that its prompt ever earned, the smaller of two blends.

    A_new and A_tot are r standardised by the group alone and by the history including it. With i
    the count: ((i − 1)/i)·A_new + (1/i)·A_tot and (1/i)·A_new + ((i − 1)/i)·A_tot; of the two it is
    the one of the smaller size, the second where they tie.

    The history is merged with mean and variance (of G − 1) of the group: μ' = μ + (μ_new − μ)/i,
    var' = ((i − 1)·var + var_new + ((i − 1)/i)·(μ_new − μ)²)/i.

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      count: i, how often the prompt has been answered by a group, this time included, `[...]`, at
        least 1.
      mean: μ of the groups before, `[...]`, in units of reward; of no effect at a count of 1.
      var: their variance, `[...]`, in units of reward squared; of no effect at a count of 1.

    Returns:
      (advantages `[..., G]`, μ' `[...]`, var' `[...]`), with stopped gradients. What a deviation of
      0 would standardise is 0.

    Raises:
      AssertionError: the last three are not of the shape of the rewards without their last axis.

    Source: DCPO (arXiv 2509.02333).
    """
    chex.assert_shape([count, mean, var], rewards.shape[:-1])
    rewards, count, mean, var = map(as_float, (rewards, count, mean, var))
    before, now = (count - 1.0) / count, 1.0 / count
    mean, var = (jnp.where(count > 1.0, x, 0.0) for x in (mean, var))
    centre = centred(rewards)
    new_mean = rewards[..., 0] - centre[..., 0]  # exactly r where all are equal
    new_var = group_var(rewards)
    distance = new_mean - mean
    total_mean = mean + now * distance
    total_var = before * var + now * (new_var + before * jnp.square(distance))

    def over_std(x, variance):
        return safe_divide(x, jnp.sqrt(variance)[..., None])

    by_group = over_std(centre, new_var)
    by_all = over_std(centre + (new_mean - total_mean)[..., None], total_var)
    before, now = before[..., None], now[..., None]
    first = before * by_group + now * by_all
    second = now * by_group + before * by_all
    advantage = jnp.where(jnp.abs(first) < jnp.abs(second), first, second)
    return jax.lax.stop_gradient((advantage, total_mean, total_var))


@at_least_float32
def sil_advantage(rewards: Array, history: Array, history_mask: Array | None = None) -> Array:
    """By how much a replayed sequence is better than what is usual now: max(r − median, 0).

    Args:
      rewards: r of sequences out of a replay buffer, `[...]`.
      history: mean rewards of the latest groups, `[M]`; the paper keeps 10240.
      history_mask: 1 (or True) where the history is filled, `[M]`; everywhere unless given.

    Returns:
      The advantages, `[...]`, in units of reward, with stopped gradients; 0 while the history is
      empty.

    Raises:
      AssertionError: the history and its mask differ in shape.

    Source: SPEAR (arXiv 2509.22601) and its released code. Its buffer takes what has an advantage
    above 1, and keeps the latest 2048 for 10 updates.
    """
    if history_mask is None:
        history_mask = jnp.ones_like(history, bool)
    chex.assert_equal_shape([history, history_mask])
    median = masked_quantile(as_float(history), history_mask, q=0.5)
    return jax.lax.stop_gradient(jnp.maximum(as_float(rewards) - median, 0.0))

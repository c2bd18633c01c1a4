"""Losses that regress a log-ratio to what the optimum of a regularised problem says of it."""

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32, centred

Array = chex.Array
Scalar = float | Array


@at_least_float32
def sppo_loss(log_ratio: Array, win_prob: Array, *, beta: Scalar = 1e-3) -> Array:
    """Regresses each response's log-ratio to how often it wins: ½·(log_ratio − (P − ½)/β)².

    Args:
      log_ratio: log π − log π_ref of a response, `[...]`, in nats. The loss of a pair is the sum of
        its two.
      win_prob: P, the probability that it beats another response of the reference, `[...]`: the
        mean of its row of a matrix of wins.
      beta: β, above 0.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: SPPO (arXiv 2405.00675) and its released code, where 1/β is η.
    """
    chex.assert_equal_shape([log_ratio, win_prob])
    return 0.5 * jnp.square(log_ratio - (jax.lax.stop_gradient(win_prob) - 0.5) / beta)


@at_least_float32
def copg_loss(rewards: Array, log_prob: Array, ref_log_prob: Array, *, beta: Scalar) -> Array:
    """Squared differences between all pairs of regularised rewards R = r − β·(log π − log π_ref).

    Σ_{i>j} (R_i − R_j)²/(K − 1) = K/(K − 1)·Σ_i (R_i − mean R)²: 0 where π is the optimum,
    proportional to π_ref·e^{r/β}, on the K candidates, whatever policy drew them.

    Args:
      rewards: r of each candidate, `[..., K]`.
      log_prob: log π of each candidate, `[..., K]`, in nats.
      ref_log_prob: log π_ref of each candidate, `[..., K]`.
      beta: β, above 0, in units of reward.

    Returns:
      The loss, `[...]`; 0 for K = 1.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: CoPG (arXiv 2406.19185), quoted by others; dividing by K − 1 is from a later report of
    the authors' company.
    """
    chex.assert_equal_shape([rewards, log_prob, ref_log_prob])
    rewards, ref_log_prob = jax.lax.stop_gradient((rewards, ref_log_prob))
    regularised = rewards - beta * (log_prob - ref_log_prob)
    size = rewards.shape[-1]
    return size / max(size - 1, 1) * jnp.sum(jnp.square(centred(regularised)), axis=-1)


@at_least_float32
def optimal_value(ref_rewards: Array, *, beta: Scalar = 0.5) -> Array:
    """V* of the regularised problem from draws of the reference: β·log mean_j e^{r_j/β}.

    Args:
      ref_rewards: r of N draws of the reference for one prompt, `[..., N]`; the paper has 8.
      beta: β, above 0, in units of reward: towards 0 it is the maximum, far above the mean.

    Returns:
      V*, `[...]`, in units of reward, with stopped gradient.

    Source: A*-PO (arXiv 2505.20686) and its released code.
    """
    best = jnp.max(ref_rewards, axis=-1)
    below = (ref_rewards - best[..., None]) / beta
    value = best + beta * jnp.log1p(jnp.mean(jnp.expm1(below), axis=-1))
    return jax.lax.stop_gradient(value)


@at_least_float32
def optimal_advantage_loss(
    log_ratio: Array, rewards: Array, value: Array, *, beta: Scalar = 1e-3
) -> Array:
    """Regresses the implicit reward to the optimal advantage: (β·log_ratio − (r − V*))².

    Args:
      log_ratio: log π − log π_ref of a response, `[...]`, in nats.
      rewards: r of that response, `[...]`.
      value: V* of its prompt, of the same rank, or one number; as `optimal_value` gives it.
      beta: β, above 0, in units of reward.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: log_ratio and rewards differ in shape, or value does not fit them.

    Source: A*-PO (arXiv 2505.20686) and its released code, whose two β differ.
    """
    chex.assert_equal_shape([log_ratio, rewards])
    chex.assert_rank(value, {0, rewards.ndim})
    chex.assert_is_broadcastable(jnp.shape(value), rewards.shape)
    advantage = jax.lax.stop_gradient(rewards - value)
    return jnp.square(beta * log_ratio - advantage)

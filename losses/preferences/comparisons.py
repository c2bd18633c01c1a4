"""Losses of a comparison: which of two is better, or how K candidates are scored."""

import chex
import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid

from .._numerics import at_least_float32, clamped_exp
from ..distributions import categorical_kl
from ..sequences.surrogates import clip_surrogate, clipped_log_ratio_loss

Array = chex.Array
Scalar = float | Array


@at_least_float32
def dpo_loss(margin: Array, *, beta: Scalar, label_smoothing: Scalar = 0.0) -> Array:
    """Logistic loss of a pair's implicit rewards, x = β·margin: −(1 − ε)·log σ(x) − ε·log σ(−x).

    Args:
      margin: log-ratio of the better response less that of the worse, `[...]`, in nats.
      beta: β, above 0: the reward is β·log_ratio.
      label_smoothing: ε in [0, ½], the share of pairs that are taken to be the wrong way round.

    Returns:
      The loss, `[...]`.

    Source: DPO (arXiv 2305.18290); the smoothing is that of TRL.
    """
    x = beta * margin
    return -(1.0 - label_smoothing) * log_sigmoid(x) - label_smoothing * log_sigmoid(-x)


@at_least_float32
def ipo_loss(margin: Array, *, beta: Scalar) -> Array:
    """Regresses the margin of a pair to 1/(2β), so that it does not grow for ever.

    Args:
      margin: log-ratio of the better response less that of the worse, `[...]`, in nats. TRL divides
        each log-ratio by the length of its response.
      beta: β, above 0.

    Returns:
      The loss (margin − 1/(2β))², `[...]`.

    Source: IPO (arXiv 2310.12036).
    """
    return jnp.square(margin - 0.5 / beta)


@at_least_float32
def exo_pair_loss(margin: Array, *, beta: Scalar, label_smoothing: Scalar = 1e-3) -> Array:
    """Reverse divergence of a pair's implicit preference from its label: KL((p, 1 − p)‖(1 − ε, ε))
    with p = σ(β·margin).

    Args:
      margin: log-ratio of the better response less that of the worse, `[...]`, in nats.
      beta: β, above 0.
      label_smoothing: ε in (0, 1), the probability of the label's other side.

    Returns:
      The loss, `[...]`, at least 0: `exo_loss` of two whose target is (1 − ε, ε).

    Source: EXO (arXiv 2402.00856) and its released code.
    """
    x = beta * margin
    better = jax.nn.sigmoid(x) * (log_sigmoid(x) - jnp.log1p(-label_smoothing))
    return better + jax.nn.sigmoid(-x) * (log_sigmoid(-x) - jnp.log(label_smoothing))


@at_least_float32
def exo_loss(log_ratio: Array, rewards: Array, *, beta: Scalar, reward_beta: Scalar) -> Array:
    """KL(p‖q) over K candidates, p = softmax(β·log_ratio) and q = softmax(r/β_r).

    Args:
      log_ratio: log π − log π_ref of each candidate, `[..., K]`, in nats.
      rewards: r of each candidate, `[..., K]`.
      beta: β, above 0; the paper has .5 and .1.
      reward_beta: β_r, above 0, in units of reward.

    Returns:
      The loss, `[...]`, at least 0, and 0 where p = q.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: EXO (arXiv 2402.00856) and its released code.
    """
    chex.assert_equal_shape([log_ratio, rewards])
    return categorical_kl(beta * log_ratio, jax.lax.stop_gradient(rewards / reward_beta))


@at_least_float32
def p3o_loss(
    log_ratio: Array, rewards: Array, *, clip_eps: Scalar = 0.2, joint: bool = False
) -> Array:
    """Policy gradient of a pair, which sees the difference d = r₁ − r₂ of its rewards alone.

    With ρ = e^{log_ratio} and x = log ρ₁ − log ρ₂, apart: −½·(min(ρ₁·d, clip(ρ₁)·d) + min(−ρ₂·d,
    −clip(ρ₂)·d)), clipped to 1 ± ε; joint: −½·sg(ρ₁ρ₂)·min(x·d, clip(x)·d), clipped to log(1 ± ε).
    At ρ = 1 the gradient of both is −½·d·∇log(π₁/π₂). Swapping the two changes nothing, but the
    joint loss where it is clipped: log(1 − ε) is not −log(1 + ε).

    Args:
      log_ratio: log π − log π_old of the two responses, `[..., 2]`, in nats.
      rewards: r of the two, `[..., 2]`, with a penalty for leaving the reference in it if wanted.
      clip_eps: ε in (0, 1), half-width of the interval of ratios that are not clipped.
      joint: whether the ratio of the two is clipped, or each; static.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape, or the last axis is not a pair.

    Source: after P3O (arXiv 2310.00212): the gradient is the paper's; the exact form of its two
    clips was not available.
    """
    chex.assert_equal_shape([log_ratio, rewards])
    chex.assert_shape(rewards, (..., 2))
    difference = rewards[..., 0] - rewards[..., 1]
    if joint:
        x = log_ratio[..., 0] - log_ratio[..., 1]
        loss = clipped_log_ratio_loss(x, difference, clip_low=clip_eps, clip_high=clip_eps)
        return 0.5 * jnp.prod(jax.lax.stop_gradient(clamped_exp(log_ratio)), axis=-1) * loss
    advantage = jnp.stack([difference, -difference], axis=-1)
    loss = clip_surrogate(log_ratio, advantage, low=1.0 - clip_eps, high=1.0 + clip_eps)
    return 0.5 * jnp.sum(loss, axis=-1)

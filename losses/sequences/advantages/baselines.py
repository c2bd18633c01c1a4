"""Rewards against a number that is not the mean of their group, and what is made of them then."""

import chex
import jax
import jax.numpy as jnp

from ..._numerics import as_float, at_least_float32, centred, safe_divide

Array = chex.Array
Scalar = float | Array


@at_least_float32
def asymmetric_advantage(rewards: Array, *, shift: Scalar = -0.1) -> Array:
    """A reward minus the mean of its group, which is shifted: r − (mean + shift).

    A shift below 0 weighs the good answers more than the bad ones, as stale data asks for. It is
    what equal rewards, and a group of one, are left with: −shift.

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      shift: added to the baseline, in units of reward; at 0 it is `group_center`.

    Returns:
      The advantages, `[..., G]`, in units of reward, with stopped gradients.

    Source: AsymRE as in arXiv 2509.24203 and its released code.
    """
    return jax.lax.stop_gradient(centred(as_float(rewards)) - shift)


@at_least_float32
def opmd_advantage(rewards: Array, *, tau: Scalar = 1.0, baseline: str = "mean") -> Array:
    """A reward minus a baseline, shrunk by the temperature of the mirror descent: (r − b)/(1 + τ).

    The baseline b is that of the group: "mean", or "log_mean_exp", τ·log mean e^{r/τ}, between the
    mean (τ → ∞) and the best (τ → 0).

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      tau: τ, the weight of the divergence from the old policy, above 0, in units of reward.
      baseline: "mean" or "log_mean_exp", static.

    Returns:
      The advantages, `[..., G]`, in units of reward, with stopped gradients.

    Raises:
      ValueError: the baseline is neither.

    Source: OPMD as in arXiv 2509.24203 and its released code.
    """
    if baseline not in ("mean", "log_mean_exp"):
        raise ValueError(f"baseline={baseline!r}: must be mean or log_mean_exp")
    centre = centred(as_float(rewards))
    if baseline == "log_mean_exp":
        below = centre - jnp.max(centre, axis=-1, keepdims=True)
        mean = jnp.mean(jnp.expm1(below / tau), axis=-1, keepdims=True)
        centre = below - tau * jnp.log1p(mean)
    return jax.lax.stop_gradient(centre / (1.0 + tau))


@at_least_float32
def signed_advantage(correct: Array, *, positive_weight: Scalar, negative_weight: Scalar) -> Array:
    """λ⁺ for what is correct and −λ⁻ for what is not; the group does not matter.

    (λ⁺, λ⁻) is (1, 0) for positive reinforcement alone, PSR; (0, 1) for negative alone, NSR; (0.1,
    1) for W-REINFORCE.

    Args:
      correct: whether a sequence is, bool or 0/1, `[...]`.
      positive_weight: λ⁺, at least 0.
      negative_weight: λ⁻, at least 0.

    Returns:
      The advantages, `[...]`, with stopped gradients.

    Source: NSR (arXiv 2506.01347).
    """
    correct = as_float(correct)
    advantage = positive_weight * correct - negative_weight * (1.0 - correct)
    return jax.lax.stop_gradient(advantage)


@at_least_float32
def anchored_advantage(advantage: Array, *, off_policy_scale: Scalar = 1.2) -> Array:
    """Advantages of a group, and after them that of the label: a multiple of the best of them.

    The label is one more answer of the group that the policy has not drawn; it takes no part in the
    advantages of the others.

    Args:
      advantage: of what the policy drew, `[..., G]`, as `group_normalize` gives it.
      off_policy_scale: the label's advantage over the best one.

    Returns:
      The advantages, `[..., G + 1]`, with stopped gradients; the last is the label's.

    Source: TempSamp-R1 (arXiv 2509.18056).
    """
    label = off_policy_scale * jnp.max(advantage, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jnp.concatenate([advantage, label], axis=-1))


@at_least_float32
def gradient_weighted_baseline(rewards: Array, grad_norm_sq: Array) -> Array:
    """The baseline of least variance: the mean of the rewards, weighed by the squared gradients.

    b = Σ_i w_i·r_i/Σ_i w_i with w = ‖∇log π‖²; it minimises Σ_i w_i·(r_i − b)².

    Args:
      rewards: r, one number a sequence, `[..., G]`.
      grad_norm_sq: w, squared norm of the gradient of the log-probability of each sequence, at
        least 0, `[..., G]`.

    Returns:
      The baselines, `[...]`, in units of reward, with stopped gradients; the mean where all w are
      0. A group of one is its own baseline.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the known optimal scalar baseline, after OBLR-PO (arXiv 2511.23310); the paper's exact
    form was not available.
    """
    chex.assert_equal_shape([rewards, grad_norm_sq])
    rewards, weights = as_float(rewards), as_float(grad_norm_sq)
    weights = jnp.where(jnp.any(weights > 0, axis=-1, keepdims=True), weights, 1.0)
    best = jnp.max(rewards, axis=-1)
    below = jnp.sum(weights * (rewards - best[..., None]), axis=-1)
    return jax.lax.stop_gradient(best + safe_divide(below, jnp.sum(weights, axis=-1)))


@at_least_float32
def semantic_entropy(labels: Array) -> Array:
    """How much the answers of a group differ in meaning: −(1/K)·Σ_k log p_k over its K clusters.

    p_k is the share of the answers in a cluster; the mean is over clusters, not answers. The paper
    makes an advantage of it, `group_center(rewards) * (1 - alpha * entropy / log G)` with alpha =
    0.02: uncertain prompts move the policy less.

    Args:
      labels: cluster of each answer, integers, `[..., G]`; only which are equal matters.

    Returns:
      The entropies, `[...]`, in nats: 0 where all are in one cluster, log G where no two are.

    Source: SEED-GRPO (arXiv 2505.12346); that the weight of the advantage is linear is read from
    the text, which tries others too.
    """
    size = labels.shape[-1]
    alike = labels[..., :, None] == labels[..., None, :]
    count = jnp.sum(alike, axis=-1, dtype=jnp.float32)
    clusters = jnp.sum(1.0 / count, axis=-1)
    return jnp.sum(jnp.log(size / count) / count, axis=-1) / clusters

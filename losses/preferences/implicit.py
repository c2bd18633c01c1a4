"""Log-ratios as rewards and as information: what outcomes train them to, what they say of data."""

import chex
import jax
import jax.numpy as jnp
from jax.nn import log_sigmoid

from .._numerics import at_least_float32, less_the_others, log_softmax, safe_divide

Array = chex.Array
Scalar = float | Array


@at_least_float32
def pacs_loss(score: Array, correct: Array) -> Array:
    """Cross-entropy of what is correct, the logit of a response being its score less the mean of
    the others', G/(G − 1)·(score − mean).

    For small scores its gradient is that of −score times the leave-one-out advantage of correct.

    Args:
      score: β·log_ratio of each response of a group, `[..., G]`, the ratio being to the policy that
        drew it; the paper has β = 1. Its gradient reaches the whole group.
      correct: 1 (or True) where a response is right, `[..., G]`.

    Returns:
      The loss, `[..., G]`; log 2 without gradient for a group of one.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: PACS (arXiv 2509.02522) and its released code.
    """
    chex.assert_equal_shape([score, correct])
    return _cross_entropy(less_the_others(score), correct)


@at_least_float32
def outcome_cross_entropy(log_ratio: Array, correct: Array, *, beta: Scalar = 0.05) -> Array:
    """Trains an implicit reward on outcomes: cross-entropy of σ(β·log_ratio) and what is correct.

    Args:
      log_ratio: log π_φ − log π_ref of a response, `[...]`, in nats, the sum over its tokens; φ is
        the model whose ratio is the reward.
      correct: 1 (or True) where the response is right, `[...]`.
      beta: β, above 0.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: PRIME (arXiv 2502.01456) and its released code.
    """
    chex.assert_equal_shape([log_ratio, correct])
    return _cross_entropy(beta * log_ratio, correct)


def _cross_entropy(logit: Array, label: Array) -> Array:
    label = jax.lax.stop_gradient(jnp.asarray(label, logit.dtype))
    return -label * log_sigmoid(logit) - (1.0 - label) * log_sigmoid(-logit)


@at_least_float32
def success_pair_loss(mean_reward: Array, success: Array) -> Array:
    """Ranks the successes of a group above its failures: the mean over all such pairs of
    −log σ(m_success − m_failure).

    Args:
      mean_reward: m of each trajectory, the mean of its implicit rewards, `[..., G]`.
      success: 1 (or True) where it succeeded, `[..., G]`.

    Returns:
      The loss, `[...]`; 0 without gradient where all succeeded or all failed.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: iStar (arXiv 2509.19199) and its released code.
    """
    chex.assert_equal_shape([mean_reward, success])
    success = jnp.asarray(success, bool)
    is_pair = success[..., :, None] & ~success[..., None, :]
    margin = mean_reward[..., :, None] - mean_reward[..., None, :]
    total = jnp.sum(jnp.where(is_pair, -log_sigmoid(margin), 0.0), axis=(-2, -1))
    return safe_divide(total, jnp.sum(is_pair, axis=(-2, -1), dtype=total.dtype))


@at_least_float32
def differential_information(log_prob: Array, ref_log_prob: Array) -> Array:
    """The law of what a policy learned beyond its reference, on K outcomes: q ∝ π/π_ref.

    `categorical_entropy` of the result is how spread that is: log K where the two are equal.

    Args:
      log_prob: log π of each of a finite set of outcomes, `[..., K]`, in nats.
      ref_log_prob: log π_ref of each, `[..., K]`.

    Returns:
      log q, `[..., K]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after DID (arXiv 2505.23761), an analysis: the definition is the paper's.
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    return log_softmax(log_prob - jax.lax.stop_gradient(ref_log_prob))


@at_least_float32
def rejected_log_prob(
    chosen_log_prob: Array, target_log_prob: Array, ref_log_prob: Array, *, beta: Scalar
) -> Array:
    """The law of rejected answers under which preferences have the logit of DPO at π = π*.

    π_l ∝ π_w·(π_ref/π*)^β, so that log(π_w/π_l) is β·log(π*/π_ref) up to a constant.

    Args:
      chosen_log_prob: log π_w, the law of chosen answers, `[..., K]`, in nats.
      target_log_prob: log π*, the policy that is to be learned, `[..., K]`.
      ref_log_prob: log π_ref, `[..., K]`.
      beta: β of `dpo_loss`.

    Returns:
      log π_l, `[..., K]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: after DID (arXiv 2505.23761); the paper's exact form was not available, the derivation
    is ours.
    """
    chex.assert_equal_shape([chosen_log_prob, target_log_prob, ref_log_prob])
    reward = beta * (target_log_prob - jax.lax.stop_gradient(ref_log_prob))
    return log_softmax(chosen_log_prob - reward)

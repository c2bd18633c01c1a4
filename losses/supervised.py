"""Losses on demonstrations, and between demonstrations and reward."""

import math

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32, clamped_exp

Array = chex.Array
Scalar = float | Array

DIVERGENCES = ("total_variation", "pearson", "hellinger", "jensen_shannon")


@at_least_float32
def one_token_rollout_loss(
    log_probs: Array, label: Array, samples: Array, *, miss_reward: Scalar
) -> Array:
    """Policy gradient on K tokens drawn where a demonstration has one: −mean_k R_k·log π(a_k).

    R is 1 for the demonstrated token and miss_reward for all others. For tokens drawn from π itself
    the gradient is on average −(1 − miss_reward)·π(label)·∇log π(label).

    Args:
      log_probs: log π of the whole vocabulary, `[..., T, V]`, in nats.
      label: the demonstrated tokens, int, `[..., T]`.
      samples: K tokens at each position, drawn from a tempered π, int, `[..., T, K]`; the paper has
        K = 256.
      miss_reward: slightly negative in the paper, whose value was not available; at 1 the expected
        gradient is 0.

    Returns:
      The loss, `[..., T]`.

    Raises:
      AssertionError: the shapes do not fit.

    Source: after OTR (arXiv 2509.26313); two reviews agree on the form.
    """
    chex.assert_equal_shape([log_probs[..., 0], samples[..., 0], label])
    reward = jnp.where(samples == label[..., None], 1.0, miss_reward)
    return -jnp.mean(reward * jnp.take_along_axis(log_probs, samples, axis=-1), axis=-1)


@at_least_float32
def one_token_rollout_expectation(
    log_probs: Array, behaviour_probs: Array, label: Array, *, miss_reward: Scalar
) -> Array:
    """What `one_token_rollout_loss` is on average over its draws: −Σ_a μ(a)·R(a)·log π(a).

    Args:
      log_probs: log π of the whole vocabulary, `[..., T, V]`, in nats.
      behaviour_probs: μ, the law that the tokens are drawn from, `[..., T, V]`.
      label: the demonstrated tokens, int, `[..., T]`.
      miss_reward: the reward of all other tokens.

    Returns:
      The loss, `[..., T]`; a token that is never drawn may have a log-probability of −inf.

    Raises:
      AssertionError: the shapes do not fit.

    Source: after OTR (arXiv 2509.26313); with μ = π it is the gradient of DFT (arXiv 2508.05629),
    but for a factor 1 − miss_reward.
    """
    chex.assert_equal_shape([log_probs, behaviour_probs])
    chex.assert_equal_shape([log_probs[..., 0], label])
    behaviour_probs = jax.lax.stop_gradient(behaviour_probs)
    is_label = jax.nn.one_hot(label, log_probs.shape[-1], dtype=bool)
    reward = jnp.where(is_label, 1.0, miss_reward)
    drawn = jnp.where(behaviour_probs > 0, log_probs, 0.0)
    return -jnp.sum(behaviour_probs * reward * drawn, axis=-1)


@at_least_float32
def unified_surrogate(log_prob: Array, denominator_log_prob: Array, advantage: Array) -> Array:
    """Policy gradients and supervised learning in one form: −A·π/π_d, π_d being data.

    π_d = π is the policy gradient, and supervised learning where A is 1; π_d = π_old the surrogate
    of PPO, not clipped; π_d = 1 (a log of 0) gives −A·π.

    Args:
      log_prob: log π of what was done or demonstrated, `[...]`, in nats.
      denominator_log_prob: log π_d of it, `[...]`.
      advantage: A, `[...]`.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the unified estimator of HPT (arXiv 2509.04419).
    """
    chex.assert_equal_shape([log_prob, denominator_log_prob, advantage])
    denominator_log_prob, advantage = jax.lax.stop_gradient((denominator_log_prob, advantage))
    return -advantage * clamped_exp(log_prob - denominator_log_prob)


@at_least_float32
def hybrid_loss(
    sft_loss: Array,
    rl_loss: Array,
    successes: Array,
    *,
    gate: Scalar = 0.0,
    sft_coef: Scalar = 1.0,
    rl_coef: Scalar = 1.0,
) -> Array:
    """Learns from the demonstration of a prompt where rollouts hardly ever succeed, else from them.

    Args:
      sft_loss: loss on the demonstration of each prompt, `[N]`.
      rl_loss: loss on its rollouts, `[N]`; the paper has 8, and Dr. GRPO.
      successes: how many of the rollouts succeeded, `[N]`.
      gate: up to so many successes the demonstration is learnt from.
      sft_coef: factor of sft_loss.
      rl_coef: factor of rl_loss.

    Returns:
      The loss, `[N]`: one of the two, times its factor. The other has no gradient, and may be NaN.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: HPT (arXiv 2509.04419) and its released code.
    """
    chex.assert_equal_shape([sft_loss, rl_loss, successes])
    is_supervised = successes <= gate
    return jnp.where(is_supervised, sft_loss, rl_loss) * jnp.where(is_supervised, sft_coef, rl_coef)


@at_least_float32
def implicit_reward(log_prob: Array, ref_log_prob: Array, *, beta: Scalar) -> Array:
    """The reward whose regularised optimum the policy is: β·(log π − log π_ref).

    Args:
      log_prob: log π, `[...]`, in nats, per token or summed over a sequence.
      ref_log_prob: log π_ref, `[...]`.
      beta: β, in units of reward.

    Returns:
      The reward, `[...]`, up to a constant of its prompt; differentiable by log_prob.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: DPO (arXiv 2305.18290).
    """
    chex.assert_equal_shape([log_prob, ref_log_prob])
    return beta * (log_prob - jax.lax.stop_gradient(ref_log_prob))


@at_least_float32
def sft_divergence_loss(x: Array, *, divergence: str) -> Array:
    """Supervised learning as the learning of an implicit reward, in one of four divergences: −φ(x).

      total_variation   φ = x, whose gradient is that of −log π: supervised learning as it is
      pearson           φ = x − x²/4, which turns round at x = 2
      hellinger         φ = x/(1 + x), for x > −1
      jensen_shannon    φ = log(2 − e^{−x}), for x > −log 2

    All have slope 1 at 0, where π = π_ref. x is clipped to 1e-3 above the end of the domain, and
    has no gradient below.

    Args:
      x: the `implicit_reward` of a demonstration, summed over its tokens, `[...]`.
      divergence: one of the four names above, static.

    Returns:
      The loss, `[...]`.

    Raises:
      ValueError: the divergence is none of the four.

    Source: after the implicit-reward bridge (arXiv 2507.00018); the paper's exact form was not
    available. φ are the concave regularisers of IQ-Learn (arXiv 2106.12142).
    """
    if divergence == "total_variation":
        return -x
    if divergence == "pearson":
        return jnp.square(x) / 4.0 - x
    if divergence == "hellinger":
        x = jnp.maximum(x, -1.0 + 1e-3)
        return -x / (1.0 + x)
    if divergence == "jensen_shannon":
        x = jnp.maximum(x, -math.log(2.0) + 1e-3)
        return -jnp.log(2.0 - jnp.exp(-x))
    raise ValueError(f"divergence={divergence!r}: must be one of {', '.join(DIVERGENCES)}")

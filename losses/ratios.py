"""The ratio of two policies at an action, and how far it says that the new one has moved.

PPO, SPO and MDPO build their objectives on `importance_ratio`; the others are diagnostics, for any
policy that is trained on the actions of an older one.
"""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32, exp_then_tangent

Array = chex.Array
Scalar = float | Array


@at_least_float32
def importance_ratio(log_prob: Array, old_log_prob: Array) -> Array:
    """π(a|s)/π_old(a|s) = exp(log_prob − old_log_prob), kept finite.

    Above a log-ratio of 10 (a ratio of 22,026) the exponential is continued by its tangent: the
    ratio still grows and still has a gradient, and both can be squared in float32, up to log-ratios
    of 1e14.

    Args:
      log_prob: log π(a|s), `[...]`, in nats.
      old_log_prob: log π_old(a|s), `[...]`.

    Returns:
      The ratio, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition; the limit is ours.
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    return exp_then_tangent(log_prob - old_log_prob, 10.0)


@at_least_float32
def approx_kl(log_prob: Array, old_log_prob: Array) -> Array:
    """Per-sample estimate of KL(π_old‖π) that is never negative: (r − 1) − log r.

    Its mean over actions drawn from π_old is unbiased, with less variance than that of −log r.
    Infinite above a log-ratio of 88.

    Args:
      log_prob: log π(a|s), `[...]`, in nats.
      old_log_prob: log π_old(a|s) of the policy that drew a, `[...]`.

    Returns:
      The estimate, `[...]`, in nats.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the estimator k3 of Schulman, "Approximating KL divergence", 2020.
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    log_ratio = log_prob - old_log_prob
    return jnp.expm1(log_ratio) - log_ratio


@at_least_float32
def clip_fraction(log_prob: Array, old_log_prob: Array, *, clip_eps: Scalar) -> Array:
    """Indicator that the ratio left the clip interval: 1 where |r − 1| > clip_eps, else 0.

    Args:
      log_prob: log π(a|s), `[...]`, in nats.
      old_log_prob: log π_old(a|s) of the policy that drew a, `[...]`.
      clip_eps: half-width of the interval of ratios around 1.

    Returns:
      0.0 or 1.0, `[...]`; its mean is the fraction.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: OpenAI baselines ppo2 (`clipfrac`).
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    outside = jnp.abs(jnp.expm1(log_prob - old_log_prob)) > clip_eps
    return outside.astype(jnp.result_type(log_prob))


@at_least_float32
def ratio_deviation(log_prob: Array, old_log_prob: Array) -> Array:
    """How far the ratio is from 1: |r − 1|, r = exp(log_prob − old_log_prob).

    Args:
      log_prob: log π(a|s), `[...]`, in nats.
      old_log_prob: log π_old(a|s) of the policy that drew a, `[...]`.

    Returns:
      The deviation, `[...]`; its mean over actions of π_old is twice the total variation distance
      of the two policies.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Xie et al. 2025, the ratio deviation of its figures.
    """
    chex.assert_equal_shape([log_prob, old_log_prob])
    return jnp.abs(importance_ratio(log_prob, old_log_prob) - 1.0)

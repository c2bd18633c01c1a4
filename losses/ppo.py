"""The losses and diagnostics of Proximal Policy Optimization (Schulman et al., 2017, arXiv
1707.06347).
"""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .distributions import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def ppo_clip_loss(
    log_prob: Array, old_log_prob: Array, advantage: Array, *, clip_eps: Scalar
) -> Array:
    """The clipped surrogate objective, negated.

    With r the `importance_ratio`: −min(r·A, clip(r, 1 − clip_eps, 1 + clip_eps)·A).
    At r = 1 its gradient is that of −log_prob·A, the policy gradient.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).
      clip_eps: half-width of the interval of ratios around 1 inside which the objective is not
        clipped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the three arrays differ in shape.

    Source: Schulman et al. 2017, equation 7.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, advantage])
    ratio = importance_ratio(log_prob, old_log_prob)
    clipped_ratio = jnp.clip(ratio, 1.0 - clip_eps, 1.0 + clip_eps)
    return -jnp.minimum(ratio * advantage, clipped_ratio * advantage)


@at_least_float32
def clipped_value_loss(value: Array, old_value: Array, target: Array, *, clip_eps: Scalar) -> Array:
    """Squared error of a value, pessimistic about moving further than clip_eps from the old value.

    ½·max((V − R)², (V_old + clip(V − V_old, −clip_eps, clip_eps) − R)²). With clip_eps = inf: ½·(V
    − R)².

    Args:
      value: V(s) under the parameters that are trained, `[...]`, in units of return.
      old_value: V(s) under the parameters that collected the data, `[...]`. Not differentiated:
        pass it as data.
      target: R, the return to regress to, `[...]`, in units of return; as `gae` gives it.
      clip_eps: half-width of the interval around old_value, in units of return.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the three arrays differ in shape.

    Source: not in the paper; OpenAI baselines ppo2, which clips with the policy's clip_eps.
    """
    chex.assert_equal_shape([value, old_value, target])
    clipped_value = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped_value - target))


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

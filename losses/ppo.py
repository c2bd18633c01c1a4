"""The losses of Proximal Policy Optimization (Schulman et al., 2017, arXiv 1707.06347)."""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .ratios import importance_ratio

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

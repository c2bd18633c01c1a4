"""The losses of PPO-EWMA (Hilton et al., NeurIPS 2022, arXiv 2110.00641): PPO with the policy that
collected and the policy that is stayed close to kept apart.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .ratios import importance_ratio

Array = chex.Array
Scalar = float | Array


@at_least_float32
def ppo_ewma_loss(
    log_prob: Array,
    old_log_prob: Array,
    proximal_log_prob: Array,
    advantage: Array,
    *,
    clip_eps: Scalar,
    max_ratio: Scalar,
) -> Array:
    """The clipped surrogate around a proximal policy, with weights from the one that collected.

    max(−A·e^(l − m), −A·e^(p + clip(l − p, log(1 − clip_eps), log(1 + clip_eps)) − m)) with l, p
    the logarithms of the trained and of the proximal policy, and m = max(log π_old, l − log
    max_ratio), of which l is data: the weight of a sample is at most max_ratio. With the proximal
    policy that which collected, and max_ratio = inf, it is `ppo_clip_loss`; with the trained one
    nothing is clipped.

    Args:
      log_prob: log π(a|s) under the policy that is trained, `[...]`, in nats.
      old_log_prob: log π_old(a|s) under the policy that chose a, `[...]`. Not differentiated: pass
        it as data.
      proximal_log_prob: log π_prox(a|s) under the policy to stay close to, `[...]`, as data.
      advantage: estimate of A(s, a), `[...]`, in units of reward (or normalised by the caller).
      clip_eps: half-width of the interval of ratios to the proximal policy that are not clipped,
        below 1.
      max_ratio: the largest ratio to the policy that chose a, at least 1; inf does not bound it.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Hilton et al. 2022, the decoupled objective; the bound is the released code's.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, proximal_log_prob, advantage])
    denominator = jnp.maximum(old_log_prob, jax.lax.stop_gradient(log_prob) - jnp.log(max_ratio))
    low, high = jnp.log1p(-clip_eps), jnp.log1p(clip_eps)
    held_log_prob = proximal_log_prob + jnp.clip(log_prob - proximal_log_prob, low, high)
    ratio = importance_ratio(log_prob, denominator)
    held_ratio = importance_ratio(held_log_prob, denominator)
    return jnp.maximum(-ratio * advantage, -held_ratio * advantage)


@at_least_float32
def ewma(average: Array, weight: Array, x: Array, *, decay: Scalar) -> tuple[Array, Array]:
    """One step of an exponentially weighted average that is not biased towards its start.

    W' = decay·W + 1, average' = (decay·W/W')·average + x/W'. From W = 1 and the average at x_0
    that is Σ decay^(n−i)·x_i/Σ decay^(n−i): with decay 1 the mean of all, with decay 0 the last.

    Args:
      average: of what came before, `[...]`.
      weight: W, the sum of the weights so far, a scalar; 1 after the first.
      x: what comes now, `[...]`.
      decay: of the weights from one step to the next, in [0, 1].

    Returns:
      (average, weight), `[...]` and a scalar.

    Raises:
      AssertionError: average and x differ in shape.

    Source: Hilton et al. 2022, as the released code keeps it.
    """
    chex.assert_equal_shape([average, x])
    chex.assert_rank(weight, 0)
    total = decay * weight + 1.0
    return (decay * weight / total) * average + x / total, total

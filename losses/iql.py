"""The losses of implicit Q-learning (Kostrikov et al., 2022, arXiv 2110.06169), which asks no
critic for an action that is not in the data.

The critics' target is `bootstrapped_target` of V(s').
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .expectile import expectile_td_loss

Array = chex.Array
Scalar = float | Array


@at_least_float32
def iql_value_loss(value: Array, q: Array, *, expectile: Scalar) -> Array:
    """V as an expectile of Q over the data's actions: |τ − 1[u < 0]|·u², u = Q(s, a) − V(s).

    Args:
      value: V(s), `[...]`, in units of return.
      q: the smaller of the target critics at the data's action, `[...]`; its gradient is stopped.
      expectile: τ, in (0, 1); towards 1 it is the best action of the data.

    Returns:
      The loss, `[...]`: half of `expectile_td_loss`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Kostrikov et al. 2022, equation 5.
    """
    return 0.5 * expectile_td_loss(value, q, expectile=expectile)


@at_least_float32
def iql_actor_loss(
    log_prob: Array, q: Array, value: Array, *, coefficient: Scalar, max_weight: Scalar
) -> Array:
    """Regression weighted by advantages: −min(exp(c·(Q − V)), max_weight)·log π(a|s).

    Args:
      log_prob: log π of the data's action, `[...]`, in nats.
      q: the smaller of the target critics at it, `[...]`, in units of return.
      value: V(s), `[...]`.
      coefficient: c, the inverse temperature: 0 clones all actions alike. One number, or one of
        each, `[...]`.
      max_weight: the largest weight.

    Returns:
      The loss, `[...]`; the weight has no gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Kostrikov et al. 2022, equation 7; the bound is that of the code released with it, 100.
    """
    chex.assert_equal_shape([log_prob, q, value])
    weight = jnp.minimum(jnp.exp(jnp.minimum(coefficient * (q - value), 80.0)), max_weight)
    return -jax.lax.stop_gradient(weight) * log_prob

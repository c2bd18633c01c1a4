"""The actor's loss of TD3+BC (Fujimoto and Gu, 2021, arXiv 2106.06860), which PRDC takes with
another goal.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .bc import bc_loss

Array = chex.Array
Scalar = float | Array


@at_least_float32
def behaviour_weight(q: Array, *, alpha: Scalar) -> Array:
    """The weight of Q beside a distance between actions: λ = α/mean|Q|, over the whole batch.

    Args:
      q: Q(s, π(s)), any shape, in units of return.
      alpha: its size once returns are scaled to 1; 0 leaves cloning alone.

    Returns:
      λ, a scalar with stopped gradient; where all of Q is 0, as if its mean were 1e-6.

    Source: Fujimoto and Gu 2021, equation 5. The bound of 1e-6 is ours.
    """
    return alpha / jnp.maximum(jnp.mean(jnp.abs(jax.lax.stop_gradient(q))), 1e-6)


@at_least_float32
def td3_bc_actor_loss(q: Array, action: Array, goal: Array, *, weight: Scalar) -> Array:
    """Policy gradient that stays near the data: −λ·Q(s, π(s)) + mean_d (π(s) − goal)².

    Args:
      q: a critic at the actor's action, `[...]`, differentiated through the action.
      action: π(s), `[..., d]`.
      goal: the data's action there, `[..., d]`; in PRDC that of the nearest transition. Its
        gradient is stopped.
      weight: λ, see `behaviour_weight`.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Fujimoto and Gu 2021, equation 3, as the code released with it.
    """
    chex.assert_shape(q, action.shape[:-1])
    return -weight * q + bc_loss(action, goal)

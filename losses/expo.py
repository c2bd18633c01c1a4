"""What EXPO (Dong et al., 2025) adds to SAC: an edit of a given action, and a choice
among several. The edit is learned by `sac_actor_loss` and `sac_temperature_loss`.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array


@at_least_float32
def expo_edit(
    action: Array, edit: Array, log_prob: Array, *, edit_scale: Scalar
) -> tuple[Array, Array]:
    """An edited action, clip(a + β·â, −1, 1), and the log-density of what was added, log p(â) −
    d·log β.

    Args:
      action: a, that is edited, `[..., d]`, in [−1, 1].
      edit: â, `[..., d]`, in [−1, 1].
      log_prob: log p(â) in nats, `[...]`.
      edit_scale: β, the furthest that an entry may be moved, above 0.

    Returns:
      (edited action `[..., d]`, log-density `[...]` in nats).

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: EXPO (arXiv 2507.07986), read in a copy of its code. The bounds, which the log-density
      knows nothing of, are those of the action.
    """
    chex.assert_equal_shape([action, edit])
    chex.assert_shape(log_prob, action.shape[:-1])
    moved = jnp.clip(action + edit_scale * edit, -1.0, 1.0)
    return moved, log_prob - action.shape[-1] * jnp.log(edit_scale)


@at_least_float32
def expo_choice(actions: Array, q: Array) -> tuple[Array, Array, Array]:
    """The best of K actions by the smallest of C critics: argmax_k min_c Q_c(s, a_k).

    Args:
      actions: `[..., K, d]`.
      q: Q(s, a) of each critic, `[C, ..., K]`, in units of return.

    Returns:
      (action `[..., d]`, its value min_c Q_c `[...]`, its place `[...]`, int32), with stopped
      gradient.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: EXPO (arXiv 2507.07986), the on-the-fly policy, read in a copy of its code.
    """
    chex.assert_shape(q, (q.shape[0], *actions.shape[:-1]))
    actions, value = jax.lax.stop_gradient((actions, jnp.min(q, axis=0)))
    place = jnp.argmax(value, axis=-1).astype(jnp.int32)
    action = jnp.take_along_axis(actions, place[..., None, None], axis=-2)
    value = jnp.take_along_axis(value, place[..., None], axis=-1)
    return jnp.squeeze(action, axis=-2), jnp.squeeze(value, axis=-1), place

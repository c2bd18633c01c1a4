"""The losses of A2PR (Liu et al., 2024, arXiv 2405.19909): the actor is drawn to the better of the
data's action and that of a variational autoencoder of good actions, where either has an advantage.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32
from .temporal_difference import bootstrapped_target

Array = chex.Array
Scalar = float | Array


@at_least_float32
def a2pr_value_target(reward: Array, discount: Array, next_q1: Array, next_q2: Array) -> Array:
    """The value's target: the smaller of two targets, min(r + discount·Q1', r + discount·Q2').

    Args:
      reward: r, `[...]`.
      discount: γ·(1 − terminated), `[...]`.
      next_q1: the smaller of the target critics at the smoothed target action, `[...]`.
      next_q2: the smaller of the critics themselves there, after their step, `[...]`.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the code released with Liu et al. 2024.
    """
    targets = (bootstrapped_target(reward, discount, each) for each in (next_q1, next_q2))
    return jnp.minimum(*targets)


@at_least_float32
def a2pr_goal(action: Array, vae_action: Array, q: Array, vae_q: Array) -> Array:
    """What the actor is drawn to: the autoencoder's action where Q says that it is as good.

    Args:
      action: the data's action, `[..., d]`.
      vae_action: the autoencoder's, `[..., d]`; its gradient is kept.
      q: the first critic at the data's action, `[...]`.
      vae_q: the first critic at the autoencoder's, `[...]`.

    Returns:
      The goal, `[..., d]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Liu et al. 2024, section 4; the code released with it.
    """
    chex.assert_equal_shape([action, vae_action])
    chex.assert_shape([q, vae_q], action.shape[:-1])
    return jnp.where((vae_q >= q)[..., None], vae_action, action)


@at_least_float32
def a2pr_pull(value: Array, q: Array, vae_q: Array, *, mask: Scalar) -> Array:
    """How much a goal pulls: mask where either action has an advantage, and else 0.

    Args:
      value: V(s), `[...]`, in units of return.
      q: the first critic at the data's action, `[...]`.
      vae_q: the first critic at the autoencoder's, `[...]`.
      mask: weight of the distance.

    Returns:
      The weight, `[...]`: mask·1[Q(s, â) ≥ V or Q(s, a) > V].

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the code released with Liu et al. 2024, which adds two booleans and so means "or".
    """
    chex.assert_equal_shape([value, q, vae_q])
    return mask * jnp.asarray((vae_q >= value) | (q > value), value.dtype)


@at_least_float32
def a2pr_vae_loss(
    vae_action: Array,
    action: Array,
    mean: Array,
    log_std: Array,
    q: Array,
    value: Array,
    *,
    weight: Scalar,
) -> Array:
    """Reconstruction of what has an advantage, and the divergence from the prior: weight·1[Q >
    V]·mean_d (â − a)² + ½·KL.

    Args:
      vae_action: â, `[..., d]`.
      action: the data's, `[..., d]`.
      mean: of the latent, `[..., l]`.
      log_std: of the latent, `[..., l]`.
      q: the first critic at the data's action, `[...]`.
      value: V(s), `[...]`.
      weight: of the reconstruction.

    Returns:
      The loss, `[...]`, with KL = −½·mean_l (1 + log σ² − μ² − σ²).

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: the code released with Liu et al. 2024, which has the mean over the latent.
    """
    chex.assert_equal_shape([vae_action, action])
    chex.assert_equal_shape([mean, log_std])
    chex.assert_shape([q, value], action.shape[:-1])
    chex.assert_shape(q, mean.shape[:-1])
    good = jax.lax.stop_gradient(q) > jax.lax.stop_gradient(value)
    error = jnp.mean(jnp.square(vae_action - action), axis=-1)
    spread = jnp.square(mean) + jnp.exp(2.0 * log_std) - 1.0 - 2.0 * log_std
    return weight * jnp.where(good, error, 0.0) + 0.25 * jnp.mean(spread, axis=-1)


@at_least_float32
def a2pr_actor_loss(q: Array, action: Array, goal: Array, pull: Array, *, weight: Scalar) -> Array:
    """Deterministic policy gradient and the pull of a goal: −λ·Q(s, π(s)) + pull·mean_d (π(s) −
    goal)².

    Args:
      q: the first critic at the actor's action, `[...]`.
      action: π(s), `[..., d]`.
      goal: see `a2pr_goal`, `[..., d]`; its gradient is kept, as the autoencoder sees π(s).
      pull: see `a2pr_pull`, `[...]`.
      weight: λ, see `behaviour_weight`.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays do not fit each other.

    Source: Liu et al. 2024, section 4; the code released with it.
    """
    chex.assert_equal_shape([action, goal])
    chex.assert_shape([q, pull], action.shape[:-1])
    return -weight * q + pull * jnp.mean(jnp.square(action - goal), axis=-1)

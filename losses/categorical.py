"""Distributional critics on a fixed grid of returns (C51: Bellemare et al., 2017, arXiv
1707.06887).

A critic puts out logits over K atoms; the support z, `[K]`, is evenly spaced from v_min to v_max.
"""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32, log_softmax

Array = chex.Array


@at_least_float32
def categorical_projection(
    probs: Array, reward: Array, discount: Array, *, support: Array
) -> Array:
    """Distribution of r + discount·Z, projected onto the support.

    m_i = Σ_j p_j·max(0, 1 − |clip(r + discount·z_j, v_min, v_max) − z_i|/Δz): each atom that was
    moved shares its mass among its two neighbours on the grid, in proportion to closeness; what
    left the grid goes to the end atoms.

    Args:
      probs: p, probabilities of the atoms of Z, `[..., K]`.
      reward: r, or a discounted sum of n rewards, `[...]`, in units of return.
      discount: factor of the bootstrap, γ·(1 − terminated) or its n-step equivalent, `[...]`.
      support: z, evenly spaced and rising, `[K]` with K ≥ 2, in units of return.

    Returns:
      The projected probabilities, `[..., K]`, with stopped gradient. They sum to what probs sums
      to.

    Raises:
      AssertionError: reward and discount differ in shape, or probs is not `[..., K]`.

    Source: Bellemare et al. 2017, equation 7. The lower neighbour is at most the last but one, so
    that a target on the grid needs no special case; the published FastTD3 had to mend one (its mass
    exceeded 1).
    """
    chex.assert_equal_shape([reward, discount])
    chex.assert_shape(support, (None,))
    chex.assert_shape(probs, (*reward.shape, *support.shape))
    num_atoms = support.shape[0]
    v_min = support[0]
    v_max = support[-1]
    atoms = jnp.clip(reward[..., None] + jnp.multiply.outer(discount, support), v_min, v_max)
    # In units of the spacing the grid is 0, 1, …, K − 1.
    place = ((atoms - v_min) * ((num_atoms - 1) / (v_max - v_min))).reshape(-1, num_atoms)
    low = jnp.clip(jnp.floor(place), 0, num_atoms - 2)
    share = place - low  # of the upper neighbour
    row = jnp.arange(place.shape[0])[:, None]
    low = low.astype(jnp.int32)
    mass = probs.reshape(-1, num_atoms)
    projected = jnp.zeros_like(mass).at[row, low].add(mass * (1.0 - share))
    projected = projected.at[row, low + 1].add(mass * share)
    return jax.lax.stop_gradient(projected.reshape(probs.shape))


@at_least_float32
def clipped_double_categorical(probs1: Array, probs2: Array, *, support: Array) -> Array:
    """Of two distributions, the whole one with the lower mean: clipped double Q for distributional
    critics.

    Args:
      probs1: probabilities of the first critic, `[..., K]`.
      probs2: probabilities of the second, `[..., K]`.
      support: the atoms, `[K]`.

    Returns:
      Probabilities, `[..., K]`: those of the first where the means are equal.

    Raises:
      AssertionError: the distributions differ in shape, or do not have K atoms.

    Source: Seo et al. 2025 (FastTD3, arXiv 2505.22642), section 2; after Fujimoto et al. 2018.
    """
    chex.assert_equal_shape([probs1, probs2])
    first = categorical_mean(probs1, support=support) <= categorical_mean(probs2, support=support)
    return jnp.where(first[..., None], probs1, probs2)


@at_least_float32
def categorical_cross_entropy(logits: Array, target_probs: Array) -> Array:
    """−Σ_i target_i·log softmax(logits)_i.

    Args:
      logits: of the distribution that is trained, `[..., K]`.
      target_probs: probabilities to match, `[..., K]`; their gradient is stopped.

    Returns:
      The loss, `[...]`, in nats. Finite for logits of any finite size.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Bellemare et al. 2017, algorithm 1.
    """
    chex.assert_equal_shape([logits, target_probs])
    return -jnp.sum(jax.lax.stop_gradient(target_probs) * log_softmax(logits), axis=-1)


@at_least_float32
def categorical_mean(probs: Array, *, support: Array) -> Array:
    """Σ_i p_i·z_i.

    Args:
      probs: probabilities, `[..., K]`.
      support: z, the atoms, `[K]`.

    Returns:
      The mean, `[...]`, in units of return.

    Raises:
      AssertionError: probs does not have K atoms.

    Source: Bellemare et al. 2017, section 4.
    """
    chex.assert_equal_shape_suffix([probs, support], 1)
    return jnp.matmul(probs, support, precision=jax.lax.Precision.HIGHEST)

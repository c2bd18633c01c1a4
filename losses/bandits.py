"""Policies over a handful of choices: by gaps, by values, by regularised leaders."""

import chex
import jax
import jax.numpy as jnp

from ._numerics import at_least_float32

Array = chex.Array
Scalar = float | Array

# The exponent of each regulariser's policy, −power.
POWERS = {"tsallis": 2, "log_barrier": 1}


@at_least_float32
def inverse_gap_weighting(scores: Array, *, gamma: Scalar) -> Array:
    """Chooses an action by how far its score is from the best: 1/(K + γ·(f* − f_a)), and the best
    with what is left.

    Args:
      scores: f of each action, `[..., K]`, an estimate of its reward.
      gamma: γ, at least 0, per unit of score: 0 is uniform, the larger the greedier.

    Returns:
      The probabilities, `[..., K]`, with stopped gradient; at least 1/K at the best action, the
      first of equal ones.

    Source: SquareCB, Foster and Rakhlin 2020 (arXiv 2002.04926). A study of it in advertising is
    arXiv 2412.00569, of which this is the reusable part.
    """
    size = scores.shape[-1]
    gap = jnp.max(scores, axis=-1, keepdims=True) - scores
    best = jax.nn.one_hot(jnp.argmax(scores, axis=-1), size, dtype=bool)
    others = jnp.where(best, 0.0, 1.0 / (size + gamma * gap))
    left = 1.0 - jnp.sum(others, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jnp.where(best, left, others))


@at_least_float32
def value_steering(q: Array, *, temperature: Scalar = 1.0) -> Array:
    """Chooses among proposals by their values: softmax(Q/temperature).

    Args:
      q: Q of each of K proposals that a policy made, `[..., K]`, in units of return.
      temperature: above 0, in units of return; towards 0 it is the argmax.

    Returns:
      The probabilities, `[..., K]`, with stopped gradient.

    Source: V-GPS (arXiv 2410.13816), and its released code, with 10 proposals.
    """
    below = q - jnp.max(q, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(jax.nn.softmax(below / temperature, axis=-1))


@at_least_float32
def ftrl_policy(losses: Array, *, eta: Scalar, regularizer: str) -> Array:
    """The regularised leader: argmin_π of ⟨π, L⟩ and a regulariser over eta.

      tsallis       4/(η·(L_a − x))²
      shannon       softmax(−η·L)
      log_barrier   1/(η·(L_a − x))

    x < min L is the one number for which they sum to 1, found by 60 bisections.

    Args:
      losses: L, the sum of the estimated losses of each action so far, `[..., A]`.
      eta: η, the learning rate, above 0, per unit of loss.
      regularizer: one of the three names above, static.

    Returns:
      The probabilities, `[..., A]`, with stopped gradient.

    Raises:
      ValueError: the regulariser is none of the three.

    Source: Dann et al. 2023 (arXiv 2302.09408) use the three in tabular MDPs. This is the policy of
    one state; the paper's learning rates, loss estimators and bonuses are not here.
    """
    gap = eta * (losses - jnp.min(losses, axis=-1, keepdims=True))
    if regularizer == "shannon":
        return jax.lax.stop_gradient(jax.nn.softmax(-gap, axis=-1))
    if regularizer not in POWERS:
        raise ValueError(f"regularizer={regularizer!r}: must be tsallis, shannon or log_barrier")
    power = POWERS[regularizer]
    gap = jax.lax.stop_gradient(gap) / power

    def policy(distance):  # of min L from x, in units of power/η
        return (gap + distance) ** -power

    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        too_near = jnp.sum(policy(middle), axis=-1, keepdims=True) > 1.0
        return jnp.where(too_near, middle, low), jnp.where(too_near, high, middle)

    # At 1 the best action has all of the probability, at A^(1/power) none has more than 1/A.
    nearest = jnp.ones_like(gap[..., :1])
    farthest = nearest * gap.shape[-1] ** (1.0 / power)
    low, high = jax.lax.fori_loop(0, 60, halve, (nearest, farthest))
    probs = policy(0.5 * (low + high))
    return probs / jnp.sum(probs, axis=-1, keepdims=True)

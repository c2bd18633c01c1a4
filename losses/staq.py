"""The losses of StaQ: policy mirror descent with a stack of Q-functions (arXiv 2506.13862), for
discrete actions.

The policy that mirror descent with an entropy arrives at is a softmax of a weighted sum of all past
Q-functions. StaQ keeps the last M of them and corrects the weights for the missing ones.
"""

import chex
import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from ._numerics import at_least_float32
from .temporal_difference import bootstrapped_target

Array = chex.Array
Scalar = float | Array


@at_least_float32
def staq_coefficients(num_stored: Array, *, memory: int, eta: Scalar, beta: Scalar) -> Array:
    """The weights of the stacked Q-functions in the policy's logits: η·β^i/(1 − β^M) for the entry
    of age i.

    With λ the weight of the divergence from the previous policy and τ that of the entropy, η = 1/(λ
    + τ) and β = λ/(λ + τ). The denominator is the weight correction: with M entries the weights sum
    to η/(1 − β) = 1/τ, as if the stack were endless and its older part repeated itself.

    Args:
      num_stored: how many Q-functions there are yet, an integer scalar; entries beyond have weight
        0.
      memory: M, the size of the stack.
      eta: η, step size of mirror descent, per unit of return.
      beta: β, how much of the previous logits is kept, in [0, 1).

    Returns:
      The weights, `[memory]`; entry i is of age i, 0 the newest.

    Source: arXiv 2506.13862, the weight-corrected update; the released code does the same by
    scaling the stacked networks' output layers, and keeps M + 1 of them where the correction says
    M.
    """
    age = jnp.arange(memory)
    # Not as powers: with β = λ·η and a constant λ, XLA makes λ^M·η^M of them, which is ∞·0 for a
    # long memory.
    weights = eta * jnp.exp(xlogy(age, beta)) / -jnp.expm1(xlogy(memory, beta))
    return jnp.where(age < num_stored, weights, 0.0)


@at_least_float32
def staq_logits(q_stack: Array, coefficients: Array) -> Array:
    """The policy's logits: the weighted sum of the stacked Q-values, ξ = Σ_i c_i·Q_i.

    Args:
      q_stack: Q-values of each stacked function, `[memory, ..., n]`, in the order of the
        coefficients.
      coefficients: the weights, `[memory]`, as `staq_coefficients` gives them.

    Returns:
      The logits, `[..., n]`.

    Raises:
      AssertionError: the sizes of the stack differ.

    Source: arXiv 2506.13862.
    """
    chex.assert_rank(coefficients, 1)
    chex.assert_equal_shape_prefix([q_stack, coefficients], 1)
    # Q-values over the entropy weight: logits of thousands, of which a rounded product would lose
    # whole nats.
    return jnp.tensordot(coefficients, q_stack, axes=1, precision=jax.lax.Precision.HIGHEST)


@at_least_float32
def staq_target(
    reward: Array, discount: Array, next_q: Array, next_entropy: Array, *, entropy_coef: Scalar
) -> Array:
    """Soft target of a Q-function that leaves out the entropy of its own step: r + discount·(Q' +
    τ·H(π(·|s'))).

    Args:
      reward: r, scaled as the caller likes, `[...]`.
      discount: factor of the bootstrap, γ·(1 − terminated) or its n-step equivalent, `[...]`.
      next_q: the target network at the true successor and an action drawn from the policy (or its
        expectation), `[...]`, in units of return.
      next_entropy: H(π(·|s')), `[...]`, in nats.
      entropy_coef: τ, in units of return per nat.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: arXiv 2506.13862, and its released code.
    """
    chex.assert_equal_shape([reward, discount, next_q, next_entropy])
    return bootstrapped_target(reward, discount, next_q + entropy_coef * next_entropy)

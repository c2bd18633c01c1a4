"""The losses of Twin Delayed DDPG (Fujimoto et al., 2018, arXiv 1802.09477).

With one critic given twice and no noise they are those of DDPG (Lillicrap et al., 2015, arXiv
1509.02971).
"""

import chex
import jax.numpy as jnp

from ._numerics import at_least_float32
from .temporal_difference import bootstrapped_target, squared_td_loss

Array = chex.Array
Scalar = float | Array


@at_least_float32
def target_policy_noise(noise: Array, *, noise_clip: Scalar) -> Array:
    """The noise that smooths the target action: clip(noise, −noise_clip, noise_clip).

    Args:
      noise: Gaussian noise that already has its standard deviation, `[..., d]`, in units of action.
      noise_clip: bound of its absolute value, in units of action.

    Returns:
      The clipped noise, `[..., d]`. The caller adds it to the target action and clips the sum to
      the action's bounds.

    Source: Fujimoto et al. 2018, equation 14.
    """
    return jnp.clip(noise, -noise_clip, noise_clip)


@at_least_float32
def td3_target(reward: Array, discount: Array, next_q1: Array, next_q2: Array) -> Array:
    """Clipped double-Q target: r + discount·min(Q1', Q2').

    Args:
      reward: r, or a discounted sum of n rewards, `[...]`.
      discount: factor of the bootstrap, γ·(1 − terminated) or its n-step equivalent, `[...]`.
      next_q1: first target critic at the true successor and the smoothed target action, `[...]`, in
        units of return.
      next_q2: second target critic there, `[...]`.

    Returns:
      The target, `[...]`, with stopped gradient.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Fujimoto et al. 2018, equation 10.
    """
    chex.assert_equal_shape([reward, discount, next_q1, next_q2])
    return bootstrapped_target(reward, discount, jnp.minimum(next_q1, next_q2))


def td3_critic_loss(q: Array, target: Array) -> Array:
    """The name in TD3 of `squared_td_loss`: (Q − y)². To be summed over the two critics.

    Args:
      q: Q(s, a), `[...]`, in units of return.
      target: y, `[...]`; its gradient is stopped.

    Returns:
      The loss, `[...]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Fujimoto et al. 2018, algorithm 1; without the factor ½, as the published code has it.
    """
    return squared_td_loss(q, target)


@at_least_float32
def td3_actor_loss(q: Array) -> Array:
    """Deterministic policy gradient: −Q(s, π(s)).

    Args:
      q: a critic at the actor's own action, `[...]`, differentiated through the action. The first
        critic in TD3.

    Returns:
      The loss, `[...]`.

    Source: Fujimoto et al. 2018, algorithm 1; Silver et al. 2014.
    """
    return -q

"""The scale of a stream's TD errors, from running moments of its rewards, discounts and returns
(Schaul et al. 2021, arXiv 2105.05347, "Return-based Scaling: Yet Another Normalisation Trick").
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from ..core import normalize
from ..core.normalize import Statistics

_MIN_VARIANCE = 1e-4
_SMALL_VARIANCE = 0.01  # before the first return


class TdScale(NamedTuple):
    """What the scale is computed from.

    Attributes:
      reward: moments of the rewards.
      discount: moments of γ·(1 − terminated).
      episodes: how many have ended, float32.
      squared_return: the mean of their squared returns, undiscounted.
      running_return: of the running episodes, `[N]`.
    """

    reward: Statistics
    discount: Statistics
    episodes: chex.Array
    squared_return: chex.Array
    running_return: chex.Array


def init(num_envs: int = 1) -> TdScale:
    """Before any data of so many environments."""
    return TdScale(
        reward=normalize.init(jnp.float32(0.0)),
        discount=normalize.init(jnp.float32(0.0)),
        episodes=jnp.float32(0.0),
        squared_return=jnp.float32(0.0),
        running_return=jnp.zeros(num_envs, jnp.float32),
    )


def update(scale: TdScale, reward: chex.Array, discount: chex.Array, done: chex.Array) -> TdScale:
    """With a step of N environments.

    Args:
      scale: of what came before.
      reward: `[N]`.
      discount: γ·(1 − terminated), `[N]`.
      done: bool `[N]`, whether the episode ended with this step, by a time limit too.
    """
    returns = scale.running_return + reward
    ended = jnp.sum(done, dtype=jnp.float32)
    episodes = scale.episodes + ended
    change = jnp.sum(jnp.where(done, jnp.square(returns), 0.0)) - ended * scale.squared_return
    return TdScale(
        reward=normalize.update(scale.reward, reward),
        discount=normalize.update(scale.discount, discount),
        episodes=episodes,
        squared_return=scale.squared_return + change / jnp.maximum(episodes, 1.0),
        running_return=jnp.where(done, 0.0, returns),
    )


def value(scale: TdScale) -> chex.Array:
    """σ, a scalar: √(Var[r] + Var[γ]·E[G²]), at least 0.01; and 1 as long as no episode has ended
    and that is at most 0.1.

    Where nothing terminates discounts do not vary, and it is the rewards' standard deviation.
    """
    variance = scale.reward.var + scale.discount.var * scale.squared_return
    variance = jnp.maximum(variance, _MIN_VARIANCE)
    early = (scale.episodes == 0.0) & (variance <= _SMALL_VARIANCE)
    return jnp.where(early, 1.0, jnp.sqrt(variance))

"""A probe of aversion to risk: a sure cost, or one that is smaller on average and may be large."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from .base import Step
from .spaces import Box, Discrete


class GambleState(NamedTuple):
    """The steps taken in this episode, int32."""

    time: chex.Array


class Gamble:
    """In the second step of an episode action 0 costs 1, and action 1 costs 6 with probability 0.1
    and else nothing, 0.6 on average; the first step does nothing.

    Whoever minimises (1 − λ)·E + λ·CVaR_0.1 of the second cost is indifferent at
    λ = (1 − 0.6)/(6 − 0.6) = 2/27, and takes the sure cost above it. Observations are `[1]`: the
    steps taken.
    """

    def __init__(self):
        self.observation_space = Box(0.0, 2.0, (1,))
        self.action_space = Discrete(2)

    def reset(self, key: chex.PRNGKey):
        """Starts an episode; the key is not used."""
        del key
        return GambleState(jnp.int32(0)), jnp.zeros(1, jnp.float32)

    def step(self, key: chex.PRNGKey, state: GambleState, action: chex.Array):
        """Pays, in the second step."""
        lost = jax.random.bernoulli(key, 0.1)
        cost = jnp.where(action == 0, 1.0, jnp.where(lost, 6.0, 0.0))
        last = state.time == 1
        time = state.time + 1
        step = Step(
            obs=time[None].astype(jnp.float32),
            reward=jnp.where(last, -cost, 0.0).astype(jnp.float32),
            terminated=last,
            truncated=jnp.bool_(False),
            info={},
        )
        return GambleState(time), step

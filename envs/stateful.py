"""A memory that is an action: policies that remember, by any algorithm."""

from typing import NamedTuple

import chex
import jax.numpy as jnp
import numpy as np

from .augmented import AugmentedActions
from .base import Environment, EnvState, Observation, Step
from .options import require_count


class StatefulState(NamedTuple):
    """The state of `Stateful`: of the inner environment, and what is remembered, `[size]`."""

    env_state: EnvState
    memory: chex.Array


class Stateful(AugmentedActions):
    """An environment in which the agent writes `size` numbers in [−1, 1] with each action, and
    reads them with the next observation; zeros at an episode's start.

    A policy on it is π(a, z'|s, z), and the policy gradient of the joint log-probability needs no
    back-propagation through time: S2PG (Al-Hafez, Zhao, Peters and Tateo, ICLR 2024,
    "Time-Efficient Reinforcement Learning with Stochastic Stateful Policies", arXiv 2311.04082).
    Deviations: z is bounded, the entropy of z' and of a has one temperature, the critic does not
    see the action before, and discrete actions are the greatest of n scores.

    Args:
      env: the inner environment, see `AugmentedActions`.
      size: how many numbers; 0 leaves actions in a Box as they are.

    Raises:
      ValueError: size is no integer of at least 0, or the spaces do not fit.
    """

    def __init__(self, env: Environment, size: int):
        require_count("size", size, 0)
        ones = np.ones(size, np.float32)
        super().__init__(env, -ones, ones, -ones, ones)
        self.size = size

    def reset(self, key: chex.PRNGKey) -> tuple[StatefulState, Observation]:
        """Starts an episode, with nothing remembered."""
        env_state, obs = self.env.reset(key)
        memory = jnp.zeros(self.size, jnp.float32)
        return StatefulState(env_state, memory), self.join(obs, memory)

    def step(
        self, key: chex.PRNGKey, state: StatefulState, action: chex.Array
    ) -> tuple[StatefulState, Step]:
        """Advances by one step, and remembers the last entries of the action."""
        inner, memory = self.split(action)
        env_state, result = self.env.step(key, state.env_state, inner)
        result = result._replace(obs=self.join(result.obs, memory))
        return StatefulState(env_state, memory), result

    def inner_state(self, state: StatefulState) -> EnvState:
        """The inner environment's state in that of this one."""
        return state.env_state

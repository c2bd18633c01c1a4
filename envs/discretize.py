"""Continuous actions cut into a grid, for algorithms that need a finite number of them."""

import chex
import jax.numpy as jnp

from .base import Environment, EnvState, Step
from .options import require_count
from .spaces import Box, Discrete
from .wrapper import Wrapper


class Discretized(Wrapper):
    """An environment with a Box of actions, of which only a grid may be taken; all else is passed
    through.

    Action k stands for the digits of k in base `bins`, one for each dimension, the last one
    fastest; digit i is the value −1 + 2·i/(bins − 1) of [−1, 1], mapped to the bounds. With two
    bins actions are bang-bang.

    Args:
      env: the environment; its actions must be a bounded Box with one axis, of size d.
      bins: values per dimension; there are bins^d actions.

    Raises:
      ValueError: bins is no integer of at least 2, actions are not such a Box, or there would be
        2^31 of them or more.
    """

    def __init__(self, env: Environment, bins: int):
        space = env.action_space
        require_count("bins", bins, 2)
        if not (isinstance(space, Box) and space.bounded and len(space.shape) == 1):
            raise ValueError(
                f"env.action_space={space}: must be a Box with one axis and finite bounds"
            )
        num_actions = bins ** space.shape[0]
        if num_actions >= 2**31:
            raise ValueError(f"bins={bins}: {bins}^{space.shape[0]} actions are too many")
        super().__init__(env)
        self.action_space = Discrete(num_actions)
        self.bins = bins

    def step(self, key: chex.PRNGKey, state: EnvState, action: chex.Array) -> tuple[EnvState, Step]:
        """Advances by one step with the action that the number stands for."""
        return self.env.step(key, state, self.values(action))

    def values(self, action: chex.Array) -> chex.Array:
        """The continuous actions that numbers `[...]` stand for, `[..., d]`."""
        dimensions = self.env.action_space.shape[0]
        powers = self.bins ** jnp.arange(dimensions - 1, -1, -1, dtype=jnp.int32)
        action, powers = jnp.broadcast_arrays(
            action[..., None], powers.reshape((1,) * action.ndim + (-1,))
        )
        digits = action // powers % self.bins
        return self.env.action_space.from_unit(2.0 * digits / (self.bins - 1) - 1.0)

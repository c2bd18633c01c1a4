"""Environments whose actions have further entries, which the next observation shows."""

import chex
import jax.numpy as jnp
import numpy as np

from .base import Environment, Observation
from .spaces import Box, Discrete
from .wrapper import Wrapper

_SHOWN_IN = ("state", "privileged_state")


class AugmentedActions(Wrapper):
    """The base of wrappers that have an agent decide on more than its action.

    Actions become one vector: those of the inner environment and then the further entries.
    Discrete ones become n scores in [−1, 1], of which the greatest is taken. What a subclass shows
    of the further entries stands behind the observation; of a dict behind "state" and
    "privileged_state".

    Args:
      env: the inner environment. Its observations, or those entries of them, are vectors; its
        actions a Box with one axis, or Discrete.
      low: bounds of the further entries, `[size]`.
      high: likewise.
      shown_low: bounds of what is shown of them, `[size]`.
      shown_high: likewise.

    Raises:
      ValueError: observations or actions are others, or actions are masked.
    """

    def __init__(
        self,
        env: Environment,
        low: chex.Array,
        high: chex.Array,
        shown_low: chex.Array,
        shown_high: chex.Array,
    ):
        super().__init__(env)
        space, size = env.action_space, len(low)
        if isinstance(space, Discrete):
            inner_low, inner_high = -np.ones(space.n), np.ones(space.n)
        elif isinstance(space, Box) and len(space.shape) == 1:
            inner_low, inner_high = space.low, space.high
        else:
            raise ValueError(f"env.action_space={space}: must be Discrete or a Box with one axis")
        self._inner_size = len(inner_low)
        low = np.concatenate([inner_low, low])
        high = np.concatenate([inner_high, high])
        self.action_space = Box(low, high, (self._inner_size + size,))

        def joined(space):
            if not isinstance(space, Box) or len(space.shape) != 1:
                raise ValueError(f"env.observation_space={space}: must be of vectors")
            bounds = (
                np.concatenate(pair) for pair in ((space.low, shown_low), (space.high, shown_high))
            )
            return Box(*bounds, (space.shape[0] + size,), normalize=space.normalize)

        space = env.observation_space
        if isinstance(space, dict) and "action_mask" in space:
            raise ValueError('env.observation_space has an "action_mask": scores are not masked')
        self.observation_space = _where_shown(joined, space)

    def split(self, action: chex.Array) -> tuple[chex.Array, chex.Array]:
        """The inner environment's action, and the further entries."""
        inner, further = action[: self._inner_size], action[self._inner_size :]
        if isinstance(self.env.action_space, Discrete):
            inner = jnp.argmax(inner).astype(jnp.int32)
        return inner, further

    def join(self, obs: Observation, shown: chex.Array) -> Observation:
        """What the agent sees: observation and further entries, float32."""
        return _where_shown(lambda x: jnp.concatenate([x.astype(jnp.float32), shown]), obs)


def _where_shown(function, obs):
    if not isinstance(obs, dict):
        return function(obs)
    return {name: function(x) if name in _SHOWN_IN else x for name, x in obs.items()}

"""A probe of memory: the right action was told some steps ago."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from .base import Step
from .options import require_count
from .spaces import Box, Discrete


class RecallState(NamedTuple):
    """What was told, 0 or 1, and the steps taken in this episode, int32 both."""

    told: chex.Array
    time: chex.Array


class Recall:
    """The first observation of an episode tells one of two actions; `steps` steps later, and then
    alone, it pays 1.

    Observations are `[2]`: −1 or 1 for the action that is told, 0 later; and 1 when the answer is
    due. All that is seen then is the same for both, so without a memory no policy has a return
    above 0.5 on average; with one, 1 is possible.

    Args:
      steps: between what is told and the answer, at least 1.
      continuous: actions are a Box([−1], [1]) of which the sign chooses, instead of Discrete(2).

    Raises:
      ValueError: steps is no integer above 0.
    """

    def __init__(self, steps: int = 4, continuous: bool = False):
        require_count("steps", steps)
        self.steps = steps
        self._continuous = continuous
        self.observation_space = Box(-1.0, 1.0, (2,))
        self.action_space = Box(-1.0, 1.0, (1,)) if continuous else Discrete(2)

    def reset(self, key: chex.PRNGKey):
        """Tells one of the two actions."""
        told = jax.random.bernoulli(key).astype(jnp.int32)
        return RecallState(told, jnp.int32(0)), jnp.stack([2.0 * told - 1.0, jnp.float32(0.0)])

    def step(self, key: chex.PRNGKey, state: RecallState, action: chex.Array):
        """Looks at the action if the answer is due; the key is not used."""
        choice = (action[0] > 0).astype(jnp.int32) if self._continuous else action
        due = state.time == self.steps
        time = state.time + 1
        asks = (time == self.steps).astype(jnp.float32)
        step = Step(
            obs=jnp.stack([jnp.float32(0.0), asks]),
            reward=(due & (choice == state.told)).astype(jnp.float32),
            terminated=due,
            truncated=jnp.bool_(False),
            info={},
        )
        return RecallState(state.told, time), step

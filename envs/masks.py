"""A probe of action masks: what is not allowed is an error that shows in the return."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from .base import Step
from .spaces import Box, Discrete

NUM_ACTIONS = 5
STEPS = 8
ERROR = -10_000.0


class MaskState(NamedTuple):
    """What is allowed, bool `[5]`, and the steps taken in this episode, int32."""

    mask: chex.Array
    time: chex.Array


class Masks:
    """Five actions, of which another random few are allowed in each of eight steps; the largest
    that is allowed pays 1, the others that are 0, and any other −10,000.

    So the best return is 8, one below 0 shows an error, and nothing but the mask, the entry
    "action_mask", tells what to do.
    """

    def __init__(self):
        self.observation_space = {
            "state": Box(0.0, 1.0, (1,)),
            "action_mask": Box(False, True, (NUM_ACTIONS,), bool),
        }
        self.action_space = Discrete(NUM_ACTIONS)

    def reset(self, key: chex.PRNGKey):
        """Draws what is allowed first."""
        state = MaskState(_draw(key), jnp.int32(0))
        return state, self._observation(state)

    def step(self, key: chex.PRNGKey, state: MaskState, action: chex.Array):
        """Looks at the action, and draws what is allowed next."""
        largest = NUM_ACTIONS - 1 - jnp.argmax(state.mask[::-1])
        paid = (action == largest).astype(jnp.float32)
        following = MaskState(_draw(key), state.time + 1)
        step = Step(
            obs=self._observation(following),
            reward=jnp.where(state.mask[action], paid, ERROR),
            terminated=following.time == STEPS,
            truncated=jnp.bool_(False),
            info={},
        )
        return following, step

    def _observation(self, state):
        return {"state": jnp.ones(1), "action_mask": state.mask}


def _draw(key):
    """Each action with probability ½, and one at least."""
    some_key, one_key = jax.random.split(key)
    one = jax.random.randint(one_key, (), 0, NUM_ACTIONS)
    return jax.random.bernoulli(some_key, 0.5, (NUM_ACTIONS,)).at[one].set(True)

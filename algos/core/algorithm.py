"""What an algorithm is: three pure functions; and the key that a seed stands for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import numpy as np

from ...envs import spaces

State = Any
Metrics = dict[str, Any]


class Algorithm(NamedTuple):
    """An algorithm on an environment, as a tuple of pure functions; each `algos.<name>.make`
    returns one.

    Attributes:
      init: `init(key, config=None) -> State`. The State is one pytree with everything that the run
        carries: config, parameters, optimiser, normalisers, environments, key, counters. A config
        is validated where its values are known; in `jax.vmap(algorithm.init)(keys, configs)` they
        are not: `configs.validate(env)` checks them all.
      step: `step(state) -> (State, Metrics)`: collects and updates, once.
      act: `act(state, obs, key, deterministic) -> action`: an element of the environment's action
        space for each observation, `[..., *obs_shape]`; deterministic is a Python bool. False
        explores as in training: it samples from the policy, or adds the noise of an environment
        drawn anew for each observation (TD3, FastTD3), or takes a random action with probability
        epsilon (StaQ).
      env: the single environment.
      config: the Config it was made with; its static fields hold for every State.
      steps_per_iteration: environment steps that one `step` takes.
      initial_steps: environment steps that `init` takes, to fill a replay.
      logits: `logits(state, obs) -> [..., n]` for n discrete actions, of which `act` takes the
        largest when it is deterministic; None for continuous ones.
      replay: the parts of the State that hold past experience, by name; `init` makes them anew.
    """

    init: Callable[..., State]
    step: Callable[[State], tuple[State, Metrics]]
    act: Callable[..., Any]
    env: Any
    config: Any
    steps_per_iteration: int
    initial_steps: int = 0
    logits: Callable[[State, Any], Any] | None = None
    replay: tuple[str, ...] = ()

    def steps_after(self, iterations: int) -> int:
        """Environment steps of `init` and so many calls of `step`."""
        return self.initial_steps + iterations * self.steps_per_iteration

    def iterations(self, total_steps: int) -> int:
        """Calls of `step` that it takes until there were at least so many environment steps."""
        return max(0, -(-(total_steps - self.initial_steps) // self.steps_per_iteration))


def seed_key(seed: int) -> chex.PRNGKey:
    """The typed key of a seed. `jax.random.key` takes seeds that are 2^32 apart for the same.

    Raises:
      ValueError: the seed is no integer between 0 and 2^32 − 1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: must be an integer between 0 and {2**32 - 1}")
    return jax.random.key(int(seed))


def single(tree: Any) -> Any:
    """Arrays as a State carries them: of 32 bits where they have 64, which JAX_ENABLE_X64 gives to
    much that is new.
    """
    return jax.tree.map(lambda x: x.astype(spaces.single(x.dtype)), tree)

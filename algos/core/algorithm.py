"""What an algorithm is: a tuple of pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import chex
import jax

from ...envs import Environment, spaces

State = Any
Metrics = dict[str, Any]
ConfigType = TypeVar("ConfigType", contravariant=True)


class Algorithm(NamedTuple):
    """An algorithm on an environment, as a tuple of pure functions; each `algos.<name>.make`
    returns one.

    Attributes:
      init: `init(key, config=None) -> State`. The State is one pytree with everything that the run
        carries: config, parameters, optimiser, normalisers, environments, key, counters. A config
        is validated where its values are known; in `jax.vmap(algorithm.init)(keys, configs)` they
        are not: `configs.validate(env)` checks them all.
      step: `step(state) -> (State, Metrics)`: collects and updates, once.
      act: `act(state, obs, key, deterministic, memory=None)`: an element of the environment's
        action space for each observation, `[..., *obs_shape]`; deterministic is a Python bool.
        False explores as in training: it samples from the policy, or adds the noise of each
        environment (TD3, FastTD3), or takes a random action with probability epsilon (StaQ).
        Without a memory each observation is the first of an episode, and the action is returned;
        with one, as `memory` makes it, leaves `[..., *shape]`, (action, the memory after it). Only
        policies that remember need it.
      env: the single environment.
      config: the Config it was made with; its static fields hold for every State.
      steps_per_iteration: environment steps that one `step` takes; where it takes none, as in
        learning from data, its critic updates.
      initial_steps: environment steps that `init` takes, to fill a replay.
      memory: `memory(state, key, num_envs)`: what the policy remembers at the start of so many
        episodes, leaves `[num_envs, ...]`; () for policies that remember nothing.
      logits: `logits(state, obs) -> [..., n]` for n discrete actions, of which `act` takes the
        largest when it is deterministic; None for continuous ones.
      evaluation: `evaluation(state, key, num_episodes) -> Metrics`: what an evaluation measures
        besides episodes of the deterministic policy, "eval/..."; None for nothing.
      scores: the returns that stand for 0 and 100, of a random policy and of an expert; evaluations
        then have "eval/normalized_score" too. None where they are not known.
      replay: the parts of the State that hold past experience, by name; `init` makes them anew.
      shardings: where `distribute` has shared the environments out over devices, a State of
        `jax.sharding.NamedSharding`s; else None.
    """

    init: Callable[..., State]
    step: Callable[[State], tuple[State, Metrics]]
    act: Callable[..., Any]
    memory: Callable[..., Any]
    env: Any
    config: Any
    steps_per_iteration: int
    initial_steps: int = 0
    logits: Callable[[State, Any], Any] | None = None
    evaluation: Callable[[State, chex.PRNGKey, int], Metrics] | None = None
    replay: tuple[str, ...] = ()
    scores: tuple[float, float] | None = None
    shardings: Any = None

    def steps_after(self, iterations: int) -> int:
        """Environment steps of `init` and so many calls of `step`."""
        return self.initial_steps + iterations * self.steps_per_iteration

    def iterations(self, total_steps: int) -> int:
        """Calls of `step` that it takes until there were at least so many environment steps."""
        return max(0, -(-(total_steps - self.initial_steps) // self.steps_per_iteration))


class Make(Protocol[ConfigType]):
    """What type checkers know of a `make`: its algorithm's Config, and no other, goes with it."""

    def __call__(
        self,
        env: Environment,
        config: ConfigType | None = None,
        networks: Any = None,
        **options: Any,
    ) -> Algorithm: ...


def single(tree: Any) -> Any:
    """Arrays as a State carries them: of 32 bits where they have 64, which JAX_ENABLE_X64 gives to
    much that is new.
    """
    return jax.tree.map(lambda x: x.astype(spaces.single(x.dtype)), tree)

"""What an algorithm is: three pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

State = Any
Metrics = dict[str, Any]


class Algorithm(NamedTuple):
    """An algorithm on an environment, as a tuple of pure functions; each `algos.<name>.make` returns one.

    Attributes:
      init: `init(key, config=None) -> State`. The State is one pytree with everything that the run carries: config,
        parameters, optimiser, normalisers, environments, key, counters.
      step: `step(state) -> (State, Metrics)`: collects and updates, once.
      act: `act(state, obs, key, deterministic) -> action`: an element of the environment's action space for each
        observation, `[..., *obs_shape]`; deterministic is a Python bool.
      env: the single environment.
      config: the Config it was made with; its static fields hold for every State.
      steps_per_iteration: environment steps that one `step` takes.
    """

    init: Callable[..., State]
    step: Callable[[State], tuple[State, Metrics]]
    act: Callable[..., Any]
    env: Any
    config: Any
    steps_per_iteration: int

"""An average of the parameters that training passes through, as the policy to evaluate.

The last parameters of a noisy optimisation may act worse than their mean (Polyak and Juditsky
1992); behaviour cloning's returns swing from one gradient step to the next while its loss does
not (Block et al. 2023, arXiv 2310.11428).
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from . import guard
from .algorithm import Algorithm, Metrics, State
from .fields import ConfigError


class Average(NamedTuple):
    """An average of parameters, and the weight of what is in it."""

    params: Any
    weight: chex.Array


def start(params: Any) -> Average:
    """Of the first parameters, which count as one."""
    return Average(jax.tree.map(jnp.copy, params), jnp.float32(1.0))


def move(average: Average, params: Any, decay: float | chex.Array) -> Average:
    """With further parameters, by `losses.ewma`; what is no float, such as a counter, is theirs."""
    step = partial(losses.ewma, weight=average.weight, decay=decay)
    _, weight = step(average.weight, x=average.weight)

    def mixed(old, new):
        return step(old, x=new)[0] if jnp.issubdtype(new.dtype, jnp.floating) else new

    return Average(jax.tree.map(mixed, average.params, params), weight)


def averaged(algorithm: Algorithm, decay: float) -> Algorithm:
    """The same training, with an average of the parameters in the State that acts outside of it.

    The average moves after each `step`, and is not biased towards the first parameters: with a
    decay of 1 it is the mean of all. What collects, and what is learned, stays as it is, but for
    how XLA rounds a larger program. `act`, `logits` and `evaluation` take the average, and with
    them evaluations, recordings and certificates; observations are normalised by the statistics of
    the moment.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      decay: of the weights from one step to the next, in [0, 1]; 0 is the algorithm itself.

    Raises:
      ConfigError: the decay is outside of [0, 1], or the policy is not made of the parameters that
        are learned (StaQ's is a sum of past Q-functions, that of BC an average already).
    """
    if not 0.0 <= decay <= 1.0:
        raise ConfigError("ema_decay", decay, "must be between 0 and 1")
    if decay == 0.0:
        return algorithm
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    if getattr(state, "average", None) is None:
        allowed = "must be 0: the policy is not made of the parameters that are learned"
        raise ConfigError("ema_decay", decay, allowed)

    def init(key: chex.PRNGKey, config: Any = None) -> State:
        state = algorithm.init(key, config)
        return state._replace(average=start(state.learner.params))

    def step(state: State) -> tuple[State, Metrics]:
        new, metrics = algorithm.step(state._replace(average=()))
        average = move(state.average, new.learner.params, decay)
        average = guard.keep(guard.ok(new.learner.fault), average, state.average)
        return new._replace(average=average), metrics

    def of_average(function):
        if function is None:
            return None

        def call(state, *args, **kwargs):
            learner = state.learner._replace(params=state.average.params)
            return function(state._replace(learner=learner, average=()), *args, **kwargs)

        return call

    return algorithm._replace(
        init=init,
        step=step,
        act=of_average(algorithm.act),
        logits=of_average(algorithm.logits),
        evaluation=of_average(algorithm.evaluation),
    )


def evaluated(state: State) -> str:
    """Which parameters of a State evaluations are of: its "params" or their "average"."""
    return "average" if isinstance(getattr(state, "average", ()), Average) else "params"

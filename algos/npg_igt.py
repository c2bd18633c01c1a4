"""N-PG-IGT, normalised policy gradient with implicit gradient transport (Fatkhullin et al., ICML
2023, arXiv 2302.01734): steps of a given length along an average of gradients, each of which is
taken ahead of the parameters, so that the average is not of the past.

One `step` is one trajectory of each of num_envs environments, of at most horizon steps, at θ +
((1 − η)/η)(θ − θ_previous), and one step of the parameters. With momentum = 1 and momentum_power =
0 it is the normalised policy gradient. There is no critic, see `actor_only.trajectories`. Differs
from the released code in its baseline, in that the gradient is that of the discounted return, and
in that the look-ahead takes the η of the step and not that of the one before.
"""

from typing import Any

import chex
import jax.numpy as jnp

from . import parameter_steps
from .actor_only import loop, trajectories
from .actor_only.loop import Networks, Room, make_networks
from .actor_only.trajectories import Learner, TrajectoryConfig, init_learner
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass

__all__ = [
    "Config",
    "Learner",
    "Networks",
    "Transition",
    "init_learner",
    "make",
    "make_networks",
    "update",
]


@configclass
class Config(TrajectoryConfig):
    """Hyperparameters of N-PG-IGT."""

    momentum_power: float = 0.8


def sampled_at(learner: Learner, config: Config) -> tuple[Any, chex.Array]:
    """The parameters that act in an iteration, and η of it."""
    power = config.momentum_power
    momentum = parameter_steps.power_decay(config.momentum, learner.iteration, power=power)
    ahead = parameter_steps.look_ahead(learner.params, learner.previous, momentum=momentum)
    return ahead, momentum


def update(
    learner: Learner, batch: Transition, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One step of the parameters.

    Args:
      learner: what is to be updated.
      batch: trajectories, leaves `[T, N, ...]`, of the policy with the parameters of `sampled_at`.
      networks: the networks that belong to learner.params.
      config: the hyperparameters.

    Returns:
      (learner, metrics); after a fault the learner as it was, with the fault.
    """
    params, momentum = sampled_at(learner, config)
    mask = trajectories.alive(batch)
    weights = trajectories.score_weights(batch.reward, mask, gamma=config.gamma)
    grads = trajectories.gradient(params, batch, weights, networks)
    momentum = jnp.where(learner.iteration == 0, 1.0, momentum)
    direction = parameter_steps.recursive_gradient(learner.direction, grads, momentum=momentum)
    size = parameter_steps.power_decay(
        config.learning_rate, learner.iteration, power=config.step_power
    )
    params = parameter_steps.normalized_step(learner.params, direction, size=size)
    return trajectories.finish(learner, params, direction, grads, batch)


def iterate(
    learner: Learner, collection: tuple[()], key: chex.PRNGKey, room: Room
) -> tuple[Learner, tuple[()], tuple, Metrics]:
    """Collects ahead of the parameters, and updates; see `loop.maker`."""
    batch, episodes = trajectories.collect(sampled_at(learner, room.config)[0], key, room)
    learner, metrics = update(learner, batch, networks=room.networks, config=room.config)
    return learner, collection, episodes, metrics


make = loop.maker(Config, init_learner, iterate, goes_on=False)

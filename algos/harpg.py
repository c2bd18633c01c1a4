"""HARPG and N-HARPG, (normalised) Hessian-aided recursive policy gradient (Fatkhullin et al., ICML
2023, arXiv 2302.01734): an average of gradients, which a product of the Hessian carries along from
the last parameters to these.

One `step` is one trajectory of each of num_envs environments at θ, for the gradient, as many at a
random point between θ and the last parameters, for the product, and one step of the parameters.
With momentum = 1 and momentum_power = 0 it is the normalised policy gradient. There is no critic,
see `actor_only.trajectories`. Differs from the released code in that products are formed in each
trajectory, and as N-PG-IGT does here. Without normalize_step the paper has step_power = 0.5.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from . import parameter_steps
from .actor_only import loop, trajectories
from .actor_only.loop import Networks, Room, make_networks
from .actor_only.trajectories import Learner, TrajectoryConfig, init_learner
from .core import parallel
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static

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
    """Hyperparameters of HARPG."""

    normalize_step: bool = static(
        True,
        "Whether a step's length is the learning rate, instead of proportional to the gradient.",
    )

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of an iteration: of two batches."""
        return 2 * self.num_envs * self.horizon


def update(
    learner: Learner,
    batch: Transition,
    between: Transition,
    share: chex.Array,
    *,
    networks: Networks,
    config: Config,
) -> tuple[Learner, Metrics]:
    """One step of the parameters.

    Args:
      learner: what is to be updated.
      batch: trajectories, leaves `[T, N, ...]`, of the policy with learner.params.
      between: as many, with share·params + (1 − share)·previous.
      share: scalar in [0, 1].
      networks: the networks that belong to learner.params.
      config: the hyperparameters.

    Returns:
      (learner, metrics); after a fault the learner as it was, with the fault.
    """
    mask = trajectories.alive(batch)
    weights = trajectories.score_weights(batch.reward, mask, gamma=config.gamma)
    grads = trajectories.gradient(learner.params, batch, weights, networks)
    mask = trajectories.alive(between)
    weights = trajectories.score_weights(between.reward, mask, gamma=config.gamma)
    at = optax.incremental_update(learner.params, learner.previous, share)
    moved = jax.tree.map(jnp.subtract, learner.params, learner.previous)
    product = trajectories.hessian_vector_product(at, between, weights, mask, moved, networks)
    power = config.momentum_power
    momentum = parameter_steps.power_decay(config.momentum, learner.iteration, power=power)
    momentum = jnp.where(learner.iteration == 0, 1.0, momentum)
    direction = parameter_steps.recursive_gradient(
        learner.direction, grads, product, momentum=momentum
    )
    size = parameter_steps.power_decay(
        config.learning_rate, learner.iteration, power=config.step_power
    )
    if config.normalize_step:
        params = parameter_steps.normalized_step(learner.params, direction, size=size)
    else:
        params = jax.tree.map(lambda x, d: x + size * d, learner.params, direction)
    return trajectories.finish(learner, params, direction, grads, batch, between)


def iterate(
    learner: Learner, collection: tuple[()], key: chex.PRNGKey, room: Room
) -> tuple[Learner, tuple[()], tuple, Metrics]:
    """Collects both batches, and updates; see `loop.maker`."""
    key, between_key, share_key = jax.random.split(key, 3)
    batch, episodes = trajectories.collect(learner.params, key, room)
    share = parallel.same(jax.random.uniform(share_key))
    at = optax.incremental_update(learner.params, learner.previous, share)
    between, _ = trajectories.collect(at, between_key, room)
    learner, metrics = update(
        learner, batch, between, share, networks=room.networks, config=room.config
    )
    return learner, collection, episodes, metrics


make = loop.maker(Config, init_learner, iterate, goes_on=False)

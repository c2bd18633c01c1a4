"""Behavioural cloning, with an average of the actor's weights (EMA of BC; Block et al., 2023, arXiv
2310.11428).

The actor regresses to the data's actions. What acts is the average of its weights: after each
update it moves towards them by `losses.ema_rate`, max(t^(−ema_power), ema_floor), t counted from
ema_start on. With ema_floor = 1, the default, that is the actor itself, plain cloning; the paper's
averages have ema_floor=1e-4. `core.averaging`, whose average would not act, refuses BC. There are
no critics. One `step` is num_updates updates. The paper was read in its poster and reviews: form
and power are theirs, floor and start ours.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, static, traced
from .core.networks import actor_space
from .off_policy import actor_critic, deterministic, offline
from .off_policy.actor_critic import Batch, Learner
from .off_policy.networks import DeterministicActor, Networks, torso
from .off_policy.offline import OfflineConfig

__all__ = [
    "Batch",
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
class Config(OfflineConfig):
    """Hyperparameters of behavioural cloning; those of critics are not used."""

    policy_delay: int = static(1, "Must be 1: there are no critics.", low=1, high=1)
    ema_power: float = traced(0.67, "Power of the decay of the average's rate.", low=0, high=1)
    ema_floor: float = traced(
        1.0, "Smallest rate of the average; 1 is no averaging.", low=0, high=1
    )
    ema_start: int = traced(0, "Updates before the average begins.", low=0, high=2**31 - 1)


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor, as the config says, and no critic."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    actor = DeterministicActor(layers, env.action_space.shape[0], config.initialiser)
    return Networks(actor, critic=None)


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """A fresh actor, its average, which is the target "actor", and a count of updates."""
    options = {"env": env, "networks": networks, "config": config, "targets": ("actor",)}
    learner = actor_critic.init_learner(key, **options)
    return learner._replace(targets=learner.targets | {"count": jnp.int32(0)})


def update_average(learner: Learner, config: Config) -> Learner:
    """The learner with its average, and the count of updates, after one more update."""
    count = learner.targets["count"] + 1
    rate = losses.ema_rate(count - config.ema_start, power=config.ema_power, floor=config.ema_floor)
    learner = actor_critic.update_target(learner, "actor", config, rate)
    return learner._replace(targets=learner.targets | {"count": count})


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor towards the data's actions; then its average follows."""

    def loss(actor):
        actor_loss = jnp.mean(losses.bc_loss(actor(batch.obs), batch.action))
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    return update_average(learner, config), metrics


update = partial(
    actor_critic.update, critic_update=actor_critic.no_update, actor_update=actor_update
)
make = offline.maker(
    Config,
    make_networks,
    init_learner,
    update,
    deterministic.quiet_policy,
    acting=lambda learner, config: learner.targets,
)

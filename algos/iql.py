"""Implicit Q-learning (Kostrikov et al., 2022, arXiv 2110.06169).

A value network regresses to an expectile of the critics over the data's actions, the critics to the
value of the successor, and the actor to the data's actions, weighted by exp(coefficient·advantage).
One `step` is num_updates of these three in turn, after each of which the critics' targets follow;
no environment is stepped. Differs from the published code in that the actor's learning rate is not
annealed by a cosine (anneal_lr anneals all linearly), that observations are normalised by default,
and that minibatches are drawn with replacement.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .off_policy import actor_critic, implicit, offline
from .off_policy.actor_critic import Batch, Learner
from .off_policy.implicit import (
    ImplicitConfig,
    Networks,
    critic_update,
    init_learner,
    make_networks,
    make_policy,
)
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
class Config(OfflineConfig, ImplicitConfig):
    """Hyperparameters of IQL."""

    coefficient: float = traced(3.0, "Inverse temperature of the advantages.", low=0)


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor towards the better of the data's actions; then the critics'
    targets follow.
    """
    q = implicit.target_q(learner, batch, networks)
    value = networks.value.apply(learner.params["value"], batch.obs)

    def loss(actor):
        each = losses.iql_actor_loss(
            implicit.log_prob(actor(batch.obs), batch.action),
            q,
            value,
            coefficient=config.coefficient,
            max_weight=config.max_weight,
        )
        actor_loss = jnp.mean(each)
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = offline.maker(Config, make_networks, init_learner, update, make_policy)

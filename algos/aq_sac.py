"""Annealed Q-learning on SAC: critics that begin optimistic, as an expectile of their target, and
end as its mean.

The weight of a critic below its target falls from `expectile` to `final_expectile` over
anneal_fraction of total_steps; with ½ it is SAC, to rounding. Soft targets, actor and temperature
are SAC's, discrete actions too, and one `step` is as there. What of the paper was not available is
said in `aq_td3`.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass
from .off_policy import actor_critic, expectile, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.expectile import ExpectileConfig
from .off_policy.networks import Networks
from .off_policy.sequences import remembering
from .off_policy.soft import TemperatureConfig, init_learner, make_policy

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
class Config(ExpectileConfig, TemperatureConfig):
    """Hyperparameters of annealed Q-learning on SAC."""


make_networks = remembering(soft.make_networks)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards an expectile of the soft target; then their targets
    follow.
    """
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    next_log_prob, next_q = soft.evaluate_policy(
        networks, distribution, learner.targets["critic"], batch.next_obs, key
    )
    alpha = jnp.exp(learner.params["log_alpha"])
    target = losses.sac_target(batch.reward, batch.discount, next_q, next_log_prob, alpha=alpha)
    learner, metrics = expectile.update_soft_expectile_critics(
        learner, batch, target, key, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the soft value, and one of the temperature."""
    alpha = jnp.exp(learner.params["log_alpha"])

    def loss(actor):
        critic = learner.params["critic"]
        log_prob, q = soft.evaluate_policy(networks, actor(batch.obs), critic, batch.obs, key)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    log_prob = -metrics["losses/entropy"]
    learner, alpha_metrics = soft.update_temperature(
        learner, batch, log_prob, networks=networks, config=config
    )
    return learner, metrics | alpha_metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)

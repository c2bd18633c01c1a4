"""Annealed Q-learning on TD3: critics that begin optimistic, as an expectile of their target, and
end as its mean.

The weight of a critic below its target falls from `expectile` to `final_expectile` over
anneal_fraction of total_steps; with ½ it is TD3, to rounding. Targets, exploration and actor are
TD3's, and one `step` is as there. The paper was read in two summaries alone, which agree but for
the sign of the error: it is that which approaches the maximum. That annealing takes all of
total_steps by default is one of them.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .off_policy import actor_critic, deterministic, expectile, loop
from .off_policy.actor_critic import Batch, Learner
from .off_policy.deterministic import init_learner
from .off_policy.expectile import ExpectileConfig
from .off_policy.networks import Networks, apply_ensemble, apply_first, smallest
from .off_policy.sequences import remembering

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
class Config(ExpectileConfig):
    """Hyperparameters of annealed Q-learning on TD3."""

    policy_delay: int = 2
    exploration_noise: float = traced(
        0.1, "Standard deviation of the noise on actions in [−1, 1].", low=0
    )
    policy_noise: float = traced(0.2, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        deterministic.require_continuous(env)


make_networks = remembering(deterministic.make_networks)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards an expectile of the clipped double-Q target."""
    actor, critic = learner.targets["actor"], learner.targets["critic"]
    next_action = deterministic.smoothed_action(networks.actor, actor, batch.next_obs, key, config)
    next_q = apply_ensemble(networks.critic, critic, batch.next_obs, next_action)
    target = losses.bootstrapped_target(batch.reward, batch.discount, smallest(next_q))
    return expectile.update_expectile_critics(
        learner, batch, target, key, networks=networks, config=config
    )


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic; then all targets follow."""

    def loss(actor):
        action = actor(batch.obs)
        q = apply_first(networks.critic, learner.params["critic"], batch.obs, action)
        actor_loss = jnp.mean(losses.td3_actor_loss(q))
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    learner = actor_critic.update_target(learner, "critic", config)
    return actor_critic.update_target(learner, "actor", config), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)


def exploration_noise(key: chex.PRNGKey, num_envs: int, config: Config) -> chex.Array:
    """The standard deviation of exploration in each environment, `[N]`: the same in all."""
    del key
    return jnp.full(num_envs, config.exploration_noise)


make_policy = deterministic.policy_maker(exploration_noise)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)

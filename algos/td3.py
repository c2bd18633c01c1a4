"""Twin Delayed DDPG (Fujimoto et al., 2018, arXiv 1802.09477), for continuous actions.

One `step` is policy_delay/num_updates vector steps (at least one) of num_envs environments,
num_updates critic updates for each, and one actor update per policy_delay of these, after which the
targets of actor and critics follow. Differs from the published code in that the environment steps
of a block are taken before its updates instead of between them, that minibatches are drawn with
replacement, and that layers start with zero biases.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .off_policy import actor_critic, deterministic, loop
from .off_policy.actor_critic import Batch, Learner
from .off_policy.config import OffPolicyConfig
from .off_policy.deterministic import init_learner
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
class Config(OffPolicyConfig):
    """Hyperparameters of TD3."""

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
    """One gradient step of all critics towards the clipped double-Q target."""
    actor, critic = learner.targets["actor"], learner.targets["critic"]
    next_action = deterministic.smoothed_action(networks.actor, actor, batch.next_obs, key, config)
    next_q = apply_ensemble(networks.critic, critic, batch.next_obs, next_action)
    target = losses.bootstrapped_target(batch.reward, batch.discount, smallest(next_q))
    return actor_critic.update_critics(
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

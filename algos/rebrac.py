"""ReBRAC (Tarasov et al., 2023, arXiv 2305.09836): TD3+BC with the distance from the data in the
critics' target too, weights apart, and normalised layers in deep critics.

One `step` is as in TD3+BC. Transitions that none follows, the last of a truncated episode, are left
out, since the target needs the data's next action; the published code takes whatever row comes
next. Also differs from it in that actors' layers are normalised as critics' are, with layer_norm,
in what is said of TD3 in `algos.td3`, and by default in learning_rate and batch_size, which for
locomotion are 1e-3 and 1024 there.
"""

from functools import partial

import chex
import jax.numpy as jnp

from .. import losses
from .core import parallel
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .off_policy import actor_critic, deterministic, offline
from .off_policy.actor_critic import Batch, Learner
from .off_policy.deterministic import init_learner, make_networks
from .off_policy.networks import Networks, apply_ensemble, smallest
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
    """Hyperparameters of ReBRAC."""

    policy_delay: int = 2
    normalize_obs: bool = False
    layer_norm: bool = True
    actor_hidden_sizes: tuple[int, ...] = (256, 256, 256)
    critic_hidden_sizes: tuple[int, ...] = (256, 256, 256)
    actor_beta: float = traced(1.0, "Weight of the distance in the actor's loss.", low=0)
    critic_beta: float = traced(1.0, "Weight of the distance in the critics' target.", low=0)
    policy_noise: float = traced(0.2, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the clipped double-Q target less the distance."""
    actor, critic = learner.targets["actor"], learner.targets["critic"]
    next_action = deterministic.smoothed_action(networks.actor, actor, batch.next_obs, key, config)
    next_q = smallest(apply_ensemble(networks.critic, critic, batch.next_obs, next_action))
    target = losses.rebrac_target(
        batch.reward,
        batch.discount,
        next_q,
        next_action,
        batch.next_action,
        beta=config.critic_beta,
    )
    return actor_critic.update_critics(
        learner, batch, target, key, networks=networks, config=config
    )


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the smaller critic and towards the data; then all targets
    follow.
    """

    def loss(actor):
        action = actor(batch.obs)
        q = smallest(apply_ensemble(networks.critic, learner.params["critic"], batch.obs, action))
        weight = losses.behaviour_weight(parallel.gathered(q), alpha=1.0)
        each = losses.rebrac_actor_loss(
            q, action, batch.action, weight=weight, beta=config.actor_beta
        )
        actor_loss = jnp.mean(each)
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    learner = actor_critic.update_target(learner, "critic", config)
    return actor_critic.update_target(learner, "actor", config), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = offline.maker(
    Config, make_networks, init_learner, update, deterministic.quiet_policy, next_actions=True
)

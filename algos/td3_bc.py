"""TD3+BC (Fujimoto and Gu, 2021, arXiv 2106.06860): TD3 on data, with one term more in the actor's
loss, the distance from the data's action.

One `step` is num_updates critic updates and one actor update per policy_delay of them, after which
the targets of actor and critics follow; no environment is stepped. Differs from the published code
in that observations are divided by at least 0.001 and not by their standard deviation plus it, and
clipped to ±10 of them, and in what is said of TD3 in `algos.td3`.
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
from .off_policy.deterministic import critic_update, init_learner, make_networks
from .off_policy.networks import Networks, apply_first
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
    """Hyperparameters of TD3+BC."""

    policy_delay: int = 2
    alpha: float = traced(2.5, "Weight of Q beside the distance from the data.", low=0)
    policy_noise: float = traced(0.2, "Standard deviation of the noise on target actions.", low=0)
    noise_clip: float = traced(0.5, "Bound of the noise on target actions.", low=0)


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic and towards the data; then all targets
    follow.
    """

    def loss(actor):
        action = actor(batch.obs)
        q = apply_first(networks.critic, learner.params["critic"], batch.obs, action)
        weight = losses.behaviour_weight(parallel.gathered(q), alpha=config.alpha)
        each = losses.td3_bc_actor_loss(q, action, batch.action, weight=weight)
        actor_loss = jnp.mean(each)
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.gradient_step(
        learner, "actor", loss, key, networks=networks, config=config
    )
    learner = actor_critic.update_target(learner, "critic", config)
    return actor_critic.update_target(learner, "actor", config), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = offline.maker(Config, make_networks, init_learner, update, deterministic.quiet_policy)

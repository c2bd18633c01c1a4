"""FastSAC (Seo et al., 2025, arXiv 2512.01996): SAC with FastTD3's categorical critics and large
minibatches.

As released with holosoma (`fast_sac.py` as of 2026-01): layer normalisation and SiLU, each critic
regresses to its own projected target, the actor climbs the mean of the critics, the entropy bonus
enters the target as part of the reward, before the projection, and the temperature moves with every
critic update. One `step` is as in FastTD3.

Differs from the released code in what FastTD3 lists here, in that actions fill the environment's
bounds (no scales per joint), and in that minibatches are not augmented by symmetry.
"""

from functools import partial

import chex
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass
from .off_policy import actor_critic, categorical, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.categorical import CategoricalConfig
from .off_policy.networks import Networks, action_critic, apply_ensemble
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
class Config(CategoricalConfig, TemperatureConfig):
    """Hyperparameters of FastSAC; sizes that suit a laptop. The published ones are presets."""

    gamma: float = 0.97
    tau: float = 0.125
    v_min: float = -20.0
    v_max: float = 20.0
    weight_decay: float = 0.001
    num_envs: int = 64
    batch_size: int = 512
    num_updates: int = 4
    policy_delay: int = 4
    normalize_obs: bool = True
    actor_hidden_sizes: tuple[int, ...] = (128, 64, 32)
    critic_hidden_sizes: tuple[int, ...] = (192, 96, 48)
    activation: str = "silu"
    layer_norm: bool = True
    initial_alpha: float = 0.001
    target_entropy: float = 0.0

    def optimiser(self, name: str = "") -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adamw(self.learning_rate, b2=0.95, weight_decay=self.weight_decay)


@remembering
def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    actor = soft.make_actor(env, config, log_std_bounds=(-5.0, 0.0), scale=0.0)
    return Networks(actor, action_critic(config, config.num_atoms))


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of each critic towards its own soft target, and of the temperature; then
    the targets follow.
    """
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    next_action, next_log_prob = soft.sample_action(distribution, key)
    next_logits = apply_ensemble(
        networks.critic, learner.targets["critic"], batch.next_obs, next_action
    )
    # The soft target without its Q: what is left is a reward.
    alpha = jnp.exp(learner.params["log_alpha"])
    no_q = jnp.zeros_like(batch.reward)
    reward = losses.sac_target(batch.reward, batch.discount, no_q, next_log_prob, alpha=alpha)
    target = categorical.projected(next_logits, reward, batch.discount, config.support)
    learner, metrics = categorical.update_categorical_critics(
        learner, batch, target, key, networks=networks, config=config
    )
    learner, alpha_metrics = soft.update_temperature(
        learner, batch, next_log_prob, networks=networks, config=config
    )
    return actor_critic.update_target(learner, "critic", config), metrics | alpha_metrics


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the soft value, the mean of the critics."""
    alpha = jnp.exp(learner.params["log_alpha"])

    def loss(actor):
        action, log_prob = soft.sample_action(actor(batch.obs), key)
        logits = apply_ensemble(networks.critic, learner.params["critic"], batch.obs, action)
        q = jnp.mean(categorical.mean_q(logits, config), axis=0)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics

    return actor_critic.gradient_step(learner, "actor", loss, key, networks=networks, config=config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)

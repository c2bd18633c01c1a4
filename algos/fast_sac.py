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
from .core.config import configclass, static, traced
from .core.networks import actor_space
from .off_policy import actor_critic, categorical, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.categorical import CategoricalConfig
from .off_policy.networks import (
    Networks,
    SquashedGaussianActor,
    action_critic,
    apply_ensemble,
    torso,
)
from .off_policy.soft import init_learner, make_policy

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
class Config(CategoricalConfig):
    """Hyperparameters of FastSAC; sizes that suit a laptop. The published ones are presets."""

    gamma: float = traced(0.97, "Discount per environment step.", low=0, high=1)
    tau: float = traced(
        0.125, "Weight of the new parameters in the target networks.", above=0, high=1
    )
    v_min: float = traced(-20.0, "The smallest return that the critics can express.")
    v_max: float = traced(
        20.0, "The largest; a discounted sum of the largest rewards is a good choice."
    )
    weight_decay: float = traced(0.001, "Decay of AdamW, for all parameters.", low=0)
    num_envs: int = static(64, "Environments that are stepped together.", low=1)
    batch_size: int = static(512, "Transitions in a minibatch.", low=1)
    num_updates: int = static(4, "Critic updates per vector step.", low=1)
    policy_delay: int = static(4, "Critic updates per actor update.", low=1)
    normalize_obs: bool = static(True, "Whether observations are normalised by running statistics.")
    actor_hidden_sizes: tuple[int, ...] = static(
        (128, 64, 32), "Widths of the actor's hidden layers.", low=1
    )
    critic_hidden_sizes: tuple[int, ...] = static(
        (192, 96, 48), "Widths of the critics' hidden layers.", low=1
    )
    activation: str = static(
        "silu", "Activation of all networks.", choices=("silu", "relu", "elu", "tanh")
    )
    layer_norm: bool = static(True, "Whether the hidden layers are normalised.")
    initial_alpha: float = traced(0.001, "The temperature at the start.", above=0)
    target_entropy: float = traced(
        0.0,
        "The policy's entropy that the temperature holds, in nats; inf stands for −d.",
        high=float("inf"),
    )

    def optimiser(self) -> optax.GradientTransformation:
        """The optimiser of each set of parameters."""
        return optax.adamw(self.learning_rate, b2=0.95, weight_decay=self.weight_decay)


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    actor = SquashedGaussianActor(
        layers, env.action_space.shape[0], (-5.0, 0.0), config.initialiser, scale=0.0
    )
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
        return actor_loss, {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}

    return actor_critic.gradient_step(learner, "actor", loss, key, networks=networks, config=config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)

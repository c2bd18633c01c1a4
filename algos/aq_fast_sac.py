"""Annealed Q-learning on FastSAC, with critics that put out a number: they begin optimistic, as an
expectile of their target, and end as its mean.

Categorical critics have no expectile, so that this is FastSAC (`fast_sac`) but for them: each
critic regresses to its own soft target, the actor climbs the mean of the critics, and the
temperature moves with every critic update. The weight of a critic below its target falls from
`expectile` to `final_expectile` over anneal_fraction of total_steps; with ½ critics regress to the
mean. One `step` is as in FastSAC. What of the paper was not available is said in `aq_td3`.
"""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax

from .. import losses
from ..envs import Environment
from .core.algorithm import Metrics
from .core.collect import Transition
from .core.config import configclass, traced
from .off_policy import actor_critic, expectile, loop, soft
from .off_policy.actor_critic import Batch, Learner
from .off_policy.deterministic import require_continuous
from .off_policy.expectile import ExpectileConfig
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
class Config(ExpectileConfig, TemperatureConfig):
    """Hyperparameters of annealed Q-learning on FastSAC; sizes that suit a laptop."""

    gamma: float = 0.97
    tau: float = 0.125
    weight_decay: float = traced(0.001, "Decay of AdamW, for all parameters.", low=0)
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

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, and that actions are continuous.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        require_continuous(env)

    def optimiser(self, name: str) -> optax.GradientTransformation:
        """The optimiser of a set of parameters, the same for all."""
        del name
        return optax.adamw(self.learning_rate, b2=0.95, weight_decay=self.weight_decay)


@remembering
def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    actor = soft.make_actor(env, config, log_std_bounds=(-5.0, 0.0), scale=0.0)
    return Networks(actor, action_critic(config))


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of each critic towards an expectile of its own soft target, and of the
    temperature; then the targets follow.
    """
    distribution = networks.actor.apply(learner.params["actor"], batch.next_obs)
    next_action, next_log_prob = soft.sample_action(distribution, key)
    next_q = apply_ensemble(networks.critic, learner.targets["critic"], batch.next_obs, next_action)
    alpha = jnp.exp(learner.params["log_alpha"])
    own_target = jax.vmap(partial(losses.sac_target, alpha=alpha), in_axes=(None, None, 0, None))
    target = own_target(batch.reward, batch.discount, next_q, next_log_prob)
    learner, metrics = expectile.update_soft_expectile_critics(
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
        q = apply_ensemble(networks.critic, learner.params["critic"], batch.obs, action)
        q = jnp.mean(q, axis=0)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        metrics = {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}
        return actor_loss, metrics

    return actor_critic.gradient_step(learner, "actor", loss, key, networks=networks, config=config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)
make = loop.maker(Config, make_networks, init_learner, update, make_policy)

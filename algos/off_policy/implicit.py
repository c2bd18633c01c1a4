"""Policies that are Gaussian in the action itself, and a value network beside the critics: what IQL
and FamO2O share.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Environment
from ..core.algorithm import Metrics
from ..core.collect import Policy
from ..core.config import BaseConfig, configclass, traced
from ..core.heads import Gaussian, sample_gaussian
from ..core.initialisers import dense
from ..core.networks import Value, actor_obs, actor_space, critic_space, sample_obs
from . import actor_critic
from .actor_critic import Batch, Learner
from .networks import action_critic, apply_ensemble, smallest, torso


@configclass
class ImplicitConfig(BaseConfig):
    """What algorithms with an implicit value have in common."""

    expectile: float = traced(0.7, "τ of the value's regression.", low=0.5, high=0.999)
    max_weight: float = traced(
        100.0, "The largest weight of an action in the actor's loss.", above=0
    )


class GaussianActor(nn.Module):
    """A torso, and a layer with tanh that puts out the mean of a `Gaussian` over actions; the
    standard deviation is a parameter of its own, between e^−5 and e^2.
    """

    torso: nn.Module
    size: int
    initialiser: str = "uniform"

    @nn.compact
    def __call__(self, obs: Any) -> Gaussian:
        x = self.torso(actor_obs(obs)).astype(jnp.float32)
        mean = jnp.tanh(dense(self.size, self.initialiser)(x))
        log_std = self.param("log_std", nn.initializers.zeros_init(), (self.size,))
        return Gaussian(mean, jnp.broadcast_to(jnp.clip(log_std, -5.0, 2.0), mean.shape))


class Networks(NamedTuple):
    """Actor and critic as elsewhere, and a value network, observations to `[...]`."""

    actor: nn.Module
    critic: nn.Module
    value: nn.Module
    optimiser: Any = None


def make_networks(env: Environment, config: Any) -> Networks:
    """An actor, a critic and a value network of the critic's widths, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    value_layers = torso(critic_space(env), config.critic_hidden_sizes, config)
    return Networks(
        GaussianActor(layers, env.action_space.shape[0], config.initialiser),
        action_critic(config),
        Value(value_layers, config.initialiser),
    )


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Any, config: Any, **more: Any
) -> Learner:
    """Fresh parameters, value network included, the critics' targets, optimisers and statistics;
    `more` is what else is learned, by name.
    """
    key, value_key = jax.random.split(key)
    value = networks.value.init(value_key, sample_obs(env))
    options = {"env": env, "networks": networks, "config": config, "targets": ("critic",)}
    return actor_critic.init_learner(key, **options, value=value, **more)


def target_q(learner: Learner, batch: Batch, networks: Networks) -> chex.Array:
    """The smaller of the target critics at the data's actions, `[B]`."""
    critic = learner.targets["critic"]
    return smallest(apply_ensemble(networks.critic, critic, batch.obs, batch.action))


def critic_update(
    learner: Learner,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Networks,
    config: ImplicitConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of the value towards an expectile of Q, and then one of all critics towards
    the value of the successor.
    """
    step = partial(actor_critic.gradient_step, networks=networks, config=config)
    q = target_q(learner, batch, networks)
    value_key, critic_key = jax.random.split(key)

    def loss(value):
        each = losses.iql_value_loss(value(batch.obs), q, expectile=config.expectile)
        value_loss = jnp.mean(each)
        return value_loss, {"losses/value_loss": value_loss}

    learner, metrics = step(learner, "value", loss, value_key)
    next_value = networks.value.apply(learner.params["value"], batch.next_obs)
    target = losses.bootstrapped_target(batch.reward, batch.discount, next_value)
    learner, critic_metrics = actor_critic.update_critics(
        learner, batch, target, critic_key, networks=networks, config=config
    )
    return learner, metrics | critic_metrics


def log_prob(distribution: Gaussian, action: chex.Array) -> chex.Array:
    """log π(a|s) in nats, `[B]`, without a correction for actions at their bounds."""
    return jnp.sum(losses.gaussian_log_prob(action, *distribution), axis=-1)


def make_policy(env: Environment, networks: Networks) -> Policy:
    """`gaussian_policy` of the actor."""
    del env

    def distribution(params, obs):
        return networks.actor.apply(params["actor"], obs)

    return gaussian_policy(distribution)


def gaussian_policy(distribution: Callable[[Any, Any], Gaussian]) -> Policy:
    """Explores by sampling, clipped to the bounds; without exploring, takes the mean.

    Args:
      distribution: (params, obs) -> that of actions.
    """

    def explore(params, memory, obs, key):
        action = sample_gaussian(key, distribution(params, obs))
        return jnp.clip(action, -1.0, 1.0), (), memory

    def act(params, memory, obs):
        return distribution(params, obs).mean, memory

    return Policy(explore, act)

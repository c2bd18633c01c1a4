"""Stochastic policies with a temperature: what SAC and its kin share."""

import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Discrete, Environment
from ..core.algorithm import Metrics
from ..core.collect import Policy
from ..core.config import BaseConfig, configclass, traced
from ..core.heads import Gaussian, make_head
from ..core.networks import actor_space, critic_space
from . import actor_critic, sequences
from .actor_critic import Batch, Learner, gradient_step
from .config import OffPolicyConfig
from .networks import (
    CategoricalActor,
    DiscreteCritic,
    Networks,
    SquashedGaussianActor,
    action_critic,
    apply_ensemble,
    smallest,
    torso,
)


@configclass
class TemperatureConfig(BaseConfig):
    """What algorithms that learn their temperature have in common."""

    initial_alpha: float = traced(1.0, "The temperature at the start.", above=0)
    target_entropy: float = traced(
        float("inf"),
        "The policy's entropy that the temperature holds, in nats; inf stands for −d with d"
        " continuous actions, and ½·log n with n discrete ones.",
        high=float("inf"),
    )


def make_actor(
    env: Environment,
    config: OffPolicyConfig,
    log_std_bounds: tuple[float, float] = (-5.0, 2.0),
    scale: float = 1.0,
) -> SquashedGaussianActor:
    """A squashed Gaussian actor, as the config says; scale is that of its last layer's start."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    size = env.action_space.shape[0]
    return SquashedGaussianActor(layers, size, log_std_bounds, config.initialiser, scale)


def make_networks(env: Environment, config: OffPolicyConfig) -> Networks:
    """An actor and a critic, as the config says; discrete actions are taken under an action mask,
    if there is one.
    """
    space = env.action_space
    if not isinstance(space, Discrete):
        return Networks(make_actor(env, config), action_critic(config))
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    critic_layers = torso(critic_space(env), config.critic_hidden_sizes, config)
    critic = DiscreteCritic(critic_layers, space.n, config.initialiser)
    return Networks(CategoricalActor(layers, space.n, config.initialiser), critic)


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: TemperatureConfig
) -> Learner:
    """Fresh parameters, critics and their targets, temperature, optimisers and statistics."""
    return actor_critic.init_learner(
        key,
        env=env,
        networks=networks,
        config=config,
        targets=("critic",),
        log_alpha=jnp.log(jnp.asarray(config.initial_alpha, jnp.float32)),
    )


def sample_action(distribution: Gaussian, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
    """An action in [−1, 1]^d, differentiable, and log π of it in nats: `[..., d]` and `[...]`."""
    mean = distribution.mean
    return squash(distribution, jax.random.normal(key, mean.shape, mean.dtype))


def squash(distribution: Gaussian, noise: chex.Array) -> tuple[chex.Array, chex.Array]:
    """The action, in [−1, 1]^d, that a standard normal `noise[..., d]` draws, and log π of it in
    nats: `[..., d]` and `[...]`.
    """
    pre_tanh = distribution.mean + jnp.exp(distribution.log_std) * noise
    log_prob = losses.tanh_gaussian_log_prob(pre_tanh, *distribution)
    return jnp.tanh(pre_tanh), jnp.sum(log_prob, axis=-1)


def evaluate_policy(
    networks: Networks, distribution: Any, critic_params: Any, obs: Any, key: chex.PRNGKey
) -> tuple[chex.Array, chex.Array]:
    """log π and the smallest of the critics' Q at the policy's actions, both `[B]`.

    Of one sampled action each if the policy is a `Gaussian`; expectations over all actions if it is
    logits: of each action's smallest Q, as Christodoulou (2019, arXiv 1910.07207) and the code
    released with that paper take them.
    """
    if isinstance(distribution, Gaussian):
        action, log_prob = sample_action(distribution, key)
        q = apply_ensemble(networks.critic, critic_params, obs, action)
        return log_prob, smallest(q)
    q = smallest(apply_ensemble(networks.critic, critic_params, obs))
    probs = jax.nn.softmax(distribution)
    return -losses.categorical_entropy(distribution), jnp.sum(probs * q, axis=-1)


def target_entropy(
    networks: Networks, learner: Learner, batch: Batch, config: TemperatureConfig
) -> chex.Array:
    """config.target_entropy, or what inf stands for, in nats."""
    distribution = jax.eval_shape(networks.actor.apply, learner.params["actor"], batch.obs)
    if isinstance(distribution, Gaussian):
        automatic = -float(distribution.mean.shape[-1])
    else:
        automatic = 0.5 * math.log(distribution.shape[-1])
    return jnp.where(jnp.isinf(config.target_entropy), automatic, config.target_entropy)


def update_temperature(
    learner: Learner,
    batch: Batch,
    log_prob: chex.Array,
    *,
    networks: Networks,
    config: TemperatureConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of the temperature towards where the policy's entropy is the target, by
    log π of sampled actions, `[B]`, or their mean; see `losses.sac_temperature_loss`.
    """
    target = target_entropy(networks, learner, batch, config)

    def loss(log_alpha):
        alpha_loss = losses.sac_temperature_loss(log_alpha, log_prob, target_entropy=target)
        alpha_loss = jnp.mean(alpha_loss)
        return alpha_loss, {"losses/alpha_loss": alpha_loss, "losses/alpha": jnp.exp(log_alpha)}

    return gradient_step(learner, "log_alpha", loss, networks=networks, config=config)


def make_policy(env: Environment, networks: Networks) -> Policy:
    """Explores by sampling; without exploring, takes the mode."""
    head = make_head(env.action_space, "tanh_gaussian")

    def stored(action, distribution):
        return jnp.tanh(action) if isinstance(distribution, Gaussian) else action

    def explore(params, memory, obs, key):
        distribution, memory = sequences.act(networks, params, memory, obs)
        action = stored(head.sample(key, distribution), distribution)
        return action, (), sequences.watch(networks, params, memory, obs, action)

    def act(params, memory, obs):
        distribution, memory = sequences.act(networks, params, memory, obs)
        return stored(head.mode(distribution), distribution), memory

    def logits(params, memory, obs):
        return sequences.act(networks, params, memory, obs)[0]

    def memory(key, num_envs, config):
        del key
        return sequences.initial_memory(networks, num_envs, config)

    discrete = isinstance(env.action_space, Discrete)
    return Policy(explore, act, memory, logits if discrete else None)


update_soft_critics = partial(actor_critic.update_critics, scale=0.5)

"""Soft Actor-Critic (Haarnoja et al., 2018, arXiv 1812.05905) with twin critics and automatic
temperature.

For discrete actions it is that of Christodoulou (2019, arXiv 1910.07207): expectations over all
actions in place of samples. One `step` is policy_delay/num_updates vector steps (at least one) of
num_envs environments, num_updates critic updates for each, and one update of actor and temperature
per policy_delay of these. Differs from the published code in that log_std is bounded smoothly, by a
tanh, instead of clipped, and that the minibatch of the temperature's update is the actor's.
"""

import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Discrete, Environment
from .core.algorithm import Algorithm, Metrics
from .core.config import configclass, traced
from .core.networks import (
    Gaussian,
    actor_space,
    critic_space,
    make_head,
    sample_gaussian,
    sample_obs,
)
from .off_policy import actor_critic, loop
from .off_policy.actor_critic import Batch, Learner, OffPolicyConfig
from .off_policy.loop import Policy
from .off_policy.networks import (
    CategoricalActor,
    DiscreteCritic,
    Networks,
    SquashedGaussianActor,
    action_critic,
    apply_ensemble,
    init_ensemble,
    torso,
)

__all__ = ["Batch", "Config", "Learner", "init_learner", "make", "make_networks", "update"]


@configclass
class Config(OffPolicyConfig):
    """Hyperparameters of SAC."""

    initial_alpha: float = traced(1.0, "The temperature at the start.", above=0)
    target_entropy: float = traced(
        float("inf"),
        "The policy's entropy that the temperature holds, in nats; inf stands for −d with d"
        " continuous actions, and ½·log n with n discrete ones.",
        high=float("inf"),
    )


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    space = env.action_space
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    if isinstance(space, Discrete):
        critic_layers = torso(critic_space(env), config.critic_hidden_sizes, config)
        critic = DiscreteCritic(critic_layers, space.n, config.initialiser)
        return Networks(CategoricalActor(layers, space.n, config.initialiser), critic)
    actor = SquashedGaussianActor(layers, space.shape[0], (-5.0, 2.0), config.initialiser)
    return Networks(actor, action_critic(config))


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters, two critics and their targets, temperature, optimisers and statistics."""
    obs = sample_obs(env)
    inputs = (
        (obs,)
        if isinstance(env.action_space, Discrete)
        else (obs, jnp.zeros(env.action_space.shape))
    )
    actor_key, critic_key = jax.random.split(key)
    params = {
        "actor": networks.actor.init(actor_key, obs),
        "critic": init_ensemble(networks.critic, critic_key, 2, *inputs),
        "log_alpha": jnp.log(jnp.asarray(config.initial_alpha, jnp.float32)),
    }
    return actor_critic.learner_of(params, ("critic",), env=env, config=config)


def evaluate_policy(
    networks: Networks, actor_params: Any, critic_params: Any, obs: Any, key: chex.PRNGKey
) -> tuple[chex.Array, chex.Array]:
    """log π and the smaller of the critics' Q at the policy's actions, both `[B]`.

    Of one sampled action each if the policy is a `Gaussian`; expectations over all actions if it is
    logits: of each action's smaller Q, as Christodoulou and the code released with the paper take
    them.
    """
    distribution = networks.actor.apply(actor_params, obs)
    if isinstance(distribution, Gaussian):
        action, log_prob = sample_action(distribution, key)
        return log_prob, jnp.min(
            apply_ensemble(networks.critic, critic_params, obs, action), axis=0
        )
    q = jnp.min(apply_ensemble(networks.critic, critic_params, obs), axis=0)
    return -losses.categorical_entropy(distribution), jnp.sum(
        jax.nn.softmax(distribution) * q, axis=-1
    )


def sample_action(distribution: Gaussian, key: chex.PRNGKey) -> tuple[chex.Array, chex.Array]:
    """An action in [−1, 1]^d, differentiable, and log π of it in nats: `[..., d]` and `[...]`."""
    pre_tanh = sample_gaussian(key, distribution)
    return jnp.tanh(pre_tanh), jnp.sum(
        losses.tanh_gaussian_log_prob(pre_tanh, *distribution), axis=-1
    )


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of both critics towards the soft target; then their targets follow."""
    next_log_prob, next_q = evaluate_policy(
        networks, learner.params["actor"], learner.targets["critic"], batch.next_obs, key
    )
    alpha = jnp.exp(learner.params["log_alpha"])
    target = losses.sac_target(batch.reward, batch.discount, next_q, next_log_prob, alpha=alpha)
    return descend_critics(learner, batch, target, networks, config)


def descend_critics(
    learner: Learner, batch: Batch, target: chex.Array, networks: Networks, config: Any
) -> tuple[Learner, Metrics]:
    """One gradient step of both critics towards a target `[B]`; then their targets follow."""

    def loss(params):
        q = q_of_action(networks, params, batch)
        critic_loss = 0.5 * jnp.sum(
            jnp.mean(losses.td3_critic_loss(q, jnp.stack([target, target])), axis=1)
        )
        return critic_loss, {"losses/critic_loss": critic_loss, "losses/q": jnp.mean(q)}

    learner, metrics = actor_critic.descend(learner, "critic", loss, config)
    return actor_critic.follow(learner, "critic", config), metrics


def q_of_action(networks: Networks, critic_params: Any, batch: Batch) -> chex.Array:
    """The critics' Q of the actions that were taken, `[C, B]`."""
    if jnp.issubdtype(batch.action.dtype, jnp.floating):
        return apply_ensemble(networks.critic, critic_params, batch.obs, batch.action)
    q = apply_ensemble(networks.critic, critic_params, batch.obs)
    return jnp.take_along_axis(q, batch.action[None, :, None], axis=-1)[..., 0]


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the soft value, and one of the temperature."""
    alpha = jnp.exp(learner.params["log_alpha"])

    def loss(params):
        log_prob, q = evaluate_policy(networks, params, learner.params["critic"], batch.obs, key)
        actor_loss = jnp.mean(losses.sac_actor_loss(log_prob, q, alpha=alpha))
        return actor_loss, {"losses/actor_loss": actor_loss, "losses/entropy": -jnp.mean(log_prob)}

    learner, metrics = actor_critic.descend(learner, "actor", loss, config)
    entropy = metrics["losses/entropy"]
    target = target_entropy(networks, learner, batch, config)
    learner, temperature_metrics = temperature_update(learner, -entropy, target, config)
    return learner, metrics | temperature_metrics


def target_entropy(networks: Networks, learner: Learner, batch: Batch, config: Any) -> chex.Array:
    """config.target_entropy, or what inf stands for, in nats."""
    distribution = jax.eval_shape(networks.actor.apply, learner.params["actor"], batch.obs)
    gaussian = isinstance(distribution, Gaussian)
    automatic = (
        -float(distribution.mean.shape[-1]) if gaussian else 0.5 * math.log(distribution.shape[-1])
    )
    return jnp.where(jnp.isinf(config.target_entropy), automatic, config.target_entropy)


def temperature_update(
    learner: Learner, log_prob: chex.Array, target: chex.Array, config: Any
) -> tuple[Learner, Metrics]:
    """One gradient step of the temperature towards where the policy's entropy is `target`."""

    def loss(log_alpha):
        alpha_loss = jnp.mean(
            losses.sac_temperature_loss(log_alpha, log_prob, target_entropy=target)
        )
        return alpha_loss, {"losses/alpha_loss": alpha_loss, "losses/alpha": jnp.exp(log_alpha)}

    return actor_critic.descend(learner, "log_alpha", loss, config)


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)


def make_policy(env: Environment, networks: Networks) -> Policy:
    """Explores by sampling; without exploring, takes the mode."""
    head = make_head(env.action_space, "tanh_gaussian")

    def stored(action, distribution):
        return jnp.tanh(action) if isinstance(distribution, Gaussian) else action

    def actor(params, obs):
        return networks.actor.apply(params["actor"], obs)

    def explore(params, exploration, obs, key):
        del exploration
        distribution = actor(params, obs)
        return stored(head.sample(key, distribution), distribution)

    def mode(params, obs):
        distribution = actor(params, obs)
        return stored(head.mode(distribution), distribution)

    return Policy(explore, mode, logits=actor if isinstance(env.action_space, Discrete) else None)


def make(
    env: Environment, config: Config | None = None, networks: Networks | None = None
) -> Algorithm:
    """SAC on an environment.

    Args:
      env: a single environment, as `envs.make` gives it.
      config: the hyperparameters; `Config()` by default.
      networks: own networks; by default those of `make_networks`. An actor that puts out a
        `Gaussian` goes with a critic of (obs, action), one that puts out logits with a critic of
        obs.

    Raises:
      ConfigError: the config is not valid for the environment.
    """
    return loop.make(
        env,
        Config.of(config),
        networks,
        make_networks=make_networks,
        make_policy=make_policy,
        init_learner=init_learner,
        update=update,
    )

"""Twin Delayed DDPG (Fujimoto et al., 2018, arXiv 1802.09477), for continuous actions.

One `step` is policy_delay/num_updates vector steps (at least one) of num_envs environments,
num_updates critic updates for each, and one actor update per policy_delay of these, after which the
targets of actor and critics follow. Differs from the published code in that the environment steps
of a block are taken before its updates instead of between them, that minibatches are drawn with
replacement, and that layers start with zero biases.
"""

from collections.abc import Callable
from functools import partial

import chex
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Box, Environment
from .core.algorithm import Algorithm, Metrics
from .core.config import ConfigError, configclass, static, traced
from .core.networks import actor_space, sample_obs
from .off_policy import actor_critic, loop
from .off_policy.actor_critic import Batch, Learner, OffPolicyConfig
from .off_policy.loop import Policy
from .off_policy.networks import (
    DeterministicActor,
    Networks,
    action_critic,
    apply_ensemble,
    init_ensemble,
    torso,
)

__all__ = ["Batch", "Config", "Learner", "init_learner", "make", "make_networks", "update"]


@configclass
class Config(OffPolicyConfig):
    """Hyperparameters of TD3."""

    policy_delay: int = static(2, "Critic updates per actor update.", low=1)
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
        require_continuous(env)


def require_continuous(env: Environment) -> None:
    """Checks that actions are a Box.

    Raises:
      ConfigError: they are not.
    """
    if not isinstance(env.action_space, Box):
        raise ConfigError(
            "env.action_space",
            env.action_space,
            "must be a Box: the policy is for continuous actions",
        )


def make_networks(env: Environment, config: Config) -> Networks:
    """An actor and a critic, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    actor = DeterministicActor(layers, env.action_space.shape[0], config.initialiser)
    return Networks(actor, action_critic(config))


def init_learner(
    key: chex.PRNGKey, *, env: Environment, networks: Networks, config: Config
) -> Learner:
    """Fresh parameters, two critics, targets of all, optimisers and statistics."""
    obs, action = sample_obs(env), jnp.zeros(env.action_space.shape)
    actor_key, critic_key = jax.random.split(key)
    params = {
        "actor": networks.actor.init(actor_key, obs),
        "critic": init_ensemble(networks.critic, critic_key, 2, obs, action),
    }
    return actor_critic.learner_of(params, ("actor", "critic"), env=env, config=config)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of both critics towards the clipped double-Q target."""
    noise = config.policy_noise * jax.random.normal(key, batch.action.shape, jnp.float32)
    smoothing = losses.target_policy_noise(noise, noise_clip=config.noise_clip)
    next_action = networks.actor.apply(learner.targets["actor"], batch.next_obs) + smoothing
    next_q = apply_ensemble(
        networks.critic, learner.targets["critic"], batch.next_obs, jnp.clip(next_action, -1.0, 1.0)
    )
    target = losses.td3_target(batch.reward, batch.discount, next_q[0], next_q[1])

    def loss(params):
        q = apply_ensemble(networks.critic, params, batch.obs, batch.action)
        critic_loss = jnp.sum(
            jnp.mean(losses.td3_critic_loss(q, jnp.stack([target, target])), axis=1)
        )
        return critic_loss, {"losses/critic_loss": critic_loss, "losses/q": jnp.mean(q)}

    return actor_critic.descend(learner, "critic", loss, config)


def actor_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Config
) -> tuple[Learner, Metrics]:
    """One gradient step of the actor up the first critic; then all targets follow."""
    del key  # the actor is deterministic
    first_critic = jax.tree.map(lambda x: x[0], learner.params["critic"])

    def loss(params):
        q = networks.critic.apply(first_critic, batch.obs, networks.actor.apply(params, batch.obs))
        actor_loss = jnp.mean(losses.td3_actor_loss(q))
        return actor_loss, {"losses/actor_loss": actor_loss}

    learner, metrics = actor_critic.descend(learner, "actor", loss, config)
    return actor_critic.follow(
        actor_critic.follow(learner, "critic", config), "actor", config
    ), metrics


update = partial(actor_critic.update, critic_update=critic_update, actor_update=actor_update)


def deterministic_policy(
    env: Environment, networks: Networks, noise: Callable[..., chex.Array]
) -> Policy:
    """The actor's actions; exploring, with Gaussian noise of a standard deviation of its own in
    each environment.

    Args:
      env: the environment.
      networks: have the actor.
      noise: (key, num_envs, config) -> the standard deviations, `[N]`.
    """
    del env

    def mode(params, obs):
        return networks.actor.apply(params["actor"], obs)

    def explore(params, std, obs, key):
        action = mode(params, obs)
        return jnp.clip(
            action + std[:, None] * jax.random.normal(key, action.shape, action.dtype), -1.0, 1.0
        )

    return Policy(explore, mode, noise)


def constant_noise(key: chex.PRNGKey, num_envs: int, config: Config) -> chex.Array:
    """The standard deviation of exploration in each environment, `[N]`."""
    del key
    return jnp.full(num_envs, config.exploration_noise)


make_policy = partial(deterministic_policy, noise=constant_noise)


def make(
    env: Environment, config: Config | None = None, networks: Networks | None = None
) -> Algorithm:
    """TD3 on an environment.

    Args:
      env: a single environment with a Box of actions, as `envs.make` gives it.
      config: the hyperparameters; `Config()` by default.
      networks: own networks; by default those of `make_networks`.

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

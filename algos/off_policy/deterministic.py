"""Deterministic actors, which explore by noise of their own: what TD3, FastTD3 and those that learn
from data by them share.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Box, Environment
from ..core.algorithm import Metrics
from ..core.collect import Policy
from ..core.config import ConfigError
from ..core.networks import actor_space
from . import actor_critic, sequences
from .actor_critic import Batch, Learner
from .networks import (
    DeterministicActor,
    Networks,
    action_critic,
    apply_ensemble,
    smallest,
    torso,
)


def require_continuous(env: Environment) -> None:
    """Checks that actions are a Box.

    Raises:
      ConfigError: they are not.
    """
    if not isinstance(env.action_space, Box):
        allowed = "must be a Box: the policy is for continuous actions"
        raise ConfigError("env.action_space", env.action_space, allowed)


def make_networks(env: Environment, config: Any) -> Networks:
    """An actor and a critic, as the config says."""
    layers = torso(actor_space(env), config.actor_hidden_sizes, config)
    actor = DeterministicActor(layers, env.action_space.shape[0], config.initialiser)
    return Networks(actor, action_critic(config))


init_learner = partial(actor_critic.init_learner, targets=("actor", "critic"))


def smoothed_action(
    actor: nn.Module, params: Any, obs: Any, key: chex.PRNGKey, config: Any
) -> chex.Array:
    """Target policy smoothing (TD3, section 5.3): the actor's actions with clipped noise, `[B,
    d]`.
    """
    action = actor.apply(params, obs)
    noise = config.policy_noise * jax.random.normal(key, action.shape, jnp.float32)
    noise = losses.target_policy_noise(noise, noise_clip=config.noise_clip)
    return jnp.clip(action + noise, -1.0, 1.0)


def critic_update(
    learner: Learner, batch: Batch, key: chex.PRNGKey, *, networks: Networks, config: Any
) -> tuple[Learner, Metrics]:
    """One gradient step of all critics towards the clipped double-Q target, as in `algos.td3`."""
    actor, critic = learner.targets["actor"], learner.targets["critic"]
    next_action = smoothed_action(networks.actor, actor, batch.next_obs, key, config)
    next_q = apply_ensemble(networks.critic, critic, batch.next_obs, next_action)
    target = losses.bootstrapped_target(batch.reward, batch.discount, smallest(next_q))
    return actor_critic.update_critics(
        learner, batch, target, key, networks=networks, config=config
    )


def policy_maker(noise: Callable[..., chex.Array]) -> Callable[[Environment, Networks], Policy]:
    """The `make_policy` of an algorithm whose actions explore with Gaussian noise.

    Args:
      noise: (key, num_envs, config) -> the standard deviation of each environment, `[N]`, which
        holds for an episode.
    """

    def make_policy(env: Environment, networks: Networks) -> Policy:
        del env

        def act(params, memory, obs):
            return sequences.act(networks, params, memory, obs)

        def explore(params, memory, obs, key):
            action, memory = act(params, memory, obs)
            drawn = memory["std"][:, None] * jax.random.normal(key, action.shape, action.dtype)
            action = jnp.clip(action + drawn, -1.0, 1.0)
            return action, (), sequences.watch(networks, params, memory, obs, action)

        def memory(key, num_envs, config):
            remembered = sequences.initial_memory(networks, num_envs, config)
            return {"std": noise(key, num_envs, config), **dict(remembered)}

        return Policy(explore, act, memory)

    return make_policy


def quiet_policy(env: Environment, networks: Networks) -> Policy:
    """The `make_policy` of algorithms that step no environment: none has noise to explore by."""
    del env

    def act(params, memory, obs):
        return networks.actor.apply(params["actor"], obs), memory

    def explore(params, memory, obs, key):
        del key
        action, memory = act(params, memory, obs)
        return action, (), memory

    return Policy(explore, act)

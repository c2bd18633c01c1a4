"""Deterministic actors, which explore by noise of their own: what TD3 and FastTD3 share."""

from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Box, Environment
from ..core.collect import Policy
from ..core.config import ConfigError
from . import sequences
from .networks import Networks


def require_continuous(env: Environment) -> None:
    """Checks that actions are a Box.

    Raises:
      ConfigError: they are not.
    """
    if not isinstance(env.action_space, Box):
        allowed = "must be a Box: the policy is for continuous actions"
        raise ConfigError("env.action_space", env.action_space, allowed)


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

"""Policies that are flows: a velocity, learned by imitation, which takes noise to an action. What
flow BC is, and EXPO edits.
"""

from functools import partial
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ...envs import Environment
from ..core.algorithm import Metrics
from ..core.collect import Policy
from ..core.config import BaseConfig, ConfigError, configclass, static
from ..core.generative import Field, euler, flow_error
from ..core.networks import VECTOR, actor_obs, actor_space
from . import actor_critic, deterministic
from .actor_critic import Batch, Learner
from .networks import torso


@configclass
class FlowConfig(BaseConfig):
    """What algorithms whose policy is a flow have in common."""

    flow_steps: int = static(10, "Euler steps from noise to an action.", low=1)

    def validate(self, env: Environment) -> None:
        """Checks the fields, that they go together, that actions are continuous, and that
        observations are vectors.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        deterministic.require_continuous(env)
        shape = actor_obs(env.observation_space).shape
        if len(shape) != 1:
            allowed = "must be a vector: the action under way stands beside it"
            raise ConfigError("env.observation_space", shape, allowed)


def make_field(env: Environment, config: Any) -> Field:
    """A velocity, as the config says; it has the actor's widths."""
    actor_space(env)  # refuses entries that it would ignore
    layers = torso(VECTOR, config.actor_hidden_sizes, config)
    return Field(layers, env.action_space.shape[0], config.initialiser)


def imitate(
    learner: Learner,
    name: str,
    batch: Batch,
    key: chex.PRNGKey,
    *,
    networks: Any,
    config: FlowConfig,
) -> tuple[Learner, Metrics]:
    """One gradient step of the velocity of that name towards the batch's actions, by flow matching
    at one time and noise each.
    """
    draw_key, step_key = jax.random.split(key)

    def loss(field):
        each = flow_error(partial(field, batch.obs), batch.action, draw_key)
        flow_loss = jnp.mean(each)
        return flow_loss, {f"losses/{name}_loss": flow_loss}

    return actor_critic.gradient_step(
        learner, name, loss, step_key, networks=networks, config=config
    )


def sample(field: nn.Module, params: Any, obs: Any, noise: chex.Array, steps: int) -> chex.Array:
    """The actions, in [−1, 1]^d, that noise `[B, d]` flows to in so many steps."""
    return jnp.clip(euler(partial(field.apply, params, obs), noise, steps), -1.0, 1.0)


def make_policy(env: Environment, networks: Any) -> Policy:
    """Explores by standard normal noise; without exploring, begins at 0, which in one dimension
    leads to the median. It acts by `acting.with_config`.
    """
    size = env.action_space.shape[0]

    def flow(params, obs, noise):
        steps = params["config"].flow_steps
        return sample(networks.actor, params["actor"], obs, noise, steps)

    def explore(params, memory, obs, key):
        shape = (*actor_obs(obs).shape[:-1], size)
        return flow(params, obs, jax.random.normal(key, shape)), (), memory

    def act(params, memory, obs):
        return flow(params, obs, jnp.zeros((*actor_obs(obs).shape[:-1], size))), memory

    return Policy(explore, act)

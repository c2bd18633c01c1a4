"""Actors and critics that remember: their networks, what is remembered in acting, and minibatches
of sequences.

The replay keeps what was remembered before each step, so that an update can begin anywhere; before
the steps that are learned from come config.burn_in others, which bring that up to date with the
parameters of the moment (R2D2, Kapturowski et al. 2019). Differs from R2D2 in that actor and
critics remember apart from each other, that sequences begin at every step, and that one which an
episode's end falls into is not cut short: after it nothing is remembered, so no memory crosses it.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ...envs import Environment
from ..core import recurrent
from ..core.config import ConfigError
from ..core.masks import masked
from ..core.networks import VECTOR, actor_obs, actor_space, critic_obs, critic_space, remember
from ..core.recurrent import Recurrent, Sequence, make_cell
from . import replay
from .actor_critic import Batch
from .config import OffPolicyConfig
from .networks import Networks, torso


def remembering(make_networks: Callable[..., Networks]) -> Callable[..., Networks]:
    """Gives default networks the cell of config.memory, if it names one, behind their first hidden
    layer; a critic sees the action in the layers after it. And the action mask of the environment,
    if it has one.
    """

    @functools.wraps(make_networks)
    def with_memory(env: Environment, config: OffPolicyConfig) -> Networks:
        networks = make_networks(env, config)
        if config.memory == "none":
            return networks._replace(actor=masked(networks.actor, env.observation_space))

        def network(name, see, space, sizes):
            encoder = nn.Sequential([see, torso(space, sizes[:1], config)])
            readout = getattr(networks, name).clone(torso=torso(VECTOR, sizes[1:], config))
            return Recurrent(name, make_cell(config), encoder, readout)

        actor = network("actor", actor_obs, actor_space(env), config.actor_hidden_sizes)
        critic = network("critic", critic_obs, critic_space(env), config.critic_hidden_sizes)
        return Networks(masked(actor, env.observation_space), critic)

    return with_memory


def initial_memory(networks: Networks, num_envs: int, config: OffPolicyConfig) -> Any:
    """What actor and critics remember at the start of so many episodes, by name; () for nothing.

    The critics' has leaves `[num_envs, C, ...]`, with C config.num_critics.
    """
    memory = recurrent.initial_memory(networks, num_envs)
    if "critic" not in memory:
        return memory

    def each(x):
        return jnp.repeat(x[:, None], config.num_critics, axis=1)

    return memory | {"critic": jax.tree.map(each, memory["critic"])}


def act(networks: Networks, params: Any, memory: Any, obs: Any) -> tuple[Any, Any]:
    """What the actor puts out for observations `[N, ...]`, and what is remembered after it."""
    return recurrent.step(networks.actor, "actor", params["actor"], memory, obs)


def watch(networks: Networks, params: Any, memory: Any, obs: Any, action: chex.Array) -> Any:
    """What is remembered after the critics too have seen the observations, `[N, ...]`."""
    critic = networks.critic
    if not recurrent.remembers(critic):
        return memory
    inputs = (action,) if jnp.issubdtype(action.dtype, jnp.floating) else ()

    def step(variables, carry):
        return critic.apply(variables, obs, carry, *inputs, method="step")[1]

    after = jax.vmap(step, in_axes=(0, 1), out_axes=1)(params["critic"], memory["critic"])
    return {**memory, "critic": after}


def remembered(networks: Networks, memory: Any) -> Any:
    """What of a policy's memory is the networks'; () for nothing."""
    names = [name for name in Networks._fields if recurrent.remembers(getattr(networks, name))]
    return {name: memory[name] for name in names} if names else ()


def require_declared(networks: Networks, config: OffPolicyConfig) -> None:
    """Checks that own networks remember by their names, and if, and only if, config.memory is not
    "none", which decides what the replay holds.

    Raises:
      ConfigError: it is otherwise.
    """
    recurrent.require_names(networks)
    if remember(networks) != (config.memory != "none"):
        allowed = (
            'must not be "none": networks.actor or networks.critic remembers'
            if config.memory == "none"
            else 'must be "none": neither networks.actor nor networks.critic remembers'
        )
        raise ConfigError("memory", config.memory, allowed)


def batch_at(
    ring: replay.Replay, row: chex.Array, env: chex.Array, config: OffPolicyConfig
) -> Batch:
    """Minibatches of sequences at places of the replay; what is per step is `[K, T, B, ...]`, with
    T config.sequence_length.

    Args:
      ring: the replay of `Transition`s.
      row: int32 `[config.window, K, B]`, the rows of each sequence, oldest first, the burn-in's
        before those that are learned from.
      env: int32 `[K, B]`, its environment.
      config: the hyperparameters.
    """
    stored = ring.rows

    def steps(tree, row):
        """`[K, T, B, ...]`"""
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), replay.take(tree, row, env[None]))

    learned = row[config.burn_in :]
    obs, terminated, truncated = steps((stored.obs, stored.terminated, stored.truncated), row)
    start = jax.vmap(recurrent.begins)(terminated | truncated)

    def cut(*part):
        return jax.tree.map(lambda x: x[:, slice(*part)], (obs, start))

    past = cut(config.burn_in) if config.burn_in else None
    memory = replay.take(stored.memory, row[0], env)
    sequence = Sequence(*cut(config.burn_in, None), memory, past)
    action, reward, next_obs = steps((stored.action, stored.reward, stored.next_obs), learned)
    return Batch(
        obs=sequence,
        action=action,
        reward=reward * config.reward_scale,
        discount=config.gamma * (1.0 - terminated[:, config.burn_in :]),
        next_obs=sequence._replace(next_obs=next_obs),
    )

"""Collection: a policy, with what it remembers, acts in all environments; in one scan."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Environment, VectorEnv
from ...envs.vector import BANK_SIZE
from . import parallel
from .algorithm import Metrics, single
from .keys import split_for_scan, unpack_keys


class Transition(NamedTuple):
    """Steps of N environments; every leaf `[N, ...]`, or `[T, N, ...]` of T steps.

    Attributes:
      obs: the observation that was acted on.
      action: the action in its stored form: a class, in [−1, 1]^d, or as the policy's head has it.
      reward: the reward.
      terminated: bool, the task was over.
      truncated: bool, a time limit cut the episode.
      next_obs: the true successor, also where the episode ended.
      log_prob: log-probability of the action under the policy that chose it, in nats; () where
        nobody asks for it.
      memory: what the policy remembered before it saw obs; of T steps, before the first, leaves
        `[N, ...]`.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_obs: Any
    log_prob: Any = ()
    memory: Any = ()


def no_memory(key: chex.PRNGKey, num_envs: int, config: Any) -> tuple[()]:
    """The `memory` of policies that have none."""
    del key, num_envs, config
    return ()


class Policy(NamedTuple):
    """How an algorithm acts. What it remembers within an episode is a pytree, leaves `[N, ...]`.

    Observations are as the networks see them, actions in their stored form; `params` is whatever
    the algorithm's networks and rules are described by.

    Attributes:
      explore: (params, memory, obs, key) -> (action, log_prob, memory), as in training; log_prob
        is () where no loss asks for it.
      act: (params, memory, obs) -> (action, memory), without exploring.
      memory: (key, num_envs, config) -> the memory at the start of an episode.
      logits: (params, memory, obs) -> logits `[N, n]`, for discrete actions; or None.
    """

    explore: Callable[..., tuple[chex.Array, Any, Any]]
    act: Callable[..., tuple[chex.Array, Any]]
    memory: Callable[..., Any] = no_memory
    logits: Callable[..., chex.Array] | None = None


class Carry(NamedTuple):
    """What collection carries from step to step.

    Attributes:
      env_state: of the environments.
      obs: to act on next, leaves `[N, ...]`.
      memory: the policy's, leaves `[N, ...]`.
    """

    env_state: Any
    obs: Any
    memory: Any


class Collector(NamedTuple):
    """Collection in N environments; see `make_collector`.

    Attributes:
      reset: (key, config) -> Carry, at the start of N episodes.
      collect: (explore, config, carry, key, num_steps, store, write, key_data) -> (carry, store,
        transitions, episodes). `key_data` are the steps' keys where they were split already, see
        `keys.split_for_scan`. `explore` is (memory, obs, key) -> (action, log_prob, memory).
        With a `write`, (store, number of the step, transition, obs to act on next) -> store, each
        step goes there and the transitions are (); without, they are stacked, `[T, N, ...]`.
        `episodes` is for `episode_metrics`.
    """

    reset: Callable[..., Carry]
    collect: Callable[..., tuple[Carry, Any, Any, Any]]


def make_collector(env: Environment, memory: Callable[..., Any], to_env: Callable) -> Collector:
    """Builds the collection.

    Args:
      env: the single environment; config.num_envs of it, or this device's share of them, start as
        config.reset says.
      memory: the policy's, which begins anew in an environment when its episode ends.
      to_env: stored actions -> elements of the environment's action space.
    """

    def environments(config):
        sizes = parallel.share(config.num_envs), config.reset, parallel.share(BANK_SIZE)
        return VectorEnv(env, *sizes)

    def begin(key, config):
        return single(memory(key, parallel.share(config.num_envs), config))

    def reset(key, config):
        env_key, memory_key = jax.random.split(key)
        return Carry(*environments(config).reset(env_key), begin(memory_key, config))

    def collect(explore, config, carry, key, num_steps, store=(), write=None, key_data=None):
        envs = environments(config)

        def step(carried, inputs):
            carry, store = carried
            number, key_data = inputs
            action_key, env_key, *memory_keys = unpack_keys(key_data, key)
            action, log_prob, memory = explore(carry.memory, carry.obs, action_key)
            env_state, result = envs.step(env_key, carry.env_state, to_env(action))
            done = result.terminated | result.truncated
            transition = Transition(
                obs=carry.obs,
                action=action,
                reward=result.reward,
                terminated=result.terminated,
                truncated=result.truncated,
                next_obs=result.next_obs,
                log_prob=log_prob,
                memory=carry.memory if write is not None else (),
            )
            if memory_keys:
                memory = where(done, begin(*memory_keys, config), single(memory))
            episodes = (done, result.episode_return, result.episode_length)
            if write is not None:
                store = write(store, number, transition, result.obs)
                transition = ()
            return (Carry(env_state, result.obs, memory), store), (transition, episodes)

        # A policy without a memory needs no keys for it.
        if key_data is None:
            key_data = split_for_scan(key, num_steps, 3 if jax.tree.leaves(carry.memory) else 2)
        steps = (jnp.arange(num_steps, dtype=jnp.int32), key_data)
        remembered = carry.memory
        (carry, store), (transitions, episodes) = jax.lax.scan(step, (carry, store), steps)
        if write is None:
            transitions = transitions._replace(memory=remembered)
        return carry, store, transitions, episodes

    return Collector(reset, collect)


def where(flags: chex.Array, new: Any, old: Any) -> Any:
    """`new` where the flag of an environment is set, else `old`: flags `[N]`, leaves `[N, ...]`."""

    def choose(a, b):
        return jnp.where(flags.reshape(flags.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)


class Acting(NamedTuple):
    """What an `Algorithm` has to act with, see there."""

    act: Callable[..., Any]
    memory: Callable[..., Any]
    logits: Callable[..., chex.Array] | None


def make_acting(
    env: Environment,
    policy: Policy,
    to_env: Callable[[chex.Array], chex.Array],
    seen: Callable[[Any, Any], tuple[Any, Any]],
) -> Acting:
    """How an algorithm acts outside of its training, on observations with any leading axes.

    Args:
      env: the single environment.
      policy: how it acts in training.
      to_env: stored actions -> elements of the environment's action space.
      seen: (state, obs) -> (params, obs), as the policy takes them.
    """
    num_axes = len(jax.tree.leaves(env.observation_space)[0].shape)

    def begin(state, key, num_envs):
        return single(policy.memory(key, num_envs, state.config))

    def flat(state, obs, remembered, key):
        """The leading axes, and what the policy takes, with one axis in their place."""
        leaf = jax.tree.leaves(obs)[0]
        lead = leaf.shape[: leaf.ndim - num_axes]
        size = math.prod(lead)
        tree = obs if remembered is None else (obs, remembered)
        tree = jax.tree.map(lambda x: x.reshape(size, *x.shape[len(lead) :]), tree)
        obs, remembered = (tree, begin(state, key, size)) if remembered is None else tree
        params, obs = seen(state, obs)
        return lead, params, remembered, obs

    def act(state, obs, key, deterministic, memory=None):
        memory_key, explore_key = jax.random.split(key)
        lead, params, remembered, obs = flat(state, obs, memory, memory_key)
        if deterministic:
            action, remembered = policy.act(params, remembered, obs)
        else:
            action, _, remembered = policy.explore(params, remembered, obs, explore_key)
        shaped = jax.tree.map(
            lambda x: x.reshape(*lead, *x.shape[1:]), (to_env(action), single(remembered))
        )
        return shaped[0] if memory is None else shaped

    def logits(state, obs):
        lead, params, remembered, obs = flat(state, obs, None, jax.random.key(0))
        out = policy.logits(params, remembered, obs)
        return out.reshape(*lead, *out.shape[1:])

    return Acting(act, begin, logits if policy.logits else None)


def episode_metrics(done: chex.Array, returns: chex.Array, lengths: chex.Array) -> Metrics:
    """Mean return and length of the episodes that ended, NaN if none did, and how many; any shape
    to scalars.
    """
    episodes = jnp.sum(done, dtype=jnp.float32)
    ended = jnp.sum(jnp.where(done, lengths, 0), dtype=jnp.float32)
    return {
        "charts/episodic_return": jnp.sum(jnp.where(done, returns, 0.0)) / episodes,
        "charts/episodic_length": ended / episodes,
        "charts/episodes": episodes,
    }

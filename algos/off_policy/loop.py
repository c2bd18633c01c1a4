"""The off-policy loop: act, write to the replay, and update on minibatches of n-step transitions
drawn from it.

TD3, FastTD3, SAC, FastSAC and off-policy MDPO are this loop with a critic update, an actor update
and a way to explore.

One `step` is max(1, policy_delay/num_updates) vector steps of num_envs environments, then
num_updates critic updates for each of them, every policy_delay of which are followed by one actor
update. So the delay is part of the program's structure: nothing is computed and thrown away, also
under vmap. `init` fills the replay with learning_starts environment steps of uniformly random
actions.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Discrete, Environment
from ..core import collect, fitting, guard, memory
from ..core.algorithm import Algorithm, Metrics
from ..core.memory import Part
from ..core.networks import rows
from . import replay
from .actor_critic import Batch, Learner, OffPolicyConfig, normalize_obs
from .collection import Carry, Seen, make_collector, no_exploration


class State(NamedTuple):
    """Everything that a run carries."""

    config: Any
    learner: Learner
    collection: Carry
    key: chex.PRNGKey


def sample(
    ring: replay.Replay,
    learner: Learner,
    key: chex.PRNGKey,
    num_batches: int,
    config: OffPolicyConfig,
) -> Batch:
    """Minibatches of n-step transitions from the replay, every leaf `[num_batches, batch_size,
    ...]`.
    """
    shape = (num_batches, config.batch_size)
    rows = ring.rows
    row, env = replay.sample_places(ring, key, shape, window=config.n_step)
    reward, terminated, truncated = replay.take(
        (rows.reward, rows.terminated, rows.truncated), row, env[None]
    )
    reward, discount, index = losses.n_step_return(
        reward * config.reward_scale, terminated, truncated, gamma=config.gamma
    )
    last = jnp.take_along_axis(row, index[None], axis=0)[0]
    obs, next_obs = replay.take(rows.obs, row[0], env), replay.take(rows.next_obs, last, env)
    return Batch(
        obs=normalize_obs(learner, obs),
        action=replay.take(rows.action, row[0], env),
        reward=reward,
        discount=discount,
        next_obs=normalize_obs(learner, next_obs),
    )


def _require_memory(
    env: Environment, config: OffPolicyConfig, networks: Any, learner: Learner, discrete: bool
) -> None:
    """Refuses what cannot fit into the device: the config's own parts, the networks, and what their
    passes keep.
    """
    obs = rows(env.observation_space, config.batch_size)
    action = [] if discrete else [rows(env.action_space, config.batch_size)]
    params = learner.params
    ensemble = jax.tree.leaves(params["critic"])[0].shape[0]
    critic = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params["critic"])
    kept = ensemble * memory.backward_bytes(networks.critic, critic, obs, *action)
    kept += memory.backward_bytes(networks.actor, params["actor"], obs)
    memory.require(
        config,
        *config.memory_parts(env),
        Part(
            ("critic_hidden_sizes",), memory.tree_bytes(learner), "the networks and their optimiser"
        ),
        Part(("batch_size",), kept, "the networks' activations on a minibatch"),
    )


class Policy(NamedTuple):
    """How an algorithm acts; actions are in their stored form, [−1, 1]^d or a class.

    Attributes:
      explore: (params, exploration, obs, key) -> actions `[N, ...]`.
      mode: (params, obs) -> actions `[..., *shape]` without exploring.
      exploration: (key, num_envs, config) -> what exploration carries for each environment, leaves
        `[N, ...]`; drawn anew for an environment when its episode ends.
      logits: (params, obs) -> logits, for discrete actions.
    """

    explore: Callable[..., chex.Array]
    mode: Callable[..., chex.Array]
    exploration: Callable[..., Any] = no_exploration
    logits: Callable[..., chex.Array] | None = None


def make(
    env: Environment,
    config: OffPolicyConfig,
    networks: Any,
    *,
    make_networks: Callable[..., Any],
    make_policy: Callable[..., Policy],
    init_learner: Callable[..., Learner],
    update: Callable[..., tuple[Learner, Metrics]],
) -> Algorithm:
    """Builds an off-policy algorithm from its parts.

    Args:
      env: the single environment.
      config: the hyperparameters; its static fields hold for every State.
      networks: own networks, or None.
      make_networks: (env, config) -> networks, the algorithm's own.
      make_policy: (env, networks) -> how it acts.
      init_learner: (key, *, env, networks, config) -> the learner.
      update: (learner, batches, key, *, networks, config) -> (learner, metrics).

    Raises:
      ConfigError: the config is not valid for the environment, or what it describes cannot fit into
        the device.
    """
    config.validate(env)
    own, discrete = networks is not None, isinstance(env.action_space, Discrete)
    networks = networks if own else make_networks(env, config)
    if own:
        fitting.require_like_default(env, config, networks, make_networks, discrete)
    shape = fitting.learner_shape(init_learner, env=env, networks=networks, config=config)
    _require_memory(env, config, networks, shape, discrete)
    policy = make_policy(env, networks)
    collector, default_config = make_collector(env, config, policy.exploration), config

    def with_statistics(learner, statistics):
        """New statistics of the observations, unless there was a fault."""
        return learner._replace(
            obs_statistics=guard.keep(guard.ok(learner.fault), statistics, learner.obs_statistics)
        )

    def init(key: chex.PRNGKey, config: OffPolicyConfig | None = None) -> State:
        config = default_config.for_state(config, env)
        learner_key, collector_key, key = jax.random.split(key, 3)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        carry, seen = collector.start(collector_key, config, learner.obs_statistics)
        learner = with_statistics(learner._replace(fault=seen.fault), seen.statistics)
        return State(config, learner, carry, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, sample_key, update_key = jax.random.split(state.key, 4)
        config, learner = state.config, state.learner

        def select_action(key, exploration, obs):
            return policy.explore(learner.params, exploration, normalize_obs(learner, obs), key)

        # Collect.
        seen = Seen(learner.fault, learner.obs_statistics)
        carry, seen, episodes = collector.collect(
            select_action,
            config,
            state.collection,
            seen,
            learner.iteration,
            collect_key,
            config.rows_per_step,
        )
        learner = learner._replace(fault=seen.fault)
        # Update.
        num_batches = config.rows_per_step * config.num_updates
        batches = sample(carry.replay, learner, sample_key, num_batches, config)
        learner, metrics = update(learner, batches, update_key, networks=networks, config=config)
        learner = with_statistics(learner, seen.statistics)
        metrics = collect.episode_metrics(*episodes) | metrics | guard.metrics(learner.fault)
        return State(config, learner, carry, key), metrics

    def act(state: State, obs: Any, key: chex.PRNGKey, deterministic: bool) -> chex.Array:
        params, obs = state.learner.params, normalize_obs(state.learner, obs)
        if deterministic:
            return collector.to_env(policy.mode(params, obs))
        # Each observation is that of an environment with an exploration of its own.
        exploration_key, explore_key = jax.random.split(key)
        leaf, space = jax.tree.leaves(obs)[0], jax.tree.leaves(env.observation_space)[0]
        lead = leaf.shape[: leaf.ndim - len(space.shape)]
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[len(lead) :]), obs)
        exploration = policy.exploration(exploration_key, math.prod(lead), state.config)
        action = policy.explore(params, exploration, flat, explore_key)
        return collector.to_env(action.reshape(*lead, *action.shape[1:]))

    def logits(state: State, obs: Any) -> chex.Array:
        return policy.logits(state.learner.params, normalize_obs(state.learner, obs))

    num_envs = config.num_envs
    return Algorithm(
        init,
        step,
        act,
        env,
        config,
        steps_per_iteration=config.rows_per_step * num_envs,
        initial_steps=config.prefill_rows * num_envs,
        logits=logits if policy.logits else None,
        replay=("collection.replay",),
    )

"""The off-policy loop: act, write to the replay, and update on minibatches of n-step transitions drawn from it.

TD3, FastTD3, SAC, FastSAC and off-policy MDPO are this loop with a critic update, an actor update and a way to explore.

One `step` is max(1, policy_delay/num_updates) vector steps of num_envs environments, then num_updates critic updates
for each of them, every policy_delay of which are followed by one actor update. So the delay is part of the program's
structure: nothing is computed and thrown away, also under vmap. `init` fills the replay with learning_starts
environment steps of uniformly random actions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from .. import losses
from ..envs import Discrete, Environment, VectorEnv
from . import guard, memory, normalize, replay, rollout
from .actor_critic import Batch, Learner, OffPolicyConfig, normalize_obs
from .base import Algorithm, Metrics
from .q_networks import DTYPES


class Transition(NamedTuple):
    """A row of the replay: one step of N environments; every leaf `[N, ...]`.

    Attributes:
      obs: the observation that was acted on.
      action: in [−1, 1]^d, or a class.
      reward: the reward.
      terminated: bool, the task was over.
      truncated: bool, a time limit cut the episode.
      next_obs: the true successor, also where the episode ended.
    """

    obs: Any
    action: chex.Array
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_obs: Any


class State(NamedTuple):
    """Everything that a run carries."""

    config: Any
    learner: Learner
    replay: replay.Replay
    env_state: Any
    obs: Any
    exploration: Any
    key: chex.PRNGKey


def sample(
    ring: replay.Replay, learner: Learner, key: chex.PRNGKey, num_batches: int, config: OffPolicyConfig
) -> Batch:
    """Minibatches of n-step transitions from the replay, every leaf `[num_batches, batch_size, ...]`."""
    shape = (num_batches, config.batch_size)
    rows = ring.rows
    row, env = replay.sample_places(ring, key, shape, window=config.n_step)
    reward, terminated, truncated = replay.take((rows.reward, rows.terminated, rows.truncated), row, env[None])
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


def write(ring: replay.Replay, row: Transition) -> replay.Replay:
    """Adds a row; where it is not finite, that environment's previous transition stands again instead.

    The previous transition and its copy are flagged as truncated, so that no n-step window counts them twice.
    """
    finite = guard.finite_per_env(jax.tree.map(lambda x: x[None], row))[0]
    last = replay.newest(ring)
    row = jax.tree.map(lambda new, old: jnp.where(_like(finite, new), new.astype(old.dtype), old), row, last)
    capacity = ring.rows.truncated.shape[0]
    flagged = ring.rows.truncated.at[(ring.cursor - 1) % capacity].set(last.truncated | ~finite)
    ring = ring._replace(rows=ring.rows._replace(truncated=flagged))
    return replay.add(ring, row._replace(truncated=row.truncated | ~finite))


def _like(flags, x):
    return flags.reshape(flags.shape + (1,) * (x.ndim - 1))


class Policy(NamedTuple):
    """How an algorithm acts; actions are in their stored form, [−1, 1]^d or a class.

    Attributes:
      explore: (params, exploration, obs, key) -> actions `[N, ...]`.
      act: (params, obs, key, deterministic) -> actions.
      exploration: (key, num_envs, config) -> what exploration carries for each environment, leaves `[N, ...]`; drawn
        anew for an environment when its episode ends.
    """

    explore: Callable[..., chex.Array]
    act: Callable[..., chex.Array]
    exploration: Callable[..., Any] = lambda key, num_envs, config: ()


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
      ConfigError: the config is not valid for the environment, or what it describes cannot fit into the device.
    """
    config.validate(env)
    networks = networks or make_networks(env, config)
    policy = make_policy(env, networks)
    learner_shape = jax.eval_shape(partial(init_learner, env=env, networks=networks, config=config), jax.random.key(0))
    what = "the networks and their optimiser"
    memory.require("critic_hidden_sizes", config.critic_hidden_sizes, memory.tree_bytes(learner_shape), what)
    envs = VectorEnv(env, config.num_envs, reset=config.reset)
    num_envs, default_config = config.num_envs, config
    discrete = isinstance(env.action_space, Discrete)

    def to_env(action):
        return action if discrete else env.action_space.from_unit(action)

    def random_action(key, exploration, obs):
        del exploration, obs
        if discrete:
            return jax.random.randint(key, (num_envs,), 0, env.action_space.n)
        return jax.random.uniform(key, (num_envs, *env.action_space.shape), minval=-1.0, maxval=1.0)

    def vector_step(select_action, config, carry, key_data, like):
        """One step of all environments, written to the replay."""
        ring, env_state, obs, exploration = carry
        action_key, env_key, exploration_key = rollout.unpack_keys(key_data, like)
        action = select_action(action_key, exploration, obs)
        env_state, result = envs.step(env_key, env_state, to_env(action))
        row = Transition(obs, action, result.reward, result.terminated, result.truncated, result.next_obs)
        done = result.terminated | result.truncated
        renewed = policy.exploration(exploration_key, num_envs, config)
        exploration = jax.tree.map(lambda new, old: jnp.where(_like(done, new), new, old), renewed, exploration)
        seen = (obs, result.next_obs, result.reward, done, result.episode_return, result.episode_length)
        return (write(ring, row), env_state, result.obs, exploration), seen

    def collect(select_action, config, carry, key, num_rows):
        key_data = rollout.split_for_scan(key, num_rows, 3)
        return jax.lax.scan(lambda c, k: vector_step(select_action, config, c, k, key), carry, key_data)

    def empty_replay(obs):
        action = jax.eval_shape(lambda key: random_action(key, None, None), jax.random.key(0))
        stored = jax.tree.map(lambda x: _stored(x, DTYPES[default_config.replay_dtype]), obs)
        flags = jnp.zeros(num_envs, bool)
        row = Transition(stored, action, jnp.zeros(num_envs, jnp.float32), flags, flags, stored)
        return replay.init(row, default_config.buffer_size // num_envs)

    def after_collection(learner, seen):
        """Looks for faults in what was collected."""
        obs, next_obs, reward, *_ = seen
        fault = guard.first(learner.fault, guard.in_rollout((obs, next_obs), reward, learner.iteration))
        return learner._replace(fault=fault)

    def with_statistics(learner, obs):
        """Takes observations `[T, N, ...]` into the statistics, unless there was a fault."""
        if not config.normalize_obs:
            return learner
        statistics = normalize.update(learner.obs_statistics, obs)
        return learner._replace(obs_statistics=guard.keep(guard.ok(learner.fault), statistics, learner.obs_statistics))

    def init(key: chex.PRNGKey, config: OffPolicyConfig | None = None) -> State:
        config = config or default_config
        config.require_same_static_fields(default_config)
        config = config.as_leaves()
        learner_key, env_key, exploration_key, prefill_key, key = jax.random.split(key, 5)
        env_state, obs = envs.reset(env_key)
        exploration = policy.exploration(exploration_key, num_envs, config)
        carry = (empty_replay(obs), env_state, obs, exploration)
        carry, seen = collect(random_action, config, carry, prefill_key, config.prefill_rows)
        learner = init_learner(learner_key, env=env, networks=networks, config=config)
        learner = with_statistics(after_collection(learner, seen), seen[0])
        return State(config, learner, *carry, key)

    def step(state: State) -> tuple[State, Metrics]:
        key, collect_key, sample_key, update_key = jax.random.split(state.key, 4)
        config, learner = state.config, state.learner

        def select_action(key, exploration, obs):
            return policy.explore(learner.params, exploration, normalize_obs(learner, obs), key)

        # Collect.
        carry = (state.replay, state.env_state, state.obs, state.exploration)
        carry, seen = collect(select_action, config, carry, collect_key, config.rows_per_step)
        # Update.
        num_batches = config.rows_per_step * config.num_updates
        batches = sample(carry[0], learner, sample_key, num_batches, config)
        learner, metrics = update(
            after_collection(learner, seen), batches, update_key, networks=networks, config=config
        )
        learner = with_statistics(learner, seen[0])
        metrics = rollout.episode_metrics(*seen[3:]) | metrics
        return State(config, learner, *carry, key), metrics

    def act(state: State, obs: Any, key: chex.PRNGKey, deterministic: bool) -> chex.Array:
        return to_env(policy.act(state.learner.params, normalize_obs(state.learner, obs), key, deterministic))

    return Algorithm(
        init, step, act, env, config, config.rows_per_step * num_envs, initial_steps=config.prefill_rows * num_envs
    )


def _stored(x, dtype):
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(x.shape, dtype if floating else x.dtype)

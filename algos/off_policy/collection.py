"""Off-policy collection: each step goes into the replay, and is then looked at and forgotten."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Discrete, Environment
from ..core import collect, guard, masks, normalize, parallel
from ..core.collect import Carry, Transition
from . import replay
from .config import DTYPES, ReplayConfig


class Store(NamedTuple):
    """Where the steps go: into the replay, and what is kept of them beside it is reduced step by
    step, so that they need not be stacked.

    Attributes:
      replay: the ring of `Transition`s.
      fault: the first fault, see `guard`.
      obs_statistics: running moments of the observations, or () for none.
    """

    replay: replay.Replay
    fault: chex.Array
    obs_statistics: Any


def write(ring: replay.Replay, row: Transition) -> replay.Replay:
    """Adds a row; where it is not finite, that environment's previous transition stands again
    instead.

    The previous transition and its copy are flagged as truncated, so that no n-step window counts
    them twice.
    """
    last = replay.newest(ring)
    row = jax.tree.map(lambda new, old: new.astype(old.dtype), row, last)
    finite = guard.finite_per_env(jax.tree.map(lambda x: x[None], row))[0]
    row = collect.where(finite, row, last)
    capacity = ring.rows.truncated.shape[0]
    flagged = ring.rows.truncated.at[(ring.cursor - 1) % capacity].set(last.truncated | ~finite)
    ring = ring._replace(rows=ring.rows._replace(truncated=flagged))
    return replay.add(ring, row._replace(truncated=row.truncated | ~finite))


class ReplayCollector(NamedTuple):
    """Collection in N copies of an environment.

    Attributes:
      start: (key, config, obs_statistics, watch=None) -> (carry, store): resets, and fills the
        replay with prefill_rows of random actions; the statistics are those of an empty
        stream, or (). `watch` is the policy's `explore` where its memory is to follow what it
        sees, or None.
      collect: (explore, config, carry, store, iteration, key, num_rows) -> (carry, store,
        episodes); see `core.collect.Collector`.
      to_env: stored actions -> elements of the environment's action space.
    """

    start: Callable[..., tuple[Carry, Store]]
    collect: Callable[..., tuple[Carry, Store, Any]]
    to_env: Callable[[chex.Array], chex.Array]


def make_replay_collector(
    env: Environment,
    config: ReplayConfig,
    memory: Callable[..., Any] = collect.no_memory,
    stored_memory: Callable[[Any], Any] = lambda memory: (),
) -> ReplayCollector:
    """Builds the collection for an environment.

    Args:
      env: the single environment.
      config: the hyperparameters; its static fields hold for every run.
      memory: the policy's, see `core.collect.Policy`.
      stored_memory: what of it the replay holds.
    """
    discrete = isinstance(env.action_space, Discrete)
    capacity = config.buffer_size // config.num_envs
    prefill_rows = config.prefill_rows
    dtype = DTYPES[config.replay_dtype]

    def to_env(action):
        return action if discrete else env.action_space.from_unit(action)

    collector = collect.make_collector(env, memory, to_env)

    def random_action(key, obs):
        num_envs = parallel.share(config.num_envs)
        if discrete:
            return masks.random_action(key, obs, (num_envs,), env.action_space.n)
        shape = (num_envs, *env.action_space.shape)
        return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)

    def steps(explore, config, carry, store, iteration, key, num_rows):
        def put(store, number, transition, obs):
            transition = transition._replace(log_prob=(), memory=stored_memory(transition.memory))
            seen = jax.tree.map(lambda x: x[None], transition)
            fault = guard.first(
                store.fault,
                guard.in_rollout((seen.obs, seen.next_obs), seen.reward, iteration, number),
                guard.in_masks(seen.obs, iteration, number),
                guard.in_reset(obs, iteration, number),
            )
            statistics = normalize.obs_statistics(store, transition.obs)
            return Store(write(store.replay, transition), fault, statistics)

        carry, store, _, episodes = collector.collect(
            explore, config, carry, key, num_rows, store, put
        )
        written = {"statistics of the observations": store.obs_statistics}
        fault = guard.first(store.fault, guard.in_update(written, iteration))
        fault = guard.agreed(fault)
        return carry, store._replace(fault=fault), episodes

    def empty_replay(obs, memory):
        def stored(x):
            floating = jnp.issubdtype(x.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(x.shape, dtype if floating else x.dtype)

        obs = jax.tree.map(stored, obs)
        num_envs = parallel.share(config.num_envs)
        flags = jnp.zeros(num_envs, bool)
        action = jax.eval_shape(random_action, jax.random.key(0), obs)
        reward = jnp.zeros(num_envs, jnp.float32)
        row = Transition(obs, action, reward, flags, flags, obs, memory=stored_memory(memory))
        return replay.init(row, capacity)

    def start(key, config, obs_statistics, watch=None):
        def explore(memory, obs, key):
            if watch is None:
                return random_action(key, obs), (), memory
            key, watch_key = jax.random.split(key)
            return random_action(key, obs), (), watch(memory, obs, watch_key)[2]

        reset_key, prefill_key = jax.random.split(key)
        carry = collector.reset(reset_key, config)
        iteration = jnp.int32(0)
        fault = guard.in_reset(carry.obs, iteration)
        store = Store(empty_replay(carry.obs, carry.memory), fault, obs_statistics)
        prefill = explore, config, carry, store, iteration, prefill_key, prefill_rows
        return steps(*prefill)[:2]

    return ReplayCollector(start, steps, to_env)

"""Collection: `num_steps` steps of all environments in one scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import VectorEnv


class Transition(NamedTuple):
    """A rollout, time-major; every leaf is `[T, N, ...]`, T steps of N environments.

    Attributes:
      obs: the observation that was acted on.
      action: the action as the policy's head stores it.
      log_prob: log-probability of the action under the policy that chose it, in nats.
      reward: the reward.
      terminated: bool, the task was over.
      truncated: bool, a time limit cut the episode.
      next_obs: the true successor, also where the episode ended.
    """

    obs: Any
    action: chex.Array
    log_prob: chex.Array
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    next_obs: Any


def collect(
    env: VectorEnv,
    select_action: Callable[[chex.PRNGKey, Any], tuple[chex.Array, chex.Array]],
    to_env: Callable[[chex.Array], chex.Array],
    env_state: Any,
    obs: Any,
    key: chex.PRNGKey,
    num_steps: int,
) -> tuple[Any, Any, Transition, dict[str, chex.Array]]:
    """Acts for `num_steps` steps.

    Args:
      env: the environments, N of them.
      select_action: (key, obs) -> (action, log_prob), leading axis N.
      to_env: stored action -> the environment's action.
      env_state: their state.
      obs: the observations to act on, `[N, ...]`.
      key: a typed key.
      num_steps: T.

    Returns:
      (env_state, obs, the rollout, the metrics of the episodes that ended in it).
    """

    def step(carry, key_data):
        env_state, obs = carry
        action_key, env_key = unpack_keys(key_data, key)
        action, log_prob = select_action(action_key, obs)
        env_state, result = env.step(env_key, env_state, to_env(action))
        transition = Transition(
            obs=obs,
            action=action,
            log_prob=log_prob,
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            next_obs=result.next_obs,
        )
        return (env_state, result.obs), (transition, result.episode_return, result.episode_length)

    key_data = split_for_scan(key, num_steps, 2)
    (env_state, obs), (rollout, returns, lengths) = jax.lax.scan(step, (env_state, obs), key_data)
    metrics = episode_metrics(rollout.terminated | rollout.truncated, returns, lengths)
    return env_state, obs, rollout, metrics


def split_for_scan(key: chex.PRNGKey, length: int, keys_per_step: int) -> chex.Array:
    """Keys for each step of a scan, as raw numbers `[length, keys_per_step, ...]` for
    `unpack_keys`.

    All at once, because a hash per step and purpose is a good part of a cheap environment's time;
    and as numbers, because jax's key-reuse checker refuses a vmapped scan over an array of keys.
    """
    return jax.random.key_data(jax.random.split(key, (length, keys_per_step)))


def unpack_keys(key_data: chex.Array, like: chex.PRNGKey) -> tuple[chex.PRNGKey, ...]:
    """The keys of one step of a scan; `like` is a key of the same kind."""
    return tuple(
        jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) for data in key_data
    )


def episode_metrics(
    done: chex.Array, returns: chex.Array, lengths: chex.Array
) -> dict[str, chex.Array]:
    """Mean return and length of the episodes that ended, NaN if none did, and how many; any shape
    to scalars.
    """
    episodes = jnp.sum(done, dtype=jnp.float32)
    return {
        "charts/episodic_return": jnp.sum(jnp.where(done, returns, 0.0)) / episodes,
        "charts/episodic_length": jnp.sum(jnp.where(done, lengths, 0), dtype=jnp.float32)
        / episodes,
        "charts/episodes": episodes,
    }


def shuffled_indices(key: chex.PRNGKey, num_epochs: int, size: int) -> chex.Array:
    """Random permutations of range(size), int32 `[num_epochs, size]`.

    `jax.random.permutation` takes several times as long on a CPU. Below 2^16 elements each is one
    sort of random bits that carry the index in their low half (16 random bits decide, so that about
    1 in 2^16 neighbours keeps its order); above, one sort of pairs.
    """
    bits = jax.random.bits(key, (num_epochs, size), jnp.uint32)
    index = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), bits.shape)
    if size <= 2**16:
        return (jax.lax.sort((bits & jnp.uint32(0xFFFF0000)) | index) & jnp.uint32(0xFFFF)).astype(
            jnp.int32
        )
    return jax.lax.sort((bits, index), num_keys=1)[1].astype(jnp.int32)

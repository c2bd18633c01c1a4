"""Collection: `num_steps` steps of all environments in one scan."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ..envs import VectorEnv


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

    # The key travels in the carry: jax's key-reuse checker refuses a vmapped scan over an array of keys.
    def step(carry, _):
        env_state, obs, key = carry
        key, action_key, env_key = jax.random.split(key, 3)
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
        return (env_state, result.obs, key), (transition, result.episode_return, result.episode_length)

    (env_state, obs, _), (rollout, returns, lengths) = jax.lax.scan(step, (env_state, obs, key), length=num_steps)
    metrics = episode_metrics(rollout.terminated | rollout.truncated, returns, lengths)
    return env_state, obs, rollout, metrics


def episode_metrics(done: chex.Array, returns: chex.Array, lengths: chex.Array) -> dict[str, chex.Array]:
    """Mean return and length of the episodes that ended, NaN if none did, and how many; any shape to scalars."""
    episodes = jnp.sum(done, dtype=jnp.float32)
    return {
        "charts/episodic_return": jnp.sum(jnp.where(done, returns, 0.0)) / episodes,
        "charts/episodic_length": jnp.sum(jnp.where(done, lengths, 0), dtype=jnp.float32) / episodes,
        "charts/episodes": episodes,
    }

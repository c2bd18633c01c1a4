"""Evaluation: whole episodes in environments of their own, on the device, inside a compiled
program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from ...envs import Environment
from ...envs.contract import Contracted
from ...envs.options import require_count
from .algorithm import Algorithm, Metrics, State


class Episodes(NamedTuple):
    """The first episode of each environment; every leaf `[num_episodes]`.

    Attributes:
      returns: undiscounted sum of rewards.
      lengths: steps, int32.
      finished: whether the episode ended within max_steps; if not, returns and lengths are of what
        was seen.
    """

    returns: chex.Array
    lengths: chex.Array
    finished: chex.Array


def evaluate(
    env: Environment,
    act: Callable[[Any, chex.PRNGKey], chex.Array],
    key: chex.PRNGKey,
    *,
    num_episodes: int,
    max_steps: int = 10_000,
) -> Episodes:
    """Runs one episode in each of `num_episodes` environments, and stops when all have ended.

    Args:
      env: a single environment.
      act: (obs `[num_episodes, ...]`, key) -> actions of the environment's action space,
        `[num_episodes, ...]`.
      key: a typed key.
      num_episodes: how many.
      max_steps: steps after which it stops in any case, for environments without a time limit.

    Raises:
      ContractError: the environment breaks the contract.
    """
    env = Contracted(env)
    reset_key, run_key = jax.random.split(key)
    env_state, obs = jax.vmap(env.reset)(jax.random.split(reset_key, num_episodes))
    episodes = Episodes(
        returns=jnp.zeros(num_episodes, jnp.float32),
        lengths=jnp.zeros(num_episodes, jnp.int32),
        finished=jnp.zeros(num_episodes, bool),
    )

    def running(carry):
        t, _, _, episodes, _ = carry
        return (t < max_steps) & ~jnp.all(episodes.finished)

    def step(carry):
        t, env_state, obs, episodes, key = carry
        key, action_key, step_key = jax.random.split(key, 3)
        action = act(obs, action_key)
        env_state, result = jax.vmap(env.step)(
            jax.random.split(step_key, num_episodes), env_state, action
        )
        alive = ~episodes.finished
        episodes = Episodes(
            returns=episodes.returns + jnp.where(alive, result.reward, 0.0),
            lengths=episodes.lengths + alive,
            finished=episodes.finished | result.terminated | result.truncated,
        )
        return t + 1, env_state, result.obs, episodes, key

    return jax.lax.while_loop(running, step, (jnp.int32(0), env_state, obs, episodes, run_key))[3]


def evaluator(
    algorithm: Algorithm,
    *,
    num_episodes: int = 16,
    deterministic: bool = True,
    max_steps: int = 10_000,
) -> Callable[[State, chex.PRNGKey], Metrics]:
    """An `evaluate(state, key)` for `algos.train` and the runner.

    Returns:
      A function of (state, key) that gives the mean return "eval/episodic_return", its standard
      deviation over the episodes "eval/episodic_return_std", the mean length "eval/episodic_length"
      and "eval/finished", the fraction of the episodes that ended within max_steps (the others
      count with what was seen).

    Raises:
      ValueError: num_episodes is no integer above 0.
    """
    require_count("num_episodes", num_episodes)

    def evaluate_state(state: State, key: chex.PRNGKey) -> Metrics:
        def act(obs, key):
            return algorithm.act(state, obs, key, deterministic)

        episodes = evaluate(algorithm.env, act, key, num_episodes=num_episodes, max_steps=max_steps)
        return {
            "eval/episodic_return": jnp.mean(episodes.returns),
            "eval/episodic_return_std": jnp.std(episodes.returns),
            "eval/episodic_length": jnp.mean(episodes.lengths.astype(jnp.float32)),
            "eval/finished": jnp.mean(episodes.finished.astype(jnp.float32)),
        }

    return evaluate_state

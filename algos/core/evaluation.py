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
from . import parallel
from .algorithm import Algorithm, Metrics, State
from .distribution import ALIKE, on_mesh

# (obs, key) -> actions; with a memory, (obs, key, memory) -> (actions, memory)
Act = Callable[..., Any]
# (key, num_envs) -> what a policy remembers at the start of so many episodes
Memory = Callable[[chex.PRNGKey, int], Any]


def remembering(act: Act, memory: Memory | None) -> tuple[Act, Memory]:
    """An `act` that takes and returns a memory, and the memory, () for one that has none."""
    if memory is not None:
        return act, memory
    return lambda obs, key, memory: (act(obs, key), memory), lambda key, num_envs: ()


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
    act: Act,
    key: chex.PRNGKey,
    *,
    num_episodes: int,
    max_steps: int = 10_000,
    memory: Memory | None = None,
) -> Episodes:
    """Runs one episode in each of `num_episodes` environments, and stops when all have ended.

    Args:
      env: a single environment.
      act: (obs `[num_episodes, ...]`, key) -> actions of the environment's action space,
        `[num_episodes, ...]`.
      key: a typed key.
      num_episodes: how many.
      max_steps: steps after which it stops in any case, for environments without a time limit.
      memory: for policies that remember: (key, num_episodes) -> their memory at the start, leaves
        `[num_episodes, ...]`; `act` is then (obs, key, memory) -> (actions, memory).

    Raises:
      ContractError: the environment breaks the contract.
    """
    env = Contracted(env)
    act, memory = remembering(act, memory)
    reset_key, run_key, memory_key = jax.random.split(key, 3)
    env_state, obs = jax.vmap(env.reset)(jax.random.split(reset_key, num_episodes))
    episodes = Episodes(
        returns=jnp.zeros(num_episodes, jnp.float32),
        lengths=jnp.zeros(num_episodes, jnp.int32),
        finished=jnp.zeros(num_episodes, bool),
    )

    def running(carry):
        t, *_, episodes, _ = carry
        return (t < max_steps) & ~jnp.all(episodes.finished)

    def step(carry):
        t, env_state, obs, remembered, episodes, key = carry
        key, action_key, step_key = jax.random.split(key, 3)
        action, remembered = act(obs, action_key, remembered)
        step_keys = jax.random.split(step_key, num_episodes)
        env_state, result = jax.vmap(env.step)(step_keys, env_state, action)
        alive = ~episodes.finished
        episodes = Episodes(
            returns=episodes.returns + jnp.where(alive, result.reward, 0.0),
            lengths=episodes.lengths + alive,
            finished=episodes.finished | result.terminated | result.truncated,
        )
        return t + 1, env_state, result.obs, remembered, episodes, key

    remembered = memory(memory_key, num_episodes)
    carry = (jnp.int32(0), env_state, obs, remembered, episodes, run_key)
    return jax.lax.while_loop(running, step, carry)[4]


def player(algorithm: Algorithm, state: State, deterministic: bool) -> tuple[Act, Memory]:
    """How an algorithm plays, for `evaluate`: its `act` with a memory, and the memory."""

    def act(obs, key, memory):
        return algorithm.act(state, obs, key, deterministic, memory)

    def memory(key, num_envs):
        return algorithm.memory(state, key, num_envs)

    return act, memory


def normalized_score(returns: chex.Array, scores: tuple[float, float]) -> chex.Array:
    """100·(return − random)/(expert − random): 0 is a random policy, 100 the expert.

    Args:
      returns: undiscounted returns, any shape.
      scores: (random, expert), the returns of the two.

    Source: Fu et al. 2020 (arXiv 2004.07219), section 5.
    """
    low, high = scores
    return 100.0 * (returns - low) / (high - low)


def evaluator(
    algorithm: Algorithm,
    *,
    num_episodes: int = 16,
    deterministic: bool = True,
    max_steps: int = 10_000,
) -> Callable[[State, chex.PRNGKey], Metrics]:
    """An `evaluate(state, key)` for `algos.train` and the runner. Devices that share environments
    share the episodes too.

    Returns:
      A function of (state, key) that gives the mean return "eval/episodic_return", its standard
      deviation over the episodes "eval/episodic_return_std", the mean length "eval/episodic_length"
      and "eval/finished", the fraction of the episodes that ended within max_steps (the others
      count with what was seen); "eval/normalized_score" where algorithm.scores say what is 0 and
      100; and what the algorithm's own `evaluation` adds.

    Raises:
      ValueError: num_episodes is no integer above 0, or no multiple of the devices.
    """
    require_count("num_episodes", num_episodes)

    def evaluate_state(state: State, key: chex.PRNGKey) -> Metrics:
        parallel.require_multiple("num_episodes", num_episodes, parallel.size())
        share = parallel.share(num_episodes)
        key = parallel.own_key(key)
        own = {}
        if algorithm.evaluation is not None:
            key, own_key = jax.random.split(key)
            own = dict(algorithm.evaluation(state, own_key, share))
        act, memory = player(algorithm, state, deterministic)
        limits = {"num_episodes": share, "max_steps": max_steps}
        # A device whose episodes have all ended does not wait for the others: nothing is exchanged
        # before all have.
        episodes = evaluate(algorithm.env, act, key, memory=memory, **limits)
        mean, var = parallel.moments(episodes.returns)
        if algorithm.scores is not None:
            own["eval/normalized_score"] = normalized_score(mean, algorithm.scores)
        others = {
            "eval/episodic_length": jnp.mean(episodes.lengths.astype(jnp.float32)),
            "eval/finished": jnp.mean(episodes.finished.astype(jnp.float32)),
        }
        return {
            "eval/episodic_return": mean,
            "eval/episodic_return_std": jnp.sqrt(var),
            **parallel.mean(others | own),
        }

    if algorithm.shardings is None:
        return evaluate_state
    mesh = algorithm.shardings.key.mesh
    specs = jax.tree.map(lambda sharding: sharding.spec, algorithm.shardings)
    return on_mesh(evaluate_state, mesh, (specs, ALIKE), ALIKE)

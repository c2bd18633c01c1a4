"""Off-policy collection: act, step the environments, write to the replay."""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Discrete, Environment, VectorEnv
from ...envs.vector import RESETS
from ..core import guard, memory, normalize
from ..core.algorithm import single
from ..core.config import BaseConfig, ConfigError, configclass, static, traced
from ..core.memory import Part
from . import replay

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@configclass
class ReplayConfig(BaseConfig):
    """What the algorithms that learn from a replay have in common; each says its rows_per_step, an
    int.
    """

    learning_rate: float = traced(3e-4, "Step size of Adam.", above=0)
    gamma: float = traced(0.99, "Discount per environment step.", low=0, high=1)
    tau: float = traced(
        0.005, "Weight of the new parameters in the target networks.", above=0, high=1
    )
    reward_scale: float = traced(1.0, "Rewards are multiplied by it before anything else.", above=0)
    total_steps: int = traced(1_000_000, "Environment steps of the run.", low=1, high=2**31 - 1)
    num_envs: int = static(1, "Environments that are stepped together.", low=1)
    batch_size: int = static(256, "Transitions in a minibatch.", low=1)
    buffer_size: int = static(
        1_000_000, "Transitions that the replay holds, of all environments together.", low=1
    )
    learning_starts: int = static(
        1_000, "Environment steps of random actions before the first update.", low=1
    )
    replay_dtype: str = static("float32", "What observations are stored in.", choices=tuple(DTYPES))
    reset: str = static("full", "Where episodes start, see envs.VectorEnv.", choices=RESETS)

    def validate(self, env: Environment) -> None:
        """Checks the fields, and that they go together and with the environment.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        super().validate(env)
        if self.buffer_size // self.num_envs < self.window:
            allowed = f"must be at least num_envs·{self.window} = {self.num_envs * self.window}"
            raise ConfigError("buffer_size", self.buffer_size, allowed)
        if not isinstance(self.total_steps, jax.core.Tracer):
            needed = (self.prefill_rows + self.rows_per_step) * self.num_envs
            if np.min(self.total_steps) < needed:
                allowed = f"must be at least learning_starts and one step, {needed}"
                raise ConfigError("total_steps", self.total_steps, allowed)
        memory.require(self, *self.memory_parts(env))

    def memory_parts(self, env: Environment) -> list[Part]:
        """What a run holds at once, beside its networks and the environments' own states."""
        obs, action = (
            memory.space_bytes(env.observation_space),
            memory.space_bytes(env.action_space),
        )
        stored = 2 * obs * DTYPES[self.replay_dtype].dtype.itemsize // 4 + action + 4 + 2
        rows = float(max(self.prefill_rows, self.rows_per_step) * self.num_envs)
        return [
            Part(
                ("buffer_size",),
                self.buffer_size * stored,
                f"a replay of {self.buffer_size:,} transitions",
            ),
            # whether an episode ended, its return and its length
            Part(
                ("learning_starts", "num_envs"), 9 * rows, "the episodes that end before an update"
            ),
        ]

    @property
    def window(self) -> int:
        """Consecutive steps that a sample is made of."""
        return 1

    @property
    def prefill_rows(self) -> int:
        """Vector steps of random actions in `init`."""
        return max(self.window, -(-self.learning_starts // self.num_envs))


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


def write(ring: replay.Replay, row: Transition) -> replay.Replay:
    """Adds a row; where it is not finite, that environment's previous transition stands again
    instead.

    The previous transition and its copy are flagged as truncated, so that no n-step window counts
    them twice.
    """
    last = replay.newest(ring)
    row = jax.tree.map(lambda new, old: new.astype(old.dtype), row, last)
    finite = guard.finite_per_env(jax.tree.map(lambda x: x[None], row))[0]
    row = jax.tree.map(lambda new, old: jnp.where(_like(finite, new), new, old), row, last)
    capacity = ring.rows.truncated.shape[0]
    flagged = ring.rows.truncated.at[(ring.cursor - 1) % capacity].set(last.truncated | ~finite)
    ring = ring._replace(rows=ring.rows._replace(truncated=flagged))
    return replay.add(ring, row._replace(truncated=row.truncated | ~finite))


def _like(flags, x):
    return flags.reshape(flags.shape + (1,) * (x.ndim - 1))


class Carry(NamedTuple):
    """What collection carries.

    Attributes:
      replay: the ring of `Transition`s.
      env_state: of the environments.
      obs: to act on next, leaves `[N, ...]`.
      exploration: what the policy carries for each environment, leaves `[N, ...]`.
    """

    replay: replay.Replay
    env_state: Any
    obs: Any
    exploration: Any


class Seen(NamedTuple):
    """What is kept of rows beside the replay, so that they need not be: it is reduced row by row.

    Attributes:
      fault: the first fault, see `guard`.
      statistics: running moments of the observations, or () for none.
    """

    fault: chex.Array
    statistics: Any


class Collector(NamedTuple):
    """Collection in N copies of an environment.

    Attributes:
      start: (key, config, statistics) -> (carry, seen): resets, and fills the replay with
        config.prefill_rows of random actions; statistics are those of an empty stream, or ().
      collect: (select_action, config, carry, seen, iteration, key, num_rows) -> (carry, seen,
        episodes); select_action is (key, exploration, obs) -> actions in their stored form, `[N,
        ...]`. `episodes` is (done, episode_return, episode_length), each `[num_rows, N]`.
      to_env: stored actions -> elements of the environment's action space.
    """

    start: Callable[..., Any]
    collect: Callable[..., Any]
    to_env: Callable[[chex.Array], chex.Array]


def no_exploration(key: chex.PRNGKey, num_envs: int, config: Any) -> tuple[()]:
    """For policies that carry nothing."""
    del key, num_envs, config
    return ()


def make_collector(
    env: Environment, config: ReplayConfig, exploration: Callable[..., Any] = no_exploration
) -> Collector:
    """Builds the collection for an environment.

    Args:
      env: the single environment.
      config: the hyperparameters; its static fields hold for every run.
      exploration: (key, num_envs, config) -> what the policy carries for each environment; drawn
        anew for an environment when its episode ends.
    """
    envs, num_envs, static_config = (
        VectorEnv(env, config.num_envs, reset=config.reset),
        config.num_envs,
        config,
    )
    discrete = isinstance(env.action_space, Discrete)

    def to_env(action):
        return action if discrete else env.action_space.from_unit(action)

    def random_action(key, exploration, obs):
        del exploration, obs
        if discrete:
            return jax.random.randint(key, (num_envs,), 0, env.action_space.n, jnp.int32)
        return jax.random.uniform(key, (num_envs, *env.action_space.shape), jnp.float32, -1.0, 1.0)

    def vector_step(select_action, config, carry, key_data, like):
        """One step of all environments, written to the replay, and what it gave."""
        action_key, env_key, exploration_key = collect.unpack_keys(key_data, like)
        action = select_action(action_key, carry.exploration, carry.obs)
        env_state, result = envs.step(env_key, carry.env_state, to_env(action))
        row = Transition(
            carry.obs, action, result.reward, result.terminated, result.truncated, result.next_obs
        )
        done = result.terminated | result.truncated
        renewed = single(exploration(exploration_key, num_envs, config))
        kept = jax.tree.map(
            lambda new, old: jnp.where(_like(done, new), new, old), renewed, carry.exploration
        )
        return Carry(write(carry.replay, row), env_state, result.obs, kept), result

    def collect(select_action, config, carry, seen, iteration, key, num_rows):
        def step(carried, inputs):
            (carry, seen), (number, key_data) = carried, inputs
            after, result = vector_step(select_action, config, carry, key_data, key)
            row = jax.tree.map(lambda x: x[None], (carry.obs, result.next_obs, result.reward))
            fault = guard.first(
                seen.fault,
                guard.in_rollout(row[:2], row[2], iteration, number),
                guard.in_reset(result.obs, iteration, number),
            )
            statistics = normalize.update(seen.statistics, carry.obs) if seen.statistics else ()
            done = result.terminated | result.truncated
            return (after, Seen(fault, statistics)), (
                done,
                result.episode_return,
                result.episode_length,
            )

        inputs = (jnp.arange(num_rows, dtype=jnp.int32), collect.split_for_scan(key, num_rows, 3))
        (carry, seen), episodes = jax.lax.scan(step, (carry, seen), inputs)
        in_statistics = guard.in_update(
            {"statistics of the observations": seen.statistics}, iteration
        )
        return carry, seen._replace(fault=guard.first(seen.fault, in_statistics)), episodes

    def empty_replay(obs):
        action = jax.eval_shape(lambda key: random_action(key, None, None), jax.random.key(0))
        stored = jax.tree.map(lambda x: _stored(x, DTYPES[static_config.replay_dtype]), obs)
        flags = jnp.zeros(num_envs, bool)
        row = Transition(stored, action, jnp.zeros(num_envs, jnp.float32), flags, flags, stored)
        return replay.init(row, static_config.buffer_size // num_envs)

    def start(key, config, statistics):
        env_key, exploration_key, prefill_key = jax.random.split(key, 3)
        env_state, obs = envs.reset(env_key)
        carry = Carry(
            empty_replay(obs),
            env_state,
            obs,
            single(exploration(exploration_key, num_envs, config)),
        )
        iteration = jnp.int32(0)
        seen = Seen(guard.in_reset(obs, iteration), statistics)
        rows = static_config.prefill_rows
        return collect(random_action, config, carry, seen, iteration, prefill_key, rows)[:2]

    return Collector(start, collect, to_env)


def _stored(x, dtype):
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    return jax.ShapeDtypeStruct(x.shape, dtype if floating else x.dtype)

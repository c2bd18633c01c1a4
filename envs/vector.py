"""Many copies of one environment, stepped together and reset one by one."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from .base import Environment, Observation
from .contract import Contracted
from .options import require_count

RESETS = ("full", "bank", "first")
_REFRESH_INTERVAL = 8
BANK_SIZE = 64  # by default


class VectorState(NamedTuple):
    """The state of `VectorEnv`; N is num_envs.

    Attributes:
      env_state: the environments' states, each leaf `[N, ...]`.
      episode_return: undiscounted sum of rewards of the running episode, `[N]`.
      episode_length: steps of the running episode, int32 `[N]`.
      bank: with reset="bank" or "first", (states, observations) to reset to, leading axis = size;
        else ().
      bank_cursor: vector steps of the present pass through the bank, int32.
    """

    env_state: Any
    episode_return: chex.Array
    episode_length: chex.Array
    bank: Any
    bank_cursor: chex.Array


class VectorStep(NamedTuple):
    """What one step of `VectorEnv` returns; every leaf has the leading axis N = num_envs.

    Attributes:
      obs: the observation to act on next: the first one of a new episode where one ended.
      next_obs: the true successor of this step, also where the episode ended: bootstrap from this.
      reward: float32 `[N]`.
      terminated: bool `[N]`, the task is over: no bootstrap.
      truncated: bool `[N]`, a time limit cut the episode: bootstrap from next_obs.
      episode_return: return of the episode up to and including this step, `[N]`; final where it
        ended.
      episode_length: steps of the episode, int32 `[N]`; final where it ended.
      info: what the environment reports.
    """

    obs: Observation
    next_obs: Observation
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    episode_return: chex.Array
    episode_length: chex.Array
    info: dict[str, chex.Array]


class VectorEnv:
    """`num_envs` copies of an environment that reset themselves, keeping the true successor.

    Args:
      env: the single environment.
      num_envs: how many copies.
      reset: where an episode starts. "full": a true reset, computed at every step (the default).
        "bank": drawn at random from `bank_size` reset states, of which one after the other is
        replaced by a fresh one, at every eighth step; for environments whose reset is expensive.
        (Under vmap the fresh one is computed at every step.) "first": the copy's first state again
        and again, what Brax and MuJoCo Playground do; for comparison only.
      bank_size: entries of the bank.

    Raises:
      ContractError: env is no environment; the message says what to write instead.
      ValueError: num_envs or bank_size is below 1, or reset is none of the three.
    """

    def __init__(
        self,
        env: Environment,
        num_envs: int,
        reset: str = "full",
        bank_size: int = BANK_SIZE,
    ):
        for name, value in (("num_envs", num_envs), ("bank_size", bank_size)):
            require_count(name, value)
        if reset not in RESETS:
            raise ValueError(f"reset={reset!r}: must be one of {', '.join(RESETS)}")
        self.env = env
        self._contracted = Contracted(env)
        self.num_envs = num_envs
        self._reset_mode = reset
        self._bank_size = bank_size
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def reset(self, key: chex.PRNGKey) -> tuple[VectorState, Observation]:
        """Starts an episode in every copy.

        Returns:
          The state and the observations to act on, `[N, ...]`.

        Raises:
          ContractError: the environment's reset breaks the contract.
        """
        # Split as in step, so that the two share compiled kernels.
        choice_keys, reset_keys = jax.random.split(key, (2, self.num_envs))
        if self._reset_mode == "bank":
            # One after the other, as they are refreshed: a reset that is compiled once is enough.
            bank_keys = jax.random.split(reset_keys[0], self._bank_size)
            kind = jax.random.key_impl(key)
            # As raw numbers: jax's key-reuse checker refuses a vmapped scan over an array of keys.
            bank = jax.lax.map(
                lambda data: self._contracted.reset(jax.random.wrap_key_data(data, impl=kind)),
                jax.random.key_data(bank_keys),
            )
            env_state, obs = self._draw(bank, choice_keys[0])
        else:
            env_state, obs = jax.vmap(self._contracted.reset)(reset_keys)
            bank = jax.tree.map(jnp.copy, (env_state, obs)) if self._reset_mode == "first" else ()
        state = VectorState(
            env_state=env_state,
            episode_return=jnp.zeros(self.num_envs, jnp.float32),
            episode_length=jnp.zeros(self.num_envs, jnp.int32),
            bank=bank,
            bank_cursor=jnp.int32(0),
        )
        return state, obs

    def step(
        self, key: chex.PRNGKey, state: VectorState, action: chex.Array
    ) -> tuple[VectorState, VectorStep]:
        """Advances every copy by one step, and resets those whose episode ended.

        Args:
          key: a typed key.
          state: the state.
          action: elements of `action_space`, `[N, ...]`.

        Returns:
          The next state and the `VectorStep`.

        Raises:
          ContractError: the environment's step breaks the contract.
        """
        step_keys, reset_keys = jax.random.split(key, (2, self.num_envs))
        stepped, step = jax.vmap(self._contracted.step)(step_keys, state.env_state, action)
        done = step.terminated | step.truncated
        bank, bank_cursor, (env_state, obs) = self._restart(
            reset_keys, state, done, (stepped, step.obs)
        )
        episode_return = state.episode_return + step.reward
        episode_length = state.episode_length + 1
        next_state = VectorState(
            env_state=env_state,
            episode_return=jnp.where(done, 0.0, episode_return),
            episode_length=jnp.where(done, 0, episode_length),
            bank=bank,
            bank_cursor=bank_cursor,
        )
        return next_state, VectorStep(
            obs=obs,
            next_obs=step.obs,
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            episode_return=episode_return,
            episode_length=episode_length,
            info=step.info,
        )

    def _restart(self, keys, state, done, stepped):
        """The bank after this step, its cursor, and (states, observations), new ones where an
        episode ended.
        """
        if self._reset_mode == "full":
            return (
                state.bank,
                state.bank_cursor,
                _where_done(done, jax.vmap(self._contracted.reset)(keys), stepped),
            )
        if self._reset_mode == "first":
            return state.bank, state.bank_cursor, _where_done(done, state.bank, stepped)
        refresh_key, choice_key = jax.random.split(keys[0])

        def refreshed():
            entry = self._contracted.reset(refresh_key)
            place = state.bank_cursor // _REFRESH_INTERVAL
            return jax.tree.map(lambda pool, x: pool.at[place].set(x), state.bank, entry)

        # Most steps need neither, and a reset of its own is a good part of a step of a robot.
        bank = jax.lax.cond(
            state.bank_cursor % _REFRESH_INTERVAL == 0, refreshed, lambda: state.bank
        )
        started = jax.lax.cond(
            jnp.any(done),
            lambda: _where_done(done, self._draw(bank, choice_key), stepped),
            lambda: stepped,
        )
        return bank, (state.bank_cursor + 1) % (_REFRESH_INTERVAL * self._bank_size), started

    def _draw(self, bank, key):
        choice = jax.random.randint(key, (self.num_envs,), 0, self._bank_size)
        return jax.tree.map(lambda pool: pool[choice], bank)


def _where_done(done, fresh, stepped):
    """Per-copy choice between two pairs (states, observations) with the leading axis N."""
    return jax.vmap(lambda flag, a, b: jax.tree.map(lambda x, y: jnp.where(flag, x, y), a, b))(
        done, fresh, stepped
    )

"""Wrappers of what an agent sees: Gaussian noise with an adversary before it, stacked frames,
vectors, and parts of them.

Dtypes stay as they are, but that noise makes floats of integers.

`FrameStack(NoisyObservations(env, sigma), 5)` is the environment of a smoothed policy (Kumar et al.
2022, arXiv 2106.11420): noise is drawn once for each raw observation, and a frame in the stack
keeps its draw. The certificate of `losses.certified_return` holds for that order only; stacking
first and then adding noise would show the agent several draws for one observation, which an
adversary pays for once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .base import Environment, Observation, Step
from .options import require_count
from .spaces import Box
from .wrapper import Wrapper


class Frames(NamedTuple):
    """The observations before the present one, oldest first, zeros before the episode; both `[k,
    *shape]`.

    Attributes:
      clean: as the environment gave them.
      seen: as the agent saw them, with perturbation and noise.
    """

    clean: chex.Array
    seen: chex.Array


class Adversary(NamedTuple):
    """Who perturbs observations before the noise is added.

    Attributes:
      perturb: (key, frames, obs, remaining) -> what is added to obs, of its shape; `remaining` is
        the L2 norm that it may still have, a longer one is shortened to it.
      num_frames: k, how many earlier observations it wants to know.
    """

    perturb: Callable[[chex.PRNGKey, Frames, chex.Array, chex.Array], chex.Array]
    num_frames: int = 0


class NoisyState(NamedTuple):
    """The state of `NoisyObservations`.

    Attributes:
      env_state: of the inner environment.
      frames: what the adversary remembers, or () without one.
      remaining: norm that the adversary may still spend in this episode, scalar.
    """

    env_state: Any
    frames: Any
    remaining: chex.Array


class NoisyObservations(Wrapper):
    """Adds independent Gaussian noise to each observation, and before it what an adversary adds.

    The adversary's budget is for the episode: the square root of the sum of the squared L2 norms of
    all that it adds is at most `budget`. It knows the true observation and what the agent has seen
    before, not the noise to come.

    Args:
      env: a single environment with a Box of observations.
      sigma: standard deviation of the noise, in the units of the raw observation; may be traced.
      adversary: who perturbs, or None.
      budget: L2 norm over an episode; may be traced.

    Raises:
      ValueError: sigma or budget is negative or not finite, or observations are not a single Box.
    """

    def __init__(
        self,
        env: Environment,
        sigma: float | chex.Array,
        adversary: Adversary | None = None,
        budget: float | chex.Array = 0.0,
    ):
        super().__init__(env)
        for name, value in (("sigma", sigma), ("budget", budget)):
            if not isinstance(value, jax.core.Tracer) and not 0.0 <= float(value) < np.inf:
                raise ValueError(f"{name}={value}: must be finite and at least 0")
        space = _box(env)
        dtype = space.dtype if jnp.issubdtype(space.dtype, jnp.floating) else jnp.float32
        self.observation_space = dataclasses.replace(space, low=-np.inf, high=np.inf, dtype=dtype)
        self.sigma = sigma
        self.adversary = adversary
        self.budget = budget

    def reset(self, key: chex.PRNGKey) -> tuple[NoisyState, Observation]:
        """Starts an episode, with the whole budget."""
        key, reset_key = jax.random.split(key)
        env_state, obs = self.env.reset(reset_key)
        obs = obs.astype(self.observation_space.dtype)
        frames = ()
        if self.adversary:
            empty = jnp.zeros((self.adversary.num_frames, *obs.shape), obs.dtype)
            frames = Frames(empty, empty)
        return self._observe(key, NoisyState(env_state, frames, jnp.float32(self.budget)), obs)

    def step(
        self, key: chex.PRNGKey, state: NoisyState, action: chex.Array
    ) -> tuple[NoisyState, Step]:
        """Advances by one step."""
        key, step_key = jax.random.split(key)
        env_state, result = self.env.step(step_key, state.env_state, action)
        obs = result.obs.astype(self.observation_space.dtype)
        state, obs = self._observe(key, state._replace(env_state=env_state), obs)
        return state, result._replace(obs=obs)

    def inner_state(self, state: NoisyState) -> Any:
        """The inner environment's state in that of this one."""
        return state.env_state

    def _observe(self, key, state, obs):
        """The state after the observation, and what the agent sees of it."""
        noise_key, attack_key = jax.random.split(key)
        seen = obs + self.sigma * jax.random.normal(noise_key, obs.shape, obs.dtype)
        if not self.adversary:
            return state, seen
        delta = self.adversary.perturb(attack_key, state.frames, obs, state.remaining)
        norm = jnp.sqrt(jnp.sum(delta**2))
        delta *= jnp.minimum(1.0, state.remaining / jnp.maximum(norm, 1e-20))
        spent = jnp.minimum(norm, state.remaining)
        remaining = jnp.sqrt(jnp.maximum(state.remaining**2 - spent**2, 0.0))
        seen = seen + delta
        newest = Frames(obs, seen)
        frames = jax.tree.map(
            lambda old, new: jnp.concatenate([old, new[None]])[1:], state.frames, newest
        )
        return NoisyState(state.env_state, frames, remaining), seen


class FrameStack(Wrapper):
    """Shows the last `num_frames` observations, zeros before the first one of the episode.

    Args:
      env: a single environment with a Box of observations `[..., C]`.
      num_frames: how many, at least 1; observations become `[..., num_frames·C]`, the oldest first.

    Raises:
      ValueError: num_frames is below 1, or observations are not a single Box with an axis.
    """

    def __init__(self, env: Environment, num_frames: int):
        super().__init__(env)
        require_count("num_frames", num_frames)
        space = _box(env)
        if not space.shape:
            raise ValueError(f"env.observation_space={space}: must have an axis")
        # Where there are earlier frames, zeros may stand for them.
        low, high = (
            (space.low, space.high)
            if num_frames == 1
            else (np.minimum(space.low, 0), np.maximum(space.high, 0))
        )
        low, high = (np.concatenate([bound] * num_frames, axis=-1) for bound in (low, high))
        self.observation_space = dataclasses.replace(space, low=low, high=high, shape=low.shape)
        self.num_frames = num_frames

    def reset(self, key: chex.PRNGKey) -> tuple[tuple[Any, chex.Array], Observation]:
        """Starts an episode."""
        env_state, obs = self.env.reset(key)
        frames = jnp.zeros((self.num_frames, *obs.shape), obs.dtype).at[-1].set(obs)
        return (env_state, frames), stack_frames(frames)

    def step(
        self, key: chex.PRNGKey, state: tuple[Any, chex.Array], action: chex.Array
    ) -> tuple[tuple[Any, chex.Array], Step]:
        """Advances by one step."""
        env_state, result = self.env.step(key, state[0], action)
        frames = jnp.concatenate([state[1], result.obs[None]])[1:]
        return (env_state, frames), result._replace(obs=stack_frames(frames))

    def inner_state(self, state: tuple[Any, chex.Array]) -> Any:
        """The inner environment's state in that of this one."""
        return state[0]


class Flattened(Wrapper):
    """Shows observations as vectors, for networks of fully connected layers: `[...]` becomes
    `[product of ...]`.

    Args:
      env: a single environment with a Box of observations.

    Raises:
      ValueError: observations are not a single Box.
    """

    def __init__(self, env: Environment):
        super().__init__(env)
        space = _box(env)
        low, high = space.low.ravel(), space.high.ravel()
        self.observation_space = dataclasses.replace(space, low=low, high=high, shape=low.shape)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Observation]:
        """Starts an episode."""
        state, obs = self.env.reset(key)
        return state, jnp.ravel(obs)

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple[Any, Step]:
        """Advances by one step."""
        state, result = self.env.step(key, state, action)
        return state, result._replace(obs=jnp.ravel(result.obs))


class PartialObservations(Wrapper):
    """Shows some entries of a vector alone: CartPole without its velocities is
    `PartialObservations(env, (0, 2))`.

    Args:
      env: a single environment whose observations are vectors.
      entries: which, in this order.

    Raises:
      ValueError: observations are no vector, or it has no such entry.
    """

    def __init__(self, env: Environment, entries: Sequence[int]):
        super().__init__(env)
        space = _box(env)
        self._entries = np.asarray(entries, np.int32)
        fits = self._entries.ndim == 1 and len(space.shape) == 1 and len(self._entries)
        if not fits or not all(0 <= entry < space.shape[0] for entry in self._entries):
            raise ValueError(
                f"entries={entries!r}: must be places in an observation of the shape {space.shape}"
            )
        low, high = space.low[self._entries], space.high[self._entries]
        self.observation_space = dataclasses.replace(space, low=low, high=high, shape=low.shape)

    def reset(self, key: chex.PRNGKey) -> tuple[Any, Observation]:
        """As the inner one, with what is shown of the observation."""
        state, obs = self.env.reset(key)
        return state, obs[self._entries]

    def step(self, key: chex.PRNGKey, state: Any, action: chex.Array) -> tuple[Any, Step]:
        """As the inner one, with what is shown of the observation."""
        state, step = self.env.step(key, state, action)
        return state, step._replace(obs=step.obs[self._entries])


def stack_frames(frames: chex.Array) -> chex.Array:
    """Frames `[k, ..., C]`, the oldest first, as one observation `[..., k·C]`."""
    return jnp.concatenate(list(frames), axis=-1)


def _box(env):
    if not isinstance(env.observation_space, Box):
        raise ValueError(f"env.observation_space={env.observation_space}: must be a single Box")
    return env.observation_space

"""Environments of this package as Gymnasium's: many in one compiled program, and a single one.

Each copy has a key of its own, which its seed makes: what it does does not depend on how many there
are beside it.
"""

from collections.abc import Sequence
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from .base import Environment
from .options import require_count
from .spaces import Box, Discrete, Space
from .vector import VectorEnv


def gymnasium_space(space: Space) -> gymnasium.Space:
    """Gymnasium's space of the same elements."""
    if isinstance(space, dict):
        return gymnasium.spaces.Dict({name: gymnasium_space(x) for name, x in space.items()})
    if isinstance(space, Box):
        low, high = (np.array(bound, space.dtype) for bound in (space.low, space.high))
        return gymnasium.spaces.Box(low, high, space.shape, space.dtype)
    if isinstance(space, Discrete):
        return gymnasium.spaces.Discrete(space.n, dtype=space.dtype)
    return gymnasium.spaces.MultiDiscrete(space.nvec, dtype=space.dtype)


class GymnasiumVectorEnv(gymnasium.vector.VectorEnv):
    """Copies of an environment, as `envs.to_gymnasium` makes them.

    Args:
      env: a single environment.
      num_envs: how many copies.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, env: Environment, num_envs: int = 1):
        require_count("num_envs", num_envs)
        one = VectorEnv(env, 1)
        self.num_envs = num_envs
        self.single_observation_space = gymnasium_space(env.observation_space)
        self.single_action_space = gymnasium_space(env.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._action = env.action_space
        self._state = None

        def reset(seed):
            key, reset_key = jax.random.split(jax.random.key(seed))
            state, obs = one.reset(reset_key)
            return (key, state), _only(obs)

        def step(carry, action):
            key, state = carry
            key, step_key = jax.random.split(key)
            state, result = one.step(step_key, state, action[None])
            flags = result.terminated, result.truncated
            seen = result.obs, result.next_obs, result.reward, *flags, result.info
            return (key, state), _only(seen)

        self._reset = jax.jit(jax.vmap(reset))
        self._step = jax.jit(jax.vmap(step))

    def reset(
        self,
        *,
        seed: int | Sequence[int] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode in every copy.

        Args:
          seed: copy i is seeded with seed + i, or by entry i; None goes on from the last seed.
          options: none are known.

        Returns:
          Observations `[num_envs, ...]`, and infos, which are empty.

        Raises:
          ValueError: there are not as many seeds as copies, or an option.
        """
        if options:
            raise ValueError(f"options={options!r}: this environment has none")
        if seed is None:
            seeds = self.np_random.integers(2**32, size=self.num_envs)
        elif isinstance(seed, Sequence):
            seeds = np.array(seed)
        else:
            super().reset(seed=int(seed))
            seeds = int(seed) + np.arange(self.num_envs)
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed={seed!r}: there are {self.num_envs} environments")
        self._state, obs = self._reset((seeds % 2**32).astype(np.uint32))
        return _writable(obs), {}

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advances every copy by one step, and resets those whose episode ended.

        Args:
          actions: elements of `action_space`.

        Returns:
          Observations to act on, rewards, terminated, truncated, and infos: of the copies whose
          episode ended "final_obs" and "final_info", of the others what the environment reports,
          each with a mask beside it, as Gymnasium's own vector environments have them.

        Raises:
          ResetNeeded: it was not reset.
          ValueError: the actions do not have the shape of `action_space`.
        """
        if self._state is None:
            raise ResetNeeded("call reset before step")
        actions = np.asarray(actions, self._action.dtype)
        if actions.shape != self.action_space.shape:
            raise ValueError(
                f"the actions have the shape {actions.shape}, which must be"
                f" {self.action_space.shape}"
            )
        self._state, seen = self._step(self._state, actions)
        obs, next_obs, reward, terminated, truncated, info = _writable(seen)
        done = terminated | truncated
        infos = _masked(info, ~done)
        if np.any(done):
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(done):
                final[i] = jax.tree.map(lambda x, i=i: x[i], next_obs)
            infos |= {"final_obs": final, "_final_obs": done}
            infos |= {"final_info": _masked(info, done), "_final_info": done.copy()}
        return obs, reward, terminated, truncated, infos


class GymnasiumEnv(gymnasium.Env):
    """A single environment, as `envs.to_gymnasium_single` makes it.

    Args:
      env: a single environment.
    """

    metadata = {"render_modes": []}

    def __init__(self, env: Environment):
        self._envs = GymnasiumVectorEnv(env)
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Starts an episode.

        Raises:
          ValueError: there is an option; none are known.
        """
        super().reset(seed=seed)
        own = int(self.np_random.integers(2**32)) if seed is None else seed
        obs, _ = self._envs.reset(seed=own, options=options)
        return _only(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advances by one step.

        Raises:
          ResetNeeded: it was not reset.
          ValueError: the action does not have the shape of `action_space`.
        """
        obs, reward, terminated, truncated, infos = self._envs.step(np.asarray(action)[None])
        final = infos.pop("final_obs", None)
        obs = _only(obs) if final is None else final[0]
        infos = infos.get("final_info", infos)
        return obs, float(reward[0]), bool(terminated[0]), bool(truncated[0]), _unmasked(infos)


def _only(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _writable(tree: Any) -> Any:
    """Arrays of numpy that are their reader's own."""
    return jax.tree.map(np.array, jax.device_get(tree))


def _masked(info: dict[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """What some of the copies report, each entry with the mask of whose it is; {} of none."""
    infos = {}
    if np.any(mask):
        for name, x in info.items():
            nested = isinstance(x, dict)
            infos[name] = _masked(x, mask) if nested else _zeroed(x, mask)
            infos[f"_{name}"] = mask.copy()
    return infos


def _zeroed(x: Any, mask: np.ndarray) -> Any:
    """Zeros for the other copies."""
    if np.all(mask):
        return x

    def zero(leaf):
        flags = mask.reshape(mask.shape + (1,) * (leaf.ndim - 1))
        return np.where(flags, leaf, np.zeros_like(leaf))

    return jax.tree.map(zero, x)


def _unmasked(infos: dict[str, Any]) -> dict[str, Any]:
    """The only copy's info."""
    own = {name: x for name, x in infos.items() if f"_{name}" in infos}
    return {name: _unmasked(x) if isinstance(x, dict) else _only(x) for name, x in own.items()}

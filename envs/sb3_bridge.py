"""Environments of this package as Stable-Baselines3's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from .base import Environment
from .gymnasium_bridge import GymnasiumVectorEnv


class Sb3VecEnv(VecEnv):
    """Copies of an environment, as `envs.to_stable_baselines3` makes them.

    Args:
      env: a single environment.
      num_envs: how many copies.
    """

    def __init__(self, env: Environment, num_envs: int = 1):
        self.envs = GymnasiumVectorEnv(env, num_envs)
        self._actions = None
        spaces = self.envs.single_observation_space, self.envs.single_action_space
        super().__init__(num_envs, *spaces)

    def reset(self) -> Any:
        """Starts an episode in every copy, with the seeds that `seed` was given."""
        known = None not in self._seeds
        obs, _ = self.envs.reset(seed=self._seeds if known else None)
        self._reset_seeds()
        self._reset_options()
        return obs

    def step_async(self, actions: np.ndarray) -> None:
        """Takes the actions of the next step."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advances every copy by one step, and resets those whose episode ended."""
        obs, reward, terminated, truncated, found = self.envs.step(self._actions)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i]["terminal_observation"] = found["final_obs"][i]
            infos[i]["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
        return obs, reward, done, infos

    def close(self) -> None:
        """Does nothing: there is nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the environment, once for each copy."""
        return [getattr(self.envs, attr_name)] * len(self._of(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuses: copies share one compiled program."""
        raise NotImplementedError(f"set_attr({attr_name!r}): copies share one compiled program")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> Any:
        """Refuses: copies are no objects of their own."""
        raise NotImplementedError(f"env_method({method_name!r}): copies are no objects")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False for each copy: it has no wrappers."""
        return [False] * len(self._of(indices))

    def _of(self, indices: Any) -> Sequence[int]:
        return list(self._get_indices(indices))

"""An environment of this package as one of other libraries, which are imported when one is made."""

import importlib
from typing import Any

from .base import Environment

_EXTRAS = {".gymnasium_bridge": "gymnasium", ".sb3_bridge": "sb3"}


def to_gymnasium(env: Environment, num_envs: int = 1) -> Any:
    """Makes a `gymnasium.vector.VectorEnv` of copies of an environment, stepped by one compiled
    program.

    Where an episode ends, the copy is reset in the same step: metadata["autoreset_mode"] says
    SAME_STEP, and infos has "final_obs", the true last observation, and "final_info". Terminated
    and truncated are separate. `reset(seed=s)` seeds copy i with s + i; a list has a seed for each.

    Args:
      env: a single environment.
      num_envs: how many copies.

    Raises:
      ModuleNotFoundError: Gymnasium is not installed.
      ContractError: env is no environment.
      ValueError: num_envs is below 1.
    """
    return _bridge(".gymnasium_bridge").GymnasiumVectorEnv(env, num_envs)


def to_gymnasium_single(env: Environment) -> Any:
    """Makes a `gymnasium.Env` of an environment, which does not reset itself.

    An episode after `reset(seed=s)` is that of copy i of `to_gymnasium` after `reset(seed=s - i)`.

    Args:
      env: a single environment.

    Raises:
      ModuleNotFoundError: Gymnasium is not installed.
      ContractError: env is no environment.
    """
    return _bridge(".gymnasium_bridge").GymnasiumEnv(env)


def to_stable_baselines3(env: Environment, num_envs: int = 1) -> Any:
    """Makes a `stable_baselines3.common.vec_env.VecEnv` of copies of an environment, stepped by one
    compiled program.

    Where an episode ends, infos has "terminal_observation", and "TimeLimit.truncated" says whether
    it was only cut.

    Args:
      env: a single environment.
      num_envs: how many copies.

    Raises:
      ModuleNotFoundError: Stable-Baselines3 is not installed.
      ContractError: env is no environment.
      ValueError: num_envs is below 1.
    """
    return _bridge(".sb3_bridge").Sb3VecEnv(env, num_envs)


def _bridge(module: str) -> Any:
    try:
        return importlib.import_module(module, __package__)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this bridge needs the package {error.name!r}: pip install"
            f" 'onejit[{_EXTRAS[module]}]'",
            name=error.name,
        ) from error

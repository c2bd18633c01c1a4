"""`check(env)`: what an environment of one's own does wrong, in plain words."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .base import Environment
from .contract import (
    Contracted,
    broken,
    require_environment,
    reset_problems,
    step_problems,
    untraceable,
)
from .spaces import Box


def check(env: Environment, num_steps: int = 20, seed: int = 0) -> None:
    """Raises with everything that breaks the contract; returns nothing if all is well.

    Looks at the spaces, at whether reset and step can be traced, at shapes, dtypes and weak types
    that change between reset and step, and at `num_steps` steps with the actions of a random
    policy, allowed ones where there is an action mask: do observations stay in their spaces, is
    everything finite. Observations with three axes are pictures, height × width × channels.

    Args:
      env: the environment, a single one.
      num_steps: random steps to take, over as many episodes as they need.
      seed: of the random actions and of the environment.

    Raises:
      ContractError: a ValueError; the contract is broken, and the message lists each problem in a
        line of its own, or env is no environment, and the message says what to write instead.
    """
    require_environment(env)
    problems = _check_spaces(env) or _check_types(env) or _check_run(env, num_steps, seed)
    if problems:
        raise broken(env, problems)


def _check_spaces(env: Environment) -> list[str]:
    problems = []
    space = env.action_space
    if not all(hasattr(space, name) for name in ("shape", "dtype", "sample", "contains")):
        problems.append(
            "action_space must be a Box, a Discrete, a MultiDiscrete, or have shape, dtype, sample"
            f" and contains as these do, got {type(space).__name__}"
        )
    elif isinstance(space, Box) and not jnp.issubdtype(space.dtype, np.floating):
        problems.append(
            f"action_space must be a Box of floats, got {space.dtype}; choices are a Discrete(n)"
        )
    elif isinstance(space, Box) and not space.bounded:
        problems.append(
            "action_space must have finite bounds, policies act in [-1, 1] and are mapped to them"
        )
    elif isinstance(space, Box) and len(space.shape) != 1:
        problems.append(f"action_space must have one axis, got the shape {space.shape}")
    spaces = env.observation_space
    if isinstance(spaces, dict) and "state" not in spaces:
        problems.append(
            'a dict observation_space must have the entry "state", what the policy sees'
        )
    if isinstance(spaces, dict) and "action_mask" in spaces:
        mask, size = spaces["action_mask"], getattr(env.action_space, "n", None)
        if mask.shape != (size,) or mask.dtype != np.dtype(bool):
            problems.append(
                'observation_space["action_mask"] must be a Box of bool of the shape (n,), beside'
                f" Discrete(n) actions, got {mask.dtype}{list(mask.shape)} beside"
                f" {env.action_space}"
            )
    for name, space in spaces.items() if isinstance(spaces, dict) else [(None, spaces)]:
        if not isinstance(space, Box):
            problems.append(
                f"observation_space must be a Box or a dict of Boxes, got {type(space).__name__}"
            )
        elif len(space.shape) == 3:
            label = "observation_space" if name is None else f"observation_space[{name!r}]"
            problems += picture_problems(label, space.shape)
    return problems


def picture_problems(label: str, shape: tuple[int, int, int]) -> list[str]:
    """What is wrong with observations of three axes as pictures, height × width × channels; label
    names them.
    """
    first, second, third = shape
    if first <= 4 and min(second, third) > 2 * first:
        return [
            f"{label} has the shape {shape}, which looks like channels × height × width; pictures"
            " are height × width × channels: jnp.moveaxis(picture, 0, -1)"
        ]
    if min(first, second) < 3:
        return [
            f"{label} has the shape {shape}: a picture, height × width × channels, has at least 3 ×"
            " 3 pixels; smaller ones are vectors: envs.Flattened(env)"
        ]
    return []


def _check_types(env: Environment) -> list[str]:
    key = jax.random.key(0)
    try:
        result = jax.eval_shape(env.reset, key)
    except Exception as error:  # whatever the user's code raises is the finding
        return [untraceable("reset", error)]
    problems = reset_problems(env, result)
    if not (isinstance(result, tuple) and len(result) == 2):
        return problems
    state, obs = result
    action = jax.ShapeDtypeStruct(env.action_space.shape, env.action_space.dtype)
    try:
        result = jax.eval_shape(env.step, key, state, action)
    except Exception as error:
        return [*problems, untraceable("step", error)]
    return step_problems(state, obs, result) + problems


def _check_run(env: Environment, num_steps: int, seed: int) -> list[str]:
    contracted = Contracted(env)
    reset, step = jax.jit(contracted.reset), jax.jit(contracted.step)
    key = jax.random.key(seed)
    state = None
    problems = {}
    done = True
    for t in range(num_steps):
        key, reset_key, action_key, step_key = jax.random.split(key, 4)
        if done:
            state, obs = reset(reset_key)
            _note(problems, env.observation_space, obs, "reset")
        if isinstance(obs, dict) and not np.any(obs.get("action_mask", True)):
            problems.setdefault(
                "mask", f"the observation['action_mask'] allows nothing before step {t}"
            )
        state, result = step(step_key, state, _random_action(env.action_space, obs, action_key))
        obs = result.obs
        _note(problems, env.observation_space, obs, f"step {t}")
        if not np.isfinite(result.reward):
            problems.setdefault("reward", f"the reward is {result.reward} at step {t}")
        done = bool(result.terminated | result.truncated)
    return list(problems.values())


def _random_action(space: Any, obs: Any, key: chex.PRNGKey) -> jax.Array:
    """As policies give it to the environment, and at the beginning of training too."""
    if isinstance(obs, dict) and "action_mask" in obs:
        logits = jnp.where(obs["action_mask"], 0.0, -jnp.inf)
        return jax.random.categorical(key, logits).astype(jnp.int32)
    if isinstance(space, Box):
        return space.from_unit(jax.random.uniform(key, space.shape, minval=-1.0, maxval=1.0))
    return space.sample(key)


def _note(problems: dict[str, str], space: Any, obs: Any, when: str) -> None:
    """Records the first time that an observation is not finite or not in its space."""
    entries = space.items() if isinstance(space, dict) else [("", space)]
    for name, box in entries:
        x = np.asarray(obs[name] if name else obs)
        label = f"the observation{f'[{name!r}]' if name else ''}"
        if not np.all(np.isfinite(x)):
            problems.setdefault(f"{name} finite", f"{label} is not finite at {when}: {x}")
        elif not box.contains(x):
            problems.setdefault(f"{name} space", f"{label} is outside of its space at {when}: {x}")

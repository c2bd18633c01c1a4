"""`check(env)`: what an environment of one's own does wrong, in plain words."""

from typing import Any

import jax
import numpy as np

from .base import Environment, Step
from .spaces import Box, Discrete


def check(env: Environment, num_steps: int = 20, seed: int = 0) -> None:
    """Raises with everything that breaks the contract; returns nothing if all is well.

    Looks at the spaces, at whether reset and step can be traced, at shapes, dtypes and weak types that change between
    reset and step, and at `num_steps` random steps: do they stay in the spaces, are they finite.

    Args:
      env: the environment, a single one.
      num_steps: random steps to take, over as many episodes as they need.
      seed: of the random actions and of the environment.

    Raises:
      ValueError: the contract is broken; the message lists each problem in a line of its own.
    """
    problems = _check_interface(env) or _check_types(env) or _check_run(env, num_steps, seed)
    if problems:
        name = type(env).__name__
        raise ValueError(f"{name} breaks the environment contract:\n" + "\n".join(f"- {each}" for each in problems))


def _check_interface(env: Any) -> list[str]:
    missing = [each for each in ("observation_space", "action_space", "reset", "step") if not hasattr(env, each)]
    if missing:
        return [f"it has no {each}" for each in missing]
    problems = []
    if not isinstance(env.action_space, Box | Discrete):
        problems.append(f"action_space must be a Box or a Discrete, got {type(env.action_space).__name__}")
    elif isinstance(env.action_space, Box) and not env.action_space.bounded:
        problems.append("action_space must have finite bounds, policies act in [-1, 1] and are mapped to them")
    elif isinstance(env.action_space, Box) and len(env.action_space.shape) != 1:
        problems.append(f"action_space must have one axis, got the shape {env.action_space.shape}")
    spaces = env.observation_space
    if isinstance(spaces, dict):
        if "state" not in spaces:
            problems.append('a dict observation_space must have the entry "state", what the policy sees')
        spaces = list(spaces.values())
    else:
        spaces = [spaces]
    problems += [
        f"observation_space must be a Box or a dict of Boxes, got {type(space).__name__}"
        for space in spaces
        if not isinstance(space, Box)
    ]
    return problems


def _check_types(env: Environment) -> list[str]:
    key = jax.random.key(0)
    try:
        result = jax.eval_shape(env.reset, key)
    except Exception as error:  # whatever the user's code raises is the finding
        return [f"reset(key) cannot be traced by jax: {_first_line(error)}"]
    if not (isinstance(result, tuple) and len(result) == 2):
        return ["reset must return (state, observation)"]
    state, obs = result
    action = jax.ShapeDtypeStruct(env.action_space.shape, env.action_space.dtype)
    try:
        result = jax.eval_shape(env.step, key, state, action)
    except Exception as error:
        return [f"step(key, state, action) cannot be traced by jax: {_first_line(error)}"]
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Step)):
        return ["step must return (state, Step(obs, reward, terminated, truncated, info))"]
    next_state, step = result
    problems = _differences("the state", state, next_state) + _differences("the observation", obs, step.obs)
    problems += _space_differences(env.observation_space, obs)
    for name, dtype in (("reward", np.float32), ("terminated", np.bool_), ("truncated", np.bool_)):
        leaf = getattr(step, name)
        if (getattr(leaf, "shape", None), getattr(leaf, "dtype", None)) != ((), dtype):
            problems.append(f"{name} must be a {np.dtype(dtype)} scalar, got {_describe(leaf)}")
    return problems


def _check_run(env: Environment, num_steps: int, seed: int) -> list[str]:
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    key = jax.random.key(seed)
    state, problems, done = None, {}, True
    for t in range(num_steps):
        key, reset_key, action_key, step_key = jax.random.split(key, 4)
        if done:
            state, obs = reset(reset_key)
            _note(problems, env.observation_space, obs, "reset")
        state, result = step(step_key, state, env.action_space.sample(action_key))
        _note(problems, env.observation_space, result.obs, f"step {t}")
        if not np.isfinite(result.reward):
            problems.setdefault("reward", f"the reward is {result.reward} at step {t}")
        done = bool(result.terminated | result.truncated)
    return list(problems.values())


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


def _describe(leaf: Any) -> str:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return str(leaf)
    return f"{leaf.dtype}{list(leaf.shape)}{' (weak type)' if leaf.weak_type else ''}"


def _differences(what: str, before: Any, after: Any) -> list[str]:
    if jax.tree.structure(before) != jax.tree.structure(after):
        return [
            f"{what} changes its structure between reset and step: "
            f"{jax.tree.structure(before)} against {jax.tree.structure(after)}"
        ]
    problems = []
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype, old.weak_type) != (new.shape, new.dtype, new.weak_type):
            advice = "; jnp.asarray(x, dtype) makes a type strong" if old.weak_type or new.weak_type else ""
            problems.append(
                f"{what}{jax.tree_util.keystr(path)} is {_describe(old)} after reset "
                f"and {_describe(new)} after step{advice}"
            )
    return problems


def _space_differences(space: Any, obs: Any) -> list[str]:
    if jax.tree.structure(space) != jax.tree.structure(obs):
        return [f"the observation {jax.tree.structure(obs)} is not of the form of observation_space"]
    if isinstance(space, dict):
        pairs = [(f"[{name!r}]", space[name], obs[name]) for name in space]
    else:
        pairs = [("", space, obs)]
    return [
        f"the observation{name} is {_describe(x)}, observation_space says {box.dtype}{list(box.shape)}"
        for name, box, x in pairs
        if (tuple(x.shape), x.dtype) != (box.shape, box.dtype)
    ]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"

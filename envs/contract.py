"""What an environment has to keep to, said in plain words where it does not; and the one boundary
that casts types.

`Contracted(env)` stands between an environment and whoever steps it: `VectorEnv` and evaluation go
through it. It looks at what is traced anyway, so it costs nothing when the program runs.
"""

import sys
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .base import Environment, EnvState, Observation, Step, strong
from .spaces import single
from .wrapper import Wrapper

# (module, class, what it is and what to write instead) of what is easily taken for an environment
# of this package. A module that was never imported has no instances.
_OWN_GYMNASIUM = (
    "a Gymnasium environment, which jax cannot trace: write envs.make(name) with one of"
    ' envs.env_ids(), such as "gymnax/CartPole-v1" or "mjx/HalfCheetah-v5"'
)
_FOREIGN = (
    (
        f"{__package__}.vector",
        "VectorEnv",
        "a VectorEnv: write the single environment, which is its .env",
    ),
    ("gymnasium", "Env", _OWN_GYMNASIUM),
    ("gymnasium.vector", "VectorEnv", _OWN_GYMNASIUM),
    ("gym", "Env", _OWN_GYMNASIUM),
    (
        "brax.envs",
        "Env",
        (
            'a raw Brax environment: write envs.make("brax/halfcheetah"), or for one of your own '
            "onejit.envs.suites.brax.Brax(env, episode_length=1000)"
        ),
    ),
    (
        "gymnax.environments.environment",
        "Environment",
        (
            "a raw gymnax environment: write envs.from_gymnax(env, params), or"
            ' envs.make("gymnax/CartPole-v1")'
        ),
    ),
    (
        "mujoco_playground",
        "MjxEnv",
        (
            'a raw Playground environment: write envs.make("playground/CheetahRun"), or for one of'
            " your own onejit.envs.suites.playground.Playground(env, episode_length=1000)"
        ),
    ),
)

_ADVICE = "\nenvs.check(env) tells more"


class ContractError(ValueError):
    """An environment breaks the contract, or is none; the message names it and says how."""


def broken(env: Any, problems: list[str], advice: str = "") -> ContractError:
    """The error that lists problems, a line each."""
    lines = [f"{_name(env)} breaks the environment contract:", *(f"- {each}" for each in problems)]
    return ContractError("\n".join(lines) + advice)


def require_environment(env: Any) -> None:
    """Refuses what is no environment: a name, a class, an environment of another library.

    Raises:
      ContractError: says what it is, and what to write instead.
    """
    if isinstance(env, str):
        raise ContractError(f"env={env!r} is a name: write envs.make({env!r})")
    if isinstance(env, type):
        raise ContractError(
            f"env={env.__name__} is a class: write an instance of it, {env.__name__}()"
        )
    if isinstance(env, tuple) and env and _foreign(env[0]):
        raise ContractError(f"env is a tuple, and its first element is {_foreign(env[0])}")
    if _foreign(env):
        raise ContractError(f"env={type(env).__name__} is {_foreign(env)}")
    missing = [
        each
        for each in ("observation_space", "action_space", "reset", "step")
        if not hasattr(env, each)
    ]
    if missing:
        raise broken(env, [f"it has no {each}" for each in missing])


class Contracted(Wrapper):
    """An environment whose reset and step keep the contract, or say how they break it.

    Types are strong. What is in double precision because of JAX_ENABLE_X64 is cast: rewards to
    float32, observations and actions to the dtypes of their spaces, and the state after a step to
    the dtypes that it had before.

    Args:
      env: a single environment.

    Raises:
      ContractError: it is no environment.
    """

    def __init__(self, env: Environment):
        require_environment(env)
        super().__init__(env)

    def reset(self, key: chex.PRNGKey) -> tuple[EnvState, Observation]:
        """Starts an episode.

        Raises:
          ContractError: the environment cannot be traced, or returns what the contract does not
            allow.
        """
        state, obs = self._kept("reset", (key,), lambda result: reset_problems(self.env, result))
        return state, _cast(obs, self.observation_space)

    def step(self, key: chex.PRNGKey, state: EnvState, action: chex.Array) -> tuple[EnvState, Step]:
        """Advances by one step.

        Raises:
          ValueError: the action does not have the shape of `action_space`.
          ContractError: the environment cannot be traced, or returns what the contract does not
            allow.
        """
        action = jnp.asarray(action)
        space = self.action_space
        if action.shape != space.shape:
            raise ValueError(
                f"{_name(self.env)}.step: the action is {_describe(action)}, action_space says"
                f" {_describe(space)}"
            )
        if single(action.dtype) == space.dtype:
            action = action.astype(space.dtype)
        before = types_of(state)
        following, step = self._kept(
            "step",
            (key, state, action),
            lambda result: step_problems(before, self.observation_space, result),
        )
        obs = _cast(step.obs, self.observation_space)
        return _cast(following, before), step._replace(
            obs=obs, reward=step.reward.astype(jnp.float32)
        )

    def _kept(self, method: str, arguments: tuple, problems_of: Callable[[Any], list[str]]) -> Any:
        """What a method of the environment returns, with strong types, if it is as it should be."""
        try:
            result = getattr(self.env, method)(*arguments)
            types_of(result)  # refuses, in jax's words, what is no array
            result = strong(result)
        except (ContractError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:  # whatever the environment's code raises is the finding
            raise broken(self.env, [untraceable(method, error)], _ADVICE) from error
        problems = problems_of(result)
        if problems:
            raise broken(self.env, problems, _ADVICE)
        return result


def reset_problems(env: Environment, result: Any) -> list[str]:
    """What is wrong with the types of what reset returned: a pytree of arrays, or of
    `jax.ShapeDtypeStruct`s.
    """
    if not (isinstance(result, tuple) and len(result) == 2):
        return ["reset must return (state, observation)"]
    space = env.observation_space
    obs = result[1]
    if jax.tree.structure(space) != jax.tree.structure(obs):
        return [
            f"the observation {jax.tree.structure(obs)} is not of the form of observation_space"
        ]
    return [
        f"the observation{jax.tree_util.keystr(path)} is {_describe(x)}, observation_space says"
        f" {_describe(box)}"
        for (path, x), box in zip(
            jax.tree.leaves_with_path(obs), jax.tree.leaves(space), strict=True
        )
        if _type(x)[:2] != _type(box)[:2]
    ]


def step_problems(state: Any, obs: Any, result: Any) -> list[str]:
    """What is wrong with the types of what step returned, after a state and an observation (or its
    space).
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Step)):
        return ["step must return (state, Step(obs, reward, terminated, truncated, info))"]
    following, step = result
    problems = _differences("the state", state, following) + _differences(
        "the observation", obs, step.obs
    )
    for name, dtype in (("reward", np.float32), ("terminated", np.bool_), ("truncated", np.bool_)):
        leaf = getattr(step, name)
        if _type(leaf)[:2] != ((), dtype):
            problems.append(f"{name} must be a {np.dtype(dtype)} scalar, got {_describe(leaf)}")
    return problems


def untraceable(method: str, error: Exception) -> str:
    """The finding that jax cannot trace reset or step."""
    call = {"reset": "reset(key)", "step": "step(key, state, action)"}[method]
    return (
        f"{call} cannot be traced by jax: {type(error).__name__}:"
        f" {next(iter(str(error).strip().splitlines()), '')}"
    )


def types_of(tree: Any) -> Any:
    """Shapes and dtypes of a pytree of arrays."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jax.typeof(x).dtype), tree)


def _foreign(env: Any) -> str:
    """What it is and what to write instead, if it is another library's or a VectorEnv, else
    nothing.
    """
    for module, name, words in _FOREIGN:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(env, kind):
            return words
    return ""


def _name(env: Any) -> str:
    """The class, and in brackets that of the environment inside a wrapper or an adapter."""
    inner = getattr(env, "env" if isinstance(env, Wrapper) else "_env", None)
    return type(env).__name__ + (f"({_name(inner)})" if inner is not None else "")


def _type(leaf: Any) -> tuple[Any, Any, bool]:
    """Shape, dtype without JAX_ENABLE_X64, and whether it is weak, of an array or a space; None
    where there is none.
    """
    shape = getattr(leaf, "shape", None)
    dtype = getattr(leaf, "dtype", None)
    return None if shape is None else tuple(shape), single(dtype), getattr(leaf, "weak_type", False)


def _describe(leaf: Any) -> str:
    shape, dtype, weak = _type(leaf)
    return str(leaf) if shape is None else f"{dtype}{list(shape)}{' (weak type)' if weak else ''}"


def _differences(what: str, before: Any, after: Any) -> list[str]:
    if jax.tree.structure(before) != jax.tree.structure(after):
        return [
            f"{what} changes its structure between reset and step: "
            f"{jax.tree.structure(before)} against {jax.tree.structure(after)}"
        ]
    problems = []
    for (path, old), new in zip(
        jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        if _type(old) != _type(new):
            advice = (
                "; jnp.asarray(x, dtype) makes a type strong"
                if _type(old)[2] or _type(new)[2]
                else ""
            )
            problems.append(
                f"{what}{jax.tree_util.keystr(path)} is {_describe(old)} after reset "
                f"and {_describe(new)} after step{advice}"
            )
    return problems


def _cast(tree: Any, like: Any) -> Any:
    """Gives the arrays the dtypes of others, or of spaces."""
    return jax.tree.map(lambda x, y: x if x.dtype == y.dtype else x.astype(y.dtype), tree, like)

"""Brax's robots (brax >= 0.14), without Brax's own episode and auto-reset wrappers."""

import contextlib
import inspect
import io
import warnings
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

# mujoco-mjx prints that an optional package is missing.
with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import brax.envs

from ..base import Step, strong
from ..mujoco.fixes import bodies_once
from ..mujoco.third_party import own_devices, third_party
from ..options import checked, unfit
from ..spaces import Box

BACKENDS = ("spring", "generalized", "positional", "mjx")
# Do not work upstream, with any backend.
_REFUSED = {
    "swimmer": "Brax 0.14 calls jax.numpy.clip(a_min=...) in its fluid model, which jax has removed"
}
# What the options of the solver are called in its model.
_SOLVER = {"solver_iterations": "opt.iterations", "ls_iterations": "opt.ls_iterations"}
# Have no physics engine, hence no backend.
_WITHOUT_BACKEND = ("fast",)


def names() -> list[str]:
    """The names of the environments of this suite, those that are refused with a reason
    included.
    """
    return sorted(brax.envs._envs)


def make(
    name: str,
    *,
    backend: str = "spring",
    episode_length: int = 1000,
    solver_iterations: int | None = None,
    ls_iterations: int | None = None,
    **options,
) -> "Brax":
    """Makes a Brax environment.

    Args:
      name: Brax's own name, such as "halfcheetah".
      backend: physics engine: "spring" (the default and the fastest on a CPU), "generalized"
        (Brax's own default), "positional" or "mjx". Returns are not comparable across backends.
      episode_length: steps after which an episode is truncated.
      solver_iterations: iterations of MuJoCo's constraint solver, for backend="mjx".
      ls_iterations: iterations of its line search, for backend="mjx". The models leave it at 50 for
        halfcheetah, walker2d and hopper; 8 gives the same rewards at several times the speed on a
        CPU.
      **options: passed to Brax's environment, such as reset_noise_scale=0.1.

    Raises:
      ValueError: the environment does not work upstream, an option is not one of its own, or has a
        value that is not allowed.
    """
    if name in _REFUSED:
        raise ValueError(f"brax/{name} is not offered: {_REFUSED[name]}")
    given = {"backend": backend, "episode_length": episode_length, **options}
    if solver_iterations is not None:
        given["solver_iterations"] = solver_iterations
    if ls_iterations is not None:
        given["ls_iterations"] = ls_iterations
    counts = dict.fromkeys(("episode_length", *_SOLVER), 1)
    given = checked(
        f"brax/{name}",
        given,
        {"backend": "spring", **counts, **_own_defaults(name)},
        low=counts | {"n_frames": 1, "reset_noise_scale": 0.0},
        choices={"backend": BACKENDS},
    )
    solver = {field: given[option] for option, field in _SOLVER.items() if option in given}
    if solver and (backend != "mjx" or name in _WITHOUT_BACKEND):
        engine = "no physics engine" if name in _WITHOUT_BACKEND else f"backend={backend!r}"
        raise ValueError(
            f"solver_iterations and ls_iterations need backend='mjx', brax/{name} has {engine}"
        )
    own = {option: given[option] for option in options}
    if name not in _WITHOUT_BACKEND:
        own["backend"] = backend
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        # That Brax's environments are in maintenance, at every construction.
        warnings.simplefilter("ignore")
        try:
            with own_devices():
                env = brax.envs.get_environment(name, **own)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise unfit(f"brax/{name}", given, error) from error
    if solver:
        env.sys = env.sys.tree_replace(solver)
    return Brax(env, given["episode_length"], given)


def _own_defaults(name: str) -> dict[str, Any]:
    """The options of Brax's environment itself, with their defaults."""
    parameters = inspect.signature(brax.envs._envs[name]).parameters.values()
    own = {
        each.name: each.default
        for each in parameters
        if each.kind is not inspect.Parameter.VAR_KEYWORD
    }
    if name not in _WITHOUT_BACKEND:
        own |= {"n_frames": 1, "debug": False}
    return own


class BraxState(NamedTuple):
    """Brax's own state and the steps taken in this episode."""

    state: Any
    time: chex.Array


class Brax:
    """A raw Brax environment behind the contract, with a time limit that is a truncation.

    Actions are in [−1, 1]; Brax scales them to the actuators.
    """

    def __init__(
        self, env: brax.envs.Env, episode_length: int, options: dict[str, Any] | None = None
    ):
        self._env = env
        self.options = options or {}  # what `make` was called with, defaults included
        self._episode_length = episode_length
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, obs = jax.eval_shape(self.reset, jax.random.key(0))
        self.observation_space = jax.tree.map(lambda x: Box(-np.inf, np.inf, x.shape), obs)
        self.action_space = Box(-1.0, 1.0, (env.action_size,))

    def reset(self, key: chex.PRNGKey):
        """Starts an episode."""
        with third_party(), bodies_once():
            state = self._env.reset(key)
        return strong((BraxState(state, jnp.int32(0)), state.obs))

    def step(self, key: chex.PRNGKey, state: BraxState, action: chex.Array):
        """Advances by one step; the key is not used, Brax's dynamics are deterministic."""
        # Brax's step writes into the dicts of the state that it is given: hand it a copy.
        previous = jax.tree.map(lambda x: x, state.state)
        with third_party(), bodies_once():
            following = self._env.step(previous, action)
        time = state.time + 1
        # Where nothing ends an episode, Brax has a Python number.
        terminated = jnp.asarray(following.done > 0)
        step = Step(
            obs=following.obs,
            reward=jnp.asarray(following.reward, jnp.float32),
            terminated=terminated,
            truncated=(time >= self._episode_length) & ~terminated,
            info=following.metrics,
        )
        return strong((BraxState(following, time), step))

    @property
    def step_seconds(self) -> float:
        """Seconds of simulated time in one step."""
        return float(self._env.dt)

    @property
    def mj_model(self) -> Any:
        """The `mujoco.MjModel` behind the environment, None where there is none; what draws it
        needs.
        """
        return getattr(getattr(self._env, "sys", None), "mj_model", None)

    def qpos(self, state: BraxState) -> chex.Array:
        """The generalised positions in a state, `[..., nq]`; what draws it needs."""
        return state.state.pipeline_state.q

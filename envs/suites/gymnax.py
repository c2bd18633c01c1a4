"""Environments of gymnax (>= 1.0): classic control, bsuite, MinAtar and the small ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from .. import classic_pictures
from ..base import Step, strong
from ..contract import ContractError
from ..lazy import imported_when_used
from ..mujoco.renderer import RenderError
from ..options import checked, unfit
from ..spaces import Box, Discrete

# Its drawings import them, and with them pandas and scipy.stats: a second and a half.
with imported_when_used("seaborn", "matplotlib", "matplotlib.colors", "matplotlib.pyplot"):
    import gymnax
    from gymnax.environments.environment import Environment

# Does not work upstream: it downloads its data set when it is made.
_REFUSED = {
    "MNISTBandit-bsuite": "it downloads the MNIST data set from the internet when it is made"
}
# Their observations leave the bounds that they declare.
_WRONG_BOUNDS = ("GaussianBandit-misc", "MemoryChain-bsuite", "MetaMaze-misc")
# What gymnax itself draws with the packages that it brings; for classic control it would need
# pygame.
_DRAWN = (
    *(
        f"{game}-MinAtar"
        for game in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
    ),
    *("Catch-bsuite", "Pong-misc", "PointRobot-misc", "MetaMaze-misc", "FourRooms-misc"),
)
_MAX_PICTURES = 1000  # all are in memory before the GIF is written, of a megabyte each


def names() -> list[str]:
    """The names of the environments of this suite; those that `make` refuses, with a reason, come
    last.
    """
    return [name for name in gymnax.registered_envs if name not in _REFUSED] + list(_REFUSED)


def make(name: str, **options) -> "Gymnax":
    """Makes a gymnax environment.

    Args:
      name: gymnax's own name, such as "CartPole-v1".
      **options: fields of gymnax's `EnvParams`, such as max_steps_in_episode=200.

    Raises:
      ValueError: the environment does not work upstream, an option is not one of its parameters, or
        its value is not of the kind of the default.
    """
    if name in _REFUSED:
        raise ValueError(f"gymnax/{name} is not offered: {_REFUSED[name]}")
    env, params = gymnax.make(name)
    limit = params.max_steps_in_episode  # one of gymnax's is a float
    defaults = {**vars(params), "max_steps_in_episode": int(limit)}
    options = checked(f"gymnax/{name}", options, defaults, low={"max_steps_in_episode": 1})
    if isinstance(limit, float) and "max_steps_in_episode" in options:
        options["max_steps_in_episode"] = float(options["max_steps_in_episode"])
    try:
        made = Gymnax(env, params.replace(**options))
        if options:  # some are divided by
            state, _ = jax.eval_shape(made.reset, jax.random.key(0))
            action = jax.ShapeDtypeStruct(made.action_space.shape, made.action_space.dtype)
            jax.eval_shape(made.step, jax.random.key(0), state, action)
    except (ArithmeticError, TypeError, ValueError) as error:
        raise unfit(f"gymnax/{name}", options, error) from error
    return made


class Gymnax:
    """A gymnax environment behind the contract, without gymnax's own auto-reset.

    Observations are float32; a discrete observation becomes one-hot. Rewards are float32. What
    gymnax's `is_truncated` says is a truncation: by default a time limit,
    `params.max_steps_in_episode`. Parameters without that field have no time limit.

    Args:
      env: a gymnax environment, of gymnax >= 1.0: its `step_env` says whether the task is over,
        without a time limit.
      params: its parameters, by default its `default_params`.

    Raises:
      ContractError: it is no gymnax environment.
      ValueError: a space is neither a gymnax Box nor a gymnax Discrete.
    """

    def __init__(self, env: Environment, params: Any = None):
        if not isinstance(env, Environment):
            given = env.__name__ if isinstance(env, type) else type(env).__name__
            raise ContractError(
                f"env={given}: must be a gymnax environment, an instance of gymnax's Environment"
            )
        self._env = env
        self._params = env.default_params if params is None else params
        # The field is asked for by the method of gymnax's own base class alone.
        self._has_time_limit = type(env).is_truncated is not Environment.is_truncated or hasattr(
            self._params, "max_steps_in_episode"
        )
        space = env.observation_space(self._params)
        self._num_observations = (
            int(space.n) if isinstance(space, gymnax.environments.spaces.Discrete) else None
        )
        if self._num_observations:
            self.observation_space = Box(0.0, 1.0, (self._num_observations,))
        elif env.name in _WRONG_BOUNDS:
            self.observation_space = Box(-np.inf, np.inf, tuple(space.shape))
        else:
            self.observation_space = _box(env, "observation", space)
        space = env.action_space(self._params)
        discrete = isinstance(space, gymnax.environments.spaces.Discrete)
        self.action_space = Discrete(int(space.n)) if discrete else _box(env, "action", space)

    def reset(self, key: chex.PRNGKey):
        """Starts an episode."""
        with jax.numpy_rank_promotion("allow"):
            obs, state = self._env.reset_env(key, self._params)
        return strong((state, self._observation(obs)))

    def step(self, key: chex.PRNGKey, state, action: chex.Array):
        """Advances by one step; the action is an element of `action_space`."""
        with jax.numpy_rank_promotion("allow"):
            obs, state, reward, terminated, info = self._env.step_env(
                key, state, action, self._params
            )
            truncated = self._has_time_limit and self._env.is_truncated(state, self._params)
        step = Step(
            obs=self._observation(obs),
            reward=jnp.asarray(reward, jnp.float32).reshape(()),
            terminated=jnp.asarray(terminated, bool).reshape(()),
            truncated=jnp.asarray(truncated, bool).reshape(()),
            info=info,
        )
        return strong((state, step))

    def render_gif(self, states: Sequence[Any], path: Path) -> None:
        """Draws an episode without a screen; all but classic control with gymnax's own pictures.

        Args:
          states: of the episode, as `reset` and `step` return them; the first 1,000 are drawn.
          path: the GIF to write.

        Raises:
          RenderError: there is no picture of this environment.
        """
        states = states[:_MAX_PICTURES]
        if self._env.name in classic_pictures.NAMES:
            classic_pictures.render_gif(self._env.name, self._params, states, path)
            return
        if self._env.name not in _DRAWN:
            raise RenderError(f"there is no picture of {self._env.name}")
        import matplotlib

        backend = matplotlib.get_backend()
        matplotlib.use("agg")
        try:
            from gymnax.visualize import Visualizer

            with jax.numpy_rank_promotion("allow"):
                Visualizer(self._env, self._params, list(states)).animate(str(path))
        finally:
            matplotlib.use(backend)

    def _observation(self, obs):
        if self._num_observations:
            return jax.nn.one_hot(obs, self._num_observations, dtype=jnp.float32)
        return jnp.asarray(obs, jnp.float32).reshape(self.observation_space.shape)


def _box(env, what, space):
    if not isinstance(space, gymnax.environments.spaces.Box):
        raise ValueError(
            f"{env.name}: the {what} space must be gymnax's Box or Discrete, got {space!r}"
        )
    return Box(np.asarray(space.low), np.asarray(space.high), tuple(space.shape))

"""What environments around another environment have in common."""

from typing import Any

import chex

from .base import Environment, EnvState, Observation, Step


class Wrapper:
    """An environment around another one, of which it passes everything through; a subclass changes
    a part.

    A subclass with a state of its own says in `inner_state` where in it that of the inner
    environment is, so that it can be drawn.

    Args:
      env: the inner environment.
    """

    def __init__(self, env: Environment):
        self.env = env
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def reset(self, key: chex.PRNGKey) -> tuple[EnvState, Observation]:
        """Starts an episode."""
        return self.env.reset(key)

    def step(self, key: chex.PRNGKey, state: EnvState, action: chex.Array) -> tuple[EnvState, Step]:
        """Advances by one step."""
        return self.env.step(key, state, action)

    def __getattr__(self, name: str) -> Any:
        if name == "env" or name.startswith("__"):  # not there yet, in a copy that is being made
            raise AttributeError(name)
        inner = getattr(self.env, name)
        if name == "qpos":
            return lambda state: inner(self.inner_state(state))
        if name == "render_gif":
            return lambda states, path: inner([self.inner_state(state) for state in states], path)
        return inner

    def inner_state(self, state: EnvState) -> EnvState:
        """The inner environment's state in that of this one."""
        return state

"""The contract of an environment: a single one, functional, that never resets by itself."""

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import chex
import jax

EnvState = Any
Observation = Any
Tree = TypeVar("Tree")


class Step(NamedTuple):
    """What one step of one environment returns.

    Attributes:
      obs: the true successor, also where the episode ended. An array, or a dict with "state" and
        perhaps "privileged_state", as `observation_space` says.
      reward: float32 scalar.
      terminated: bool scalar; the task is over and nothing follows: no bootstrap.
      truncated: bool scalar; a time limit cut the episode: bootstrap from obs. May be set together
        with terminated, which then decides.
      info: dict of arrays for whoever is interested; no algorithm reads it.
    """

    obs: Observation
    reward: chex.Array
    terminated: chex.Array
    truncated: chex.Array
    info: dict[str, chex.Array]


@runtime_checkable
class Environment(Protocol):
    """A single environment. `VectorEnv` makes many of it, and resets them.

    `reset` and `step` are pure and traceable. The state is any pytree that keeps its structure,
    shapes and dtypes; the key is a typed key (`jax.random.key`), used up by the call. `envs.check`
    tells what an own one does wrong.
    """

    # Space, said so that a class with a space of one kind has it too.
    observation_space: Any
    action_space: Any

    def reset(self, key: chex.PRNGKey) -> tuple[EnvState, Observation]:
        """Starts an episode."""
        ...

    def step(self, key: chex.PRNGKey, state: EnvState, action: chex.Array) -> tuple[EnvState, Step]:
        """Advances by one step; the action is an element of `action_space`."""
        ...


def strong(tree: Tree) -> Tree:
    """Gives every leaf a strong type, so that a state fed back into a compiled step does not
    compile it again.
    """

    def convert(x):
        x = jax.numpy.asarray(x)
        return (
            x
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended)
            else jax.lax.convert_element_type(x, x.dtype)
        )

    return jax.tree.map(convert, tree)

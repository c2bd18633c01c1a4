"""Networks that remember: one recurrent cell between an encoder and a readout, stepped in acting
and unrolled in updates.

What networks remember travels as a dict by their names, "policy", "value", "torso", "actor" or
"critic", of those that do; leaves `[N, ...]` for N environments, and `[N, C, ...]` for an ensemble
of C critics. `Recurrent` is the form that own networks may have too: called with a `Sequence` a
network goes through it, called with observations alone it takes each for the first of an episode,
and `step` takes one and what was remembered.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from .collect import where
from .fields import ConfigError
from .initialisers import KERNELS, orthogonal

CELLS = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}
MEMORIES = ("none", *CELLS)


class Sequence(NamedTuple):
    """What a network that remembers sees in an update: T steps of B environments.

    Attributes:
      obs: leaves `[T, B, ...]`.
      start: bool `[T, B]`, whether the step before it ended an episode: then nothing is remembered.
      memory: before the first step, or before `past`, by the name of the network, leaves `[B,
        ...]`.
      past: (obs, start) of the steps before, that only bring the memory up to date: no gradient
        goes through them (the burn-in of R2D2, Kapturowski et al. 2019, section 3); or None.
      next_obs: if given, leaves `[T, B, ...]`: the output is for these, each as it is seen right
        after obs, also where the episode ended with it; or None.
    """

    obs: Any
    start: chex.Array
    memory: Any
    past: Any = None
    next_obs: Any = None


def begins(done: chex.Array) -> chex.Array:
    """`start` of a `Sequence` from which steps ended an episode, both bool `[T, ...]`; its memory
    before the first step is taken as it is.
    """
    return jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])


class Recurrent(nn.Module):
    """A network that remembers.

    Attributes:
      name_in_memory: the network's own name in what is remembered.
      cell: a flax cell, (carry, x `[..., d]`) -> (carry, `[..., features]`), which says by its
        `initialize_carry` what an episode begins with.
      encoder: a module, observations to what the cell is given, `[..., d]`.
      readout: a module, (what the cell puts out, further inputs) -> the network's output.
    """

    name_in_memory: str
    cell: nn.RNNCellBase
    encoder: nn.Module
    readout: nn.Module

    @nn.compact
    def __call__(self, obs: Any, *inputs: Any) -> Any:
        """The output for a `Sequence`, `[T, B, ...]`, or for first observations, `[..., ...]`."""
        if not isinstance(obs, Sequence):
            x = self._encode(obs)
            carry = self._initial(x.shape[:-1])
            return self.readout(self.cell(carry, x)[1], *inputs)
        carry = obs.memory[self.name_in_memory]
        if obs.past:
            carry, _ = self._unroll(carry, *obs.past)
            carry = jax.lax.stop_gradient(carry)
        _, (carries, features) = self._unroll(carry, obs.obs, obs.start)
        if obs.next_obs is not None:
            features = self.cell(carries, self._encode(obs.next_obs))[1]
        return self.readout(features, *inputs)

    def step(self, obs: Any, carry: Any, *inputs: Any) -> tuple[Any, Any]:
        """The output for one observation of each environment, and what is remembered after it."""
        carry, features = self.cell(carry, self._encode(obs))
        return self.readout(features, *inputs), carry

    @nn.nowrap
    def initial_memory(self, num_envs: int) -> Any:
        """What is remembered at the start of an episode, leaves `[num_envs, ...]`."""
        return self._initial((num_envs,))

    def _encode(self, obs):
        return self.encoder(obs).astype(jnp.float32)

    @nn.nowrap
    def _initial(self, lead):
        return self.cell.initialize_carry(jax.random.key(0), (*lead, 1))

    def _unroll(self, carry, obs, start):
        initial = self._initial(start.shape[1:])

        def step(cell, carry, inputs):
            x, start = inputs
            carry = where(start, initial, carry)
            carry, features = cell(carry, x)
            return carry, (carry, features)

        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False})
        return scan(self.cell, carry, (self._encode(obs), start))


def make_cell(config: Any) -> nn.RNNCellBase:
    """The cell that a config names; has memory, memory_size and initialiser.

    Recurrent kernels begin orthogonal, as flax's do, but by our `orthogonal`, which says why.
    """
    return CELLS[config.memory](
        config.memory_size,
        kernel_init=partial(KERNELS[config.initialiser], scale=1.0),
        recurrent_kernel_init=partial(orthogonal, scale=1.0),
    )


def remembers(module: Any) -> bool:
    """Whether a network remembers: whether it has an `initial_memory`."""
    return hasattr(module, "initial_memory")


def initial_memory(networks: Any, num_envs: int) -> Any:
    """What a tuple of networks remembers at the start of so many episodes, by name; () if none
    does.
    """
    named = {name: each for name, each in networks._asdict().items() if remembers(each)}
    return {name: each.initial_memory(num_envs) for name, each in named.items()} if named else ()


def require_names(networks: Any) -> None:
    """Checks that networks which remember do so by the name of their place.

    Raises:
      ConfigError: one does not.
    """
    for place, each in networks._asdict().items():
        name = getattr(each, "name_in_memory", place) if remembers(each) else place
        if name != place:
            allowed = f"must have name_in_memory={place!r}"
            raise ConfigError(f"networks.{place}", f"a network that remembers as {name!r}", allowed)


def step(
    module: Any, name: str, variables: Any, memory: Any, obs: Any, *inputs: Any
) -> tuple[Any, Any]:
    """What a network puts out for observations `[N, ...]`, and what all remember after it.

    Args:
      module: the network.
      name: its name in the memory.
      variables: its variables.
      memory: what all networks remember, by name.
      obs: the observations.
      *inputs: what else the network takes.
    """
    if not remembers(module):
        return module.apply(variables, obs, *inputs), memory
    output, carry = module.apply(variables, obs, memory[name], *inputs, method="step")
    return output, {**memory, name: carry}


def member_axes(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """`in_axes` of a network's inputs for `jax.vmap` over an ensemble of critics: all are the same
    for each, but what critics remember.
    """

    def axes(x):
        if not isinstance(x, Sequence):
            return None
        memory = {name: 1 if name == "critic" else None for name in x.memory}
        return Sequence(None, None, memory, None, None)

    return tuple(map(axes, inputs))


def first_member(x: Any) -> Any:
    """An input of the first critic alone of an ensemble."""
    if not isinstance(x, Sequence) or "critic" not in x.memory:
        return x
    first = jax.tree.map(lambda leaf: leaf[:, 0], x.memory["critic"])
    return x._replace(memory={**x.memory, "critic": first})


def map_obs(function: Callable[[Any], Any], obs: Any) -> Any:
    """A function of observations on all those that a `Sequence` has; on obs itself, if it is
    none.
    """
    if not isinstance(obs, Sequence):
        return function(obs)
    past = (function(obs.past[0]), obs.past[1]) if obs.past else None
    following = function(obs.next_obs) if obs.next_obs is not None else None
    return obs._replace(obs=function(obs.obs), past=past, next_obs=following)


def present(obs: Any) -> Any:
    """The observations that the output is for: what a network without a memory sees of a
    `Sequence`.
    """
    if not isinstance(obs, Sequence):
        return obs
    return obs.obs if obs.next_obs is None else obs.next_obs

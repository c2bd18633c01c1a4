"""Networks (flax.linen).

A policy network maps observations `[..., *obs_shape]` to the parameters of a distribution; an
`ActionHead` says what one does with them. A value network maps observations to `[...]`. Own
networks are flax modules of the same form.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ...envs import Box, Environment, Space
from ...envs.checking import picture_problems
from .config import ConfigError
from .heads import ActionHead, Gaussian, make_head
from .initialisers import dense
from .masks import ACTION_MASK, masked, with_mask, without_mask
from .recurrent import Recurrent, make_cell, map_obs, present, remembers

VECTOR = Box(-jnp.inf, jnp.inf, (1,))  # what layers see that follow others: of any length
ACTIVATIONS = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "silu": nn.silu,
    "elu": nn.elu,
}


class MLP(nn.Module):
    """Fully connected layers with an activation after each; flattens what it is given.

    Attributes:
      hidden_sizes: width of each layer.
      activation: one of `ACTIVATIONS`.
      initialiser: "orthogonal" (scale √2), "lecun" (normal), or "uniform" (PyTorch's); biases are
        zero.
      event_ndim: axes of one observation.
      layer_norm: whether each layer is normalised before its activation.
      dtype: what is computed in; parameters are float32.
    """

    hidden_sizes: Sequence[int]
    activation: str = "tanh"
    initialiser: str = "orthogonal"
    event_ndim: int = 1
    layer_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        x = jnp.asarray(x, jnp.float32).reshape(x.shape[: x.ndim - self.event_ndim] + (-1,))
        for size in self.hidden_sizes:
            x = dense(size, self.initialiser, dtype=self.dtype)(x)
            x = ACTIVATIONS[self.activation](
                nn.LayerNorm(dtype=self.dtype)(x) if self.layer_norm else x
            )
        return x


class CNN(nn.Module):
    """The small network for MinAtar: a 3×3 convolution with 16 channels, then the MLP.

    Pictures are height × width × channels, and have at least 3×3 pixels.
    Source: Young and Tian 2019 (arXiv 1903.03176), which follows it with one layer of 128.
    """

    hidden_sizes: Sequence[int]
    activation: str = "relu"
    initialiser: str = "orthogonal"
    layer_norm: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: chex.Array) -> chex.Array:
        # As a matrix product over the 3×3 patches: on a CPU several times faster than XLA's
        # convolution, the more so when seeds are vmapped, and any leading axes are fine.
        x = jnp.asarray(x, jnp.float32)
        height, width = x.shape[-3] - 2, x.shape[-2] - 2
        shifts = [x[..., i : i + height, j : j + width, :] for i in range(3) for j in range(3)]
        patches = jnp.concatenate(shifts, axis=-1)
        x = ACTIVATIONS[self.activation](dense(16, self.initialiser, dtype=self.dtype)(patches))
        options = {"layer_norm": self.layer_norm, "dtype": self.dtype}
        return MLP(self.hidden_sizes, self.activation, self.initialiser, event_ndim=3, **options)(x)


class Policy(nn.Module):
    """A torso, and a layer that puts out logits or a `Gaussian` with a standard deviation of its
    own parameter.
    """

    torso: nn.Module
    size: int
    gaussian: bool
    initialiser: str = "orthogonal"

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        output = dense(self.size, self.initialiser, scale=0.01)(self.torso(actor_obs(obs)))
        if not self.gaussian:
            return output
        log_std = self.param("log_std", nn.initializers.zeros_init(), (self.size,))
        return Gaussian(output, jnp.broadcast_to(log_std, output.shape))


class Value(nn.Module):
    """A torso, and a layer that puts out one number; sees the privileged part of a dict
    observation.
    """

    torso: nn.Module
    initialiser: str = "orthogonal"

    @nn.compact
    def __call__(self, obs: Any) -> chex.Array:
        return jnp.squeeze(
            dense(1, self.initialiser, scale=1.0)(self.torso(critic_obs(obs))), axis=-1
        )


def actor_obs(obs: Any) -> chex.Array:
    """What the policy sees: the array itself, or the entry "state" of a dict."""
    obs = present(obs)
    return obs["state"] if isinstance(obs, dict) else obs


def critic_obs(obs: Any) -> chex.Array:
    """What the critic sees: the array itself, or the entry "privileged_state" of a dict, or else
    "state".
    """
    obs = present(obs)
    return obs.get("privileged_state", obs["state"]) if isinstance(obs, dict) else obs


def actor_space(env: Environment) -> Box:
    """What the default actor sees of an environment.

    Raises:
      ConfigError: observations have entries that the default networks would ignore, or are no
        pictures of theirs.
    """
    return actor_obs(_seen(env))


def critic_space(env: Environment) -> Box:
    """What the default critic sees of an environment.

    Raises:
      ConfigError: observations have entries that the default networks would ignore, or are no
        pictures of theirs.
    """
    return critic_obs(_seen(env))


def _seen(env):
    spaces = env.observation_space
    known = {"state", "privileged_state", ACTION_MASK}
    ignored = sorted(set(spaces) - known) if isinstance(spaces, dict) else []
    if ignored:
        allowed = (
            'the default networks see "state" and "privileged_state" alone; own networks can read'
            " the others too"
        )
        raise ConfigError(
            "env.observation_space", f"a dict with {', '.join(map(repr, ignored))}", allowed
        )
    for label, space in (
        spaces.items() if isinstance(spaces, dict) else [("observation_space", spaces)]
    ):
        problems = picture_problems(label, space.shape) if len(space.shape) == 3 else []
        if problems:
            raise ConfigError("env.observation_space", space.shape, problems[0])
    return spaces


def sample_obs(env: Environment) -> Any:
    """Zeros like one observation."""
    return jax.tree.map(lambda space: jnp.zeros(space.shape, space.dtype), env.observation_space)


def rows(space: Space, *lead: int) -> Any:
    """Elements of a space, or of a dict of them, with leading axes, by shape."""
    return jax.tree.map(lambda each: jax.ShapeDtypeStruct((*lead, *each.shape), each.dtype), space)


class Networks(NamedTuple):
    """What an actor-critic algorithm needs of its networks.

    Attributes:
      policy: a module, observations to the parameters of the head's distribution.
      value: a module, observations to values `[...]`.
      head: the action head that belongs to the policy.
      torso: a module, observations to features; policy and value then see these instead of the
        observations, and both losses train it (in MDPO, TRPO and FixPO, which take them one after
        the other, the policy's alone); beside an action mask, as {"state": features}. None
        for networks apart from each other.
      optimiser: how they are trained, see `core.optimisers`; None for as the config says.

    Each of the modules may remember, see `core.recurrent`; under a torso that does, the others may
    not.
    """

    policy: nn.Module
    value: nn.Module
    head: ActionHead
    torso: nn.Module | None = None
    optimiser: Any = None


def remember(networks: Any) -> bool:
    """Whether one of the networks remembers."""
    return any(remembers(each) for each in networks)


def features(networks: Any, params: dict[str, Any], obs: Any) -> Any:
    """What policy and value see of observations, or of a `Sequence`: what the torso makes of
    them, if there is one.
    """
    if networks.torso is None:
        return obs

    def torso(obs):
        return with_mask(networks.torso.apply(params["torso"], without_mask(obs)), obs)

    return torso(obs) if remembers(networks.torso) else map_obs(torso, obs)


def make_actor_critic(env: Environment, config: Any) -> Networks:
    """A policy and a value network, as the config says.

    Args:
      env: the environment; observations with three axes get the `CNN`, all others an `MLP`.
      config: has policy, hidden_sizes, activation, initialiser, shared_torso, memory and
        memory_size.

    Raises:
      ConfigError: observations have entries that these networks would ignore.
    """

    def layers(space, hidden_sizes):
        return make_torso(space, hidden_sizes, config.activation, config.initialiser)

    def torso_and(name, see, space, readout):
        """A readout on the hidden layers, with the cell behind the first of them if there is
        one.
        """
        sizes = config.hidden_sizes
        if config.memory == "none":
            return readout(layers(space, sizes))
        encoder = nn.Sequential([see, layers(space, sizes[:1])])
        return Recurrent(name, make_cell(config), encoder, readout(layers(VECTOR, sizes[1:])))

    head = make_head(env.action_space, config.policy)
    gaussian = isinstance(env.action_space, Box)
    policy = partial(Policy, size=head.size, gaussian=gaussian, initialiser=config.initialiser)
    value = partial(Value, initialiser=config.initialiser)
    seen = actor_space(env)
    if not config.shared_torso:
        return Networks(
            masked(torso_and("policy", actor_obs, seen, policy), env.observation_space),
            torso_and("value", critic_obs, critic_space(env), value),
            head,
        )
    if isinstance(env.observation_space, dict) and "privileged_state" in env.observation_space:
        allowed = "must be False: the value network would not see the privileged state"
        raise ConfigError("shared_torso", config.shared_torso, allowed)

    def readout(layers):
        return layers if config.memory != "none" else nn.Sequential([actor_obs, layers])

    torso = torso_and("torso", actor_obs, seen, readout)
    policy = masked(policy(layers(VECTOR, ())), env.observation_space)
    return Networks(policy, value(layers(VECTOR, ())), head, torso)


def make_torso(
    space: Box, hidden_sizes: Sequence[int], activation: str, initialiser: str, **options
) -> nn.Module:
    """The layers before a head: the `CNN` for observations with three axes, else an `MLP`; options
    are its fields.
    """
    if len(space.shape) == 3:
        return CNN(hidden_sizes, activation, initialiser, **options)
    return MLP(hidden_sizes, activation, initialiser, event_ndim=len(space.shape), **options)

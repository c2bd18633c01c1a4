"""Networks (flax.linen) and action heads.

A policy network maps observations `[..., *obs_shape]` to the parameters of a distribution; an
`ActionHead` says what one does with them. A value network maps observations to `[...]`. Own
networks are flax modules of the same form.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Box, Discrete, Environment, Space
from ...envs.checking import picture_problems
from .config import ConfigError

ACTIVATIONS = {"tanh": nn.tanh, "relu": nn.relu, "silu": nn.silu, "elu": nn.elu}
# Names of the initialisers, with the scale of hidden layers.
INITIALISERS = {"orthogonal": 2**0.5, "lecun": 1.0, "uniform": 1.0}


class ActionHead(NamedTuple):
    """What to do with the output of a policy network; `[...]` are any leading axes.

    Attributes:
      size: numbers per action that the network puts out (n logits, or d means).
      sample: (key, distribution) -> action as it is stored: a class, a Gaussian sample, or what
        goes into a tanh.
      log_prob: (action, distribution) -> `[...]`, in nats, of the stored action.
      entropy: (key, distribution) -> `[...]`, in nats; the tanh-Gaussian's is an estimate from one
        sample.
      kl: (p, q) -> KL(p‖q), `[...]`, in nats.
      mode: distribution -> the stored form of the action to take when not exploring.
      to_env: stored action -> element of the environment's action space.
      space: the action space that the head is for; None if it is for any with actions of that form.
    """

    size: int
    sample: Callable[..., chex.Array]
    log_prob: Callable[..., chex.Array]
    entropy: Callable[..., chex.Array]
    kl: Callable[..., chex.Array]
    mode: Callable[..., chex.Array]
    to_env: Callable[..., chex.Array]
    space: Space | None = None


class Gaussian(NamedTuple):
    """Parameters of a diagonal Gaussian, both `[..., d]`."""

    mean: chex.Array
    log_std: chex.Array


def categorical_head(space: Discrete) -> ActionHead:
    """The policy is logits `[..., n]`."""
    return ActionHead(
        size=space.n,
        sample=lambda key, logits: jax.random.categorical(key, logits).astype(jnp.int32),
        log_prob=losses.categorical_log_prob,
        entropy=lambda key, logits: losses.categorical_entropy(logits),
        kl=losses.categorical_kl,
        mode=lambda logits: jnp.argmax(logits, axis=-1).astype(jnp.int32),
        to_env=lambda action: action,
        space=space,
    )


def gaussian_head(space: Box) -> ActionHead:
    """The policy is a `Gaussian` over [−1, 1]^d; samples are stored as drawn and clipped at the
    environment.
    """
    return ActionHead(
        size=space.shape[0],
        sample=sample_gaussian,
        log_prob=lambda action, d: jnp.sum(
            losses.gaussian_log_prob(action, d.mean, d.log_std), axis=-1
        ),
        entropy=lambda key, d: jnp.sum(losses.gaussian_entropy(d.log_std), axis=-1),
        kl=_gaussian_kl,
        mode=lambda d: d.mean,
        to_env=lambda action: space.from_unit(jnp.clip(action, -1.0, 1.0)),
        space=space,
    )


def tanh_gaussian_head(space: Box) -> ActionHead:
    """The policy is the tanh of a `Gaussian`; actions are stored as they are before the tanh."""

    def log_prob(action, d):
        return jnp.sum(losses.tanh_gaussian_log_prob(action, d.mean, d.log_std), axis=-1)

    return ActionHead(
        size=space.shape[0],
        sample=sample_gaussian,
        log_prob=log_prob,
        entropy=lambda key, d: -log_prob(sample_gaussian(key, d), d),
        kl=_gaussian_kl,  # a bijection leaves it as it is
        mode=lambda d: d.mean,
        to_env=lambda action: space.from_unit(jnp.tanh(action)),
        space=space,
    )


def sample_gaussian(key: chex.PRNGKey, d: Gaussian) -> chex.Array:
    """A sample, `[..., d]`, differentiable by the parameters."""
    return d.mean + jnp.exp(d.log_std) * jax.random.normal(key, d.mean.shape, d.mean.dtype)


def _gaussian_kl(p, q):
    return jnp.sum(losses.gaussian_kl(p.mean, p.log_std, q.mean, q.log_std), axis=-1)


CONTINUOUS_HEADS = {"gaussian": gaussian_head, "tanh_gaussian": tanh_gaussian_head}


def make_head(space: Space, policy: str) -> ActionHead:
    """The head for an action space; policy is "gaussian" or "tanh_gaussian" and only matters for a
    Box.
    """
    return (
        categorical_head(space) if isinstance(space, Discrete) else CONTINUOUS_HEADS[policy](space)
    )


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


def dense(
    size: int, initialiser: str, scale: float | None = None, dtype: Any = jnp.float32
) -> nn.Dense:
    """A fully connected layer with zero bias; scale multiplies the kernel, by default as
    `INITIALISERS` says.
    """
    scale = INITIALISERS[initialiser] if scale is None else scale
    kernel_init = {"orthogonal": orthogonal, "lecun": lecun, "uniform": uniform}[initialiser]
    return nn.Dense(size, kernel_init=partial(kernel_init, scale=scale), dtype=dtype)


def uniform(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """Uniform in ±scale/√(inputs), as PyTorch's linear layers are by default."""
    bound = scale / math.sqrt(max(1, math.prod(shape[:-1])))
    return _draw(partial(jax.random.uniform, minval=-bound, maxval=bound), key, shape).astype(dtype)


def lecun(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """Normal, truncated at two standard deviations, with variance scale²/(inputs); the last axis is
    the output.
    """
    # The standard deviation of a standard normal that is truncated at ±2.
    std = scale / math.sqrt(max(1, math.prod(shape[:-1]))) / 0.87962566103423978
    return (
        std * _draw(partial(jax.random.truncated_normal, lower=-2.0, upper=2.0), key, shape)
    ).astype(dtype)


def _draw(sampler, key, shape):
    """Random numbers of a shape, of which more are drawn: layers of about the same size then share
    compiled kernels.
    """
    size = math.prod(shape)
    return sampler(key, shape=(max(4096, 1 << (size - 1).bit_length()),))[:size].reshape(shape)


def orthogonal(
    key: chex.PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32, *, scale: float
) -> chex.Array:
    """A random orthogonal kernel times scale: rows or columns, whichever are fewer, are
    orthonormal.

    Uniformly distributed (Saxe et al. 2014, arXiv 1312.6120): the orthogonal factor of a Gaussian
    matrix, by the Newton–Schulz iteration for the polar decomposition (Higham 2008, section 8.3),
    in matrix products alone. `flax.linen.initializers.orthogonal` calls LAPACK's QR, of which XLA's
    CPU runtime deadlocks when two batched calls meet: vmapped seeds then hang, for ever, now and
    then (BUILD_NOTES.md has the evidence).

    Args:
      key: a typed key.
      shape: of the kernel; the last axis is the output, the others together the input.
      dtype: of the kernel.
      scale: factor.
    """
    matrix = _draw(jax.random.normal, key, (math.prod(shape[:-1]), shape[-1]))
    wide = matrix.shape[0] < matrix.shape[1]
    matrix = matrix.T if wide else matrix

    def newton_schulz(_, x):
        gram = jnp.matmul(x.T, x, precision="highest")
        return 1.5 * x - 0.5 * jnp.matmul(x, gram, precision="highest")

    # Each iteration multiplies a small singular value by 1.5: 40 of them reach 1 from 1e-6 of the
    # norm.
    matrix = jax.lax.fori_loop(0, 40, newton_schulz, matrix / jnp.linalg.norm(matrix))
    matrix = matrix.T if wide else matrix
    return (scale * matrix.reshape(shape)).astype(dtype)


def actor_obs(obs: Any) -> chex.Array:
    """What the policy sees: the array itself, or the entry "state" of a dict."""
    return obs["state"] if isinstance(obs, dict) else obs


def critic_obs(obs: Any) -> chex.Array:
    """What the critic sees: the array itself, or the entry "privileged_state" of a dict, or else
    "state".
    """
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
    ignored = (
        sorted(set(spaces) - {"state", "privileged_state"}) if isinstance(spaces, dict) else []
    )
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
    """

    policy: nn.Module
    value: nn.Module
    head: ActionHead


def make_actor_critic(env: Environment, config: Any) -> Networks:
    """A policy and a value network, apart from each other, as the config says.

    Args:
      env: the environment; observations with three axes get the `CNN`, all others an `MLP`.
      config: has policy, hidden_sizes, activation and initialiser.

    Raises:
      ConfigError: observations have entries that these networks would ignore.
    """

    def torso(space):
        return make_torso(space, config.hidden_sizes, config.activation, config.initialiser)

    head = make_head(env.action_space, config.policy)
    gaussian = isinstance(env.action_space, Box)
    return Networks(
        policy=Policy(torso(actor_space(env)), head.size, gaussian, config.initialiser),
        value=Value(torso(critic_space(env)), config.initialiser),
        head=head,
    )


def make_torso(
    space: Box, hidden_sizes: Sequence[int], activation: str, initialiser: str, **options
) -> nn.Module:
    """The layers before a head: the `CNN` for observations with three axes, else an `MLP`; options
    are its fields.
    """
    if len(space.shape) == 3:
        return CNN(hidden_sizes, activation, initialiser, **options)
    return MLP(hidden_sizes, activation, initialiser, event_ndim=len(space.shape), **options)

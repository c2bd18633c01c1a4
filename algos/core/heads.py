"""Action heads: what one does with the numbers that a policy network puts out."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Box, Discrete, MultiDiscrete, Space
from .fields import ConfigError


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


def multi_categorical_head(space: MultiDiscrete) -> ActionHead:
    """The policy is the logits of all choices behind each other, `[..., sum(nvec)]`; the choices
    are independent of each other.
    """
    borders = list(itertools.accumulate(space.nvec))[:-1]

    def choices(logits):
        return jnp.split(logits, borders, axis=-1)

    def total(function, *each):
        return sum(function(*one) for one in zip(*each, strict=True))

    def sample(key, logits):
        drawn = map(jax.random.categorical, jax.random.split(key, len(space.nvec)), choices(logits))
        return jnp.stack(list(drawn), axis=-1).astype(jnp.int32)

    def log_prob(action, logits):
        actions = jnp.moveaxis(action, -1, 0)
        return total(losses.categorical_log_prob, actions, choices(logits))

    return ActionHead(
        size=sum(space.nvec),
        sample=sample,
        log_prob=log_prob,
        entropy=lambda key, logits: total(losses.categorical_entropy, choices(logits)),
        kl=lambda p, q: total(losses.categorical_kl, choices(p), choices(q)),
        mode=lambda logits: jnp.stack(
            [jnp.argmax(each, axis=-1) for each in choices(logits)], axis=-1
        ).astype(jnp.int32),
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


BOX_OR_DISCRETE = "must be a Box with one axis and finite bounds, or Discrete"
CONTINUOUS_HEADS = {"gaussian": gaussian_head, "tanh_gaussian": tanh_gaussian_head}


def make_head(space: Space, policy: str) -> ActionHead:
    """The head for an action space; policy is "gaussian" or "tanh_gaussian" and only matters for a
    Box.

    Raises:
      ConfigError: there is none for such a space.
    """
    if isinstance(space, Discrete):
        return categorical_head(space)
    if isinstance(space, MultiDiscrete):
        return multi_categorical_head(space)
    if isinstance(space, Box):
        require_unit_box(space)
        return CONTINUOUS_HEADS[policy](space)
    allowed = "must be a Box, Discrete or MultiDiscrete; own networks can have a head for it"
    raise ConfigError("env.action_space", space, allowed)


def require_unit_box(space: Space) -> None:
    """Checks that a Box of actions can be mapped to from [−1, 1]^d; says nothing of other spaces.

    Raises:
      ConfigError: it is not bounded, has not one axis, or is of integers.
    """
    if not isinstance(space, Box):
        return
    if not space.bounded or len(space.shape) != 1 or 0 in space.shape:
        raise ConfigError("env.action_space", space, BOX_OR_DISCRETE)
    if not jnp.issubdtype(space.dtype, jnp.floating):
        allowed = "must be a Box of floats; for whole numbers use Discrete"
        raise ConfigError("env.action_space", space, allowed)

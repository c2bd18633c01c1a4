"""Action heads: what one does with the numbers that a policy network puts out."""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from ... import losses
from ...envs import Box, Discrete, Space


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

"""Action masks: which of n discrete actions are allowed, as the entry "action_mask" of a dict
observation, bool `[..., n]`.

A policy's network that puts out logits is `Masked`, own ones too: it does not see the entry, and
where an action is not allowed its logit becomes `MASKED`. That is finite, so that entropies,
divergences and their gradients are; and low enough for a probability of exactly 0. No gradient
reaches what the network said of it. Huang and Ontañón 2022 (arXiv 2006.14171) show that this is the
policy gradient of the masked policy. Values and critics see observations as they are.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from .recurrent import map_obs, present

ACTION_MASK = "action_mask"
MASKED = -1e9


def has_mask(obs: Any) -> bool:
    """Whether observations, or the space of them, have an action mask."""
    return isinstance(obs, dict) and ACTION_MASK in obs


def mask_logits(logits: chex.Array, obs: Any) -> chex.Array:
    """Logits `[..., n]` with those of actions that observations, or a `Sequence`, do not allow at
    `MASKED`.
    """
    obs = present(obs)
    return jnp.where(obs[ACTION_MASK], logits, MASKED) if has_mask(obs) else logits


def random_action(key: chex.PRNGKey, obs: Any, shape: tuple[int, ...], num_actions: int) -> Any:
    """An action for each observation, int32 of a shape, uniformly among those that are allowed."""
    if not has_mask(obs):
        return jax.random.randint(key, shape, 0, num_actions, jnp.int32)
    logits = mask_logits(jnp.zeros((*shape, num_actions)), obs)
    return jax.random.categorical(key, logits).astype(jnp.int32)


def without_mask(obs: Any) -> Any:
    """Observations, or a `Sequence` of them, without the entry."""

    def drop(obs):
        return {name: x for name, x in obs.items() if name != ACTION_MASK}

    return map_obs(drop, obs) if has_mask(present(obs)) else obs


def with_mask(features: chex.Array, obs: Any) -> Any:
    """What a torso makes of observations, beside their mask, if they have one."""
    obs = present(obs)
    return {"state": features, ACTION_MASK: obs[ACTION_MASK]} if has_mask(obs) else features


class Masked:
    """A network of logits under the action mask of what it sees; its variables are the network's.

    Args:
      inner: the network: a flax module, or whatever has its `init` and `apply`.
    """

    def __init__(self, inner: Any):
        self.inner = inner

    def init(self, key: chex.PRNGKey, obs: Any, *inputs: Any) -> Any:
        """The network's variables."""
        return self.inner.init(key, without_mask(obs), *inputs)

    def apply(self, variables: Any, obs: Any, *inputs: Any, **options: Any) -> Any:
        """What the network puts out: logits, or a pair of which they are the first."""
        output = self.inner.apply(variables, without_mask(obs), *inputs, **options)
        if isinstance(output, tuple):
            return mask_logits(output[0], obs), *output[1:]
        return mask_logits(output, obs)

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not made yet, as in a copy
            raise AttributeError(name)
        return getattr(self.inner, name)


def masked(network: Any, obs: Any) -> Any:
    """A network of logits for such observations, or the space of them: `Masked` where they have an
    action mask.
    """
    return Masked(network) if has_mask(obs) and not isinstance(network, Masked) else network

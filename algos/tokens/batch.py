"""What the loop hands to an objective."""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from ..core.algorithm import Metrics


class Answered(NamedTuple):
    """G answers to each of N prompts, and what they are worth: what an update learns from.

    Attributes:
      prompts: int32 `[N, P]`.
      tokens: int32 `[N, G, T]`.
      mask: bool `[N, G, T]`, what the policy wrote.
      log_prob: of each token under the policy that wrote it, nats, `[N, G, T]`.
      entropy: of that policy at each place, nats, `[N, G, T]`.
      rewards: `[N, G]`.
      stages: what an answer passed on its way to the reward, 0 or 1 each, `[N, G, S]`.
    """

    prompts: chex.Array
    tokens: chex.Array
    mask: chex.Array
    log_prob: chex.Array
    entropy: chex.Array
    rewards: chex.Array
    stages: chex.Array


class Batch(NamedTuple):
    """What an objective sees. Gradients flow through log_prob and entropy alone.

    What it does not look at is not computed: the reference policy is evaluated only for objectives
    that read ref_log_prob.

    Attributes:
      log_prob: of each token under the trained policy, nats, `[N, G, T]`.
      entropy: of the trained policy at each place, nats, `[N, G, T]`.
      old_log_prob: of each token under the policy that wrote it, `[N, G, T]`.
      ref_log_prob: of each token under the reference policy, `[N, G, T]`.
      rewards: of each answer, `[N, G]`.
      mask: bool `[N, G, T]`, what the policy wrote; answers end with their first `end`.
      tokens: int32 `[N, G, T]`.
      prompts: int32 `[N, P]`.
      stages: what an answer passed on its way to the reward, 0 or 1 each, `[N, G, S]`.
      entropy_history: mean entropy per token over the iterations before, a scalar; in the first one
        that of its own answers.
      progress: the part of total_steps that is done, a scalar in [0, 1].
      key: a typed key, for objectives that draw; another one in each pass.
    """

    log_prob: chex.Array
    entropy: chex.Array
    old_log_prob: chex.Array
    ref_log_prob: chex.Array
    rewards: chex.Array
    mask: chex.Array
    tokens: chex.Array
    prompts: chex.Array
    stages: chex.Array
    entropy_history: chex.Array
    progress: chex.Array
    key: chex.PRNGKey

    @property
    def log_ratio(self) -> chex.Array:
        """Trained to writing policy, per token, `[N, G, T]`."""
        return self.log_prob - self.old_log_prob


def batch_of(
    answered: Answered,
    log_prob: chex.Array,
    entropy: chex.Array,
    *,
    key: chex.PRNGKey,
    ref_log_prob: chex.Array | None = None,
    entropy_history: chex.Array | float = 0.0,
    progress: chex.Array | float = 0.0,
) -> Batch:
    """What an objective sees of answers.

    Args:
      answered: the answers.
      log_prob: of each token under the trained policy, `[N, G, T]`.
      entropy: of the trained policy at each place, `[N, G, T]`.
      key: a typed key.
      ref_log_prob: under the reference policy, `[N, G, T]`; by default under the one that wrote.
      entropy_history: see `Batch`.
      progress: see `Batch`.
    """
    return Batch(
        log_prob=log_prob,
        entropy=entropy,
        old_log_prob=answered.log_prob,
        ref_log_prob=answered.log_prob if ref_log_prob is None else ref_log_prob,
        rewards=answered.rewards,
        mask=answered.mask,
        tokens=answered.tokens,
        prompts=answered.prompts,
        stages=answered.stages,
        entropy_history=jnp.float32(entropy_history),
        progress=jnp.float32(progress),
        key=key,
    )


# batch -> the loss, a scalar; or the loss and a dict of scalars for the log
Result = chex.Array | tuple[chex.Array, Metrics]

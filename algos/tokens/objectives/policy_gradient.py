"""Objectives without a ratio: they hold for the policy that wrote alone, so for one pass."""

import chex
import jax.numpy as jnp

from ....losses.sequences import advantages, reductions, rewards, surrogates, weights
from ..batch import Batch


def _reinforce(batch: Batch, advantage: chex.Array, mode: str) -> chex.Array:
    """−A·log π of every token, of an advantage per answer, `[N, G]`."""
    advantage = jnp.broadcast_to(advantage[..., None], batch.mask.shape)
    loss = surrogates.policy_gradient_loss(batch.log_prob, advantage)
    return reductions.aggregate(loss, batch.mask, mode=mode)


def rloo(batch: Batch) -> chex.Array:
    """RLOO (arXiv 2402.14740): REINFORCE with the mean of the other answers as baseline."""
    return _reinforce(batch, advantages.leave_one_out(batch.rewards), "seq-mean-token-sum")


def max_at_k(batch: Batch, *, k=4) -> chex.Array:
    """max@k (arXiv 2510.23393): an answer's part in the best of k, centred; summed over the
    group.
    """
    advantage = advantages.group_center(rewards.max_at_k(batch.rewards, k=k))
    return batch.rewards.shape[-1] * _reinforce(batch, advantage, "seq-mean-token-sum")


def asymre(batch: Batch) -> chex.Array:
    """AsymRE (arXiv 2509.24203): a baseline a little below the mean."""
    return _reinforce(batch, advantages.asymmetric_advantage(batch.rewards), "token-mean")


def opmd(batch: Batch) -> chex.Array:
    """OPMD (arXiv 2509.24203): a mirror step towards the reward, by its gradient."""
    return _reinforce(batch, advantages.opmd_advantage(batch.rewards), "token-mean")


def nsr(batch: Batch) -> chex.Array:
    """NSR (arXiv 2506.01347): wrong answers alone, pushed away."""
    return _signed(batch, 0.0, 1.0)


def psr(batch: Batch) -> chex.Array:
    """PSR (arXiv 2506.01347): right answers alone."""
    return _signed(batch, 1.0, 0.0)


def w_reinforce(batch: Batch) -> chex.Array:
    """W-REINFORCE (arXiv 2506.01347): right answers weigh a tenth of wrong ones."""
    return _signed(batch, 0.1, 1.0)


def _signed(batch: Batch, positive: float, negative: float) -> chex.Array:
    advantage = advantages.signed_advantage(
        batch.rewards > 0.5, positive_weight=positive, negative_weight=negative
    )
    return _reinforce(batch, advantage, "token-mean")


def gtpo(batch: Batch, *, entropy_coef=0.1, entropy_limit=2.0) -> chex.Array:
    """GTPO (arXiv 2508.03772): tokens that answers of opposite sign share count for the right ones.

    The published code drops answers of a mean entropy above 0.7, as suits a trained language model;
    a fresh policy of six tokens has 1.8.
    """
    advantage = advantages.group_normalize(batch.rewards)
    weight = weights.conflict_weights(batch.tokens, advantage, batch.mask)
    entropy = reductions.sequence_mean(batch.entropy, batch.mask)
    advantage = (advantage - entropy_coef * entropy) * (entropy <= entropy_limit)
    advantage = weight * advantage[..., None]
    conflicts = reductions.sequence_sum((weight != 1.0).astype(jnp.float32), batch.mask)
    loss = surrogates.policy_gradient_loss(batch.log_prob, advantage)
    rows = reductions.sequence_sum(loss, batch.mask) / jnp.maximum(conflicts, 1.0)
    return jnp.mean(rows)


def haepo(batch: Batch, *, entropy_coef=0.01) -> chex.Array:
    """HAEPO (arXiv 2508.18884): a softmax over the group of whole answers' log-probabilities."""
    log_prob = reductions.sequence_sum(batch.log_prob, batch.mask)
    advantage = advantages.group_normalize(batch.rewards)
    loss = surrogates.haepo_loss(log_prob, advantage, entropy_coef=entropy_coef)
    return batch.rewards.shape[-1] * jnp.mean(loss)

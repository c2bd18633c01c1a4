"""Objectives with a ratio to the policy that wrote: they bear several passes over an answer."""

import math

import chex
import jax.numpy as jnp

from .... import losses
from ....losses import curricula
from ....losses.sequences import (
    advantages,
    penalties,
    ratios,
    reductions,
    rewards,
    surrogates,
    weights,
)
from ..batch import Batch


def _clip(batch: Batch, advantage: chex.Array, low=0.8, high=1.2, **options) -> chex.Array:
    """The clipped surrogate per token, `[N, G, T]`, of an advantage per answer, `[N, G]`."""
    return surrogates.clip_surrogate(
        batch.log_ratio, advantage[..., None], low=low, high=high, **options
    )


def _kl(batch: Batch, coef: float) -> chex.Array:
    """The penalty per token for leaving the reference policy."""
    return coef * penalties.kl_k3(batch.log_prob, batch.ref_log_prob)


def _per_token(advantage: chex.Array, batch: Batch) -> chex.Array:
    """An advantage per answer, `[N, G]`, at each of its tokens."""
    return jnp.broadcast_to(advantage[..., None], batch.mask.shape)


def grpo(batch: Batch, *, low=0.8, high=1.2, kl_coef=0.001) -> chex.Array:
    """GRPO (arXiv 2402.03300): rewards in units of their group's std, clip, k3."""
    loss = _clip(batch, advantages.group_normalize(batch.rewards), low, high)
    loss = loss + _kl(batch, kl_coef)
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-mean")


def dr_grpo(batch: Batch) -> chex.Array:
    """Dr. GRPO (arXiv 2503.20783): neither the group's std nor an answer's length divides."""
    loss = _clip(batch, advantages.group_center(batch.rewards))
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-sum-norm")


def dapo(batch: Batch, *, low=0.8, high=1.28) -> chex.Array:
    """DAPO (arXiv 2503.14476): a higher upper bound, dead groups left out, all tokens alike.

    Its new prompts in place of dead groups are a matter of sampling, and not here.
    """
    loss = _clip(batch, advantages.group_normalize(batch.rewards), low, high)
    alive = weights.spread_mask(batch.rewards, threshold=1e-6)
    mask = batch.mask & (alive > 0)[..., None]
    return reductions.aggregate(loss, mask, mode="token-mean")


def gspo(batch: Batch, *, low=0.97, high=1.04) -> chex.Array:
    """GSPO (arXiv 2507.18071): the ratio of the whole answer, per token, at every token.

    The paper's bounds, 1 − 3e-4 and 1 + 4e-4, are for large networks and small steps.
    """
    log_ratio = ratios.sequence_log_ratio(batch.log_prob, batch.old_log_prob, batch.mask)
    advantage = advantages.group_normalize(batch.rewards)[..., None]
    loss = surrogates.clip_surrogate(log_ratio, advantage, low=low, high=high)
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-mean")


def reinforce_plus_plus(batch: Batch, *, kl_coef=0.001) -> chex.Array:
    """REINFORCE++-baseline: centred in the group, whitened over the batch, clip, k2."""
    loss = _clip(batch, advantages.whitened_group_center(batch.rewards))
    loss = loss + kl_coef * penalties.kl_k2(batch.log_prob, batch.ref_log_prob)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def cispo(batch: Batch, *, cap=1.28) -> chex.Array:
    """CISPO (arXiv 2506.13585): the ratio is capped, and no token loses its gradient."""
    advantage = _per_token(advantages.group_normalize(batch.rewards), batch)
    loss = surrogates.truncated_importance_loss(batch.log_ratio, batch.log_prob, advantage, cap=cap)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def rapid(batch: Batch, *, cap=2.0) -> chex.Array:
    """RAPID (arXiv 2510.03515): capped ratios of whole answers, an importance-weighted baseline."""
    log_ratio = reductions.sequence_sum(batch.log_ratio, batch.mask)
    log_prob = reductions.sequence_sum(batch.log_prob, batch.mask)
    weighted = losses.importance_ratio(log_ratio, jnp.zeros_like(log_ratio)) * batch.rewards
    advantage = batch.rewards - jnp.mean(weighted, axis=-1, keepdims=True)
    return jnp.mean(surrogates.truncated_importance_loss(log_ratio, log_prob, advantage, cap=cap))


def gmpo(batch: Batch) -> chex.Array:
    """GMPO (arXiv 2507.20673): the geometric mean of an answer's ratios, each clipped."""
    advantage = advantages.group_normalize(batch.rewards)
    return jnp.mean(surrogates.geometric_mean_surrogate(batch.log_ratio, advantage, batch.mask))


def bnpo(batch: Batch) -> chex.Array:
    """BNPO (arXiv 2506.02864): groups weighed by a Beta of their success rates, dual clip."""
    loss = _clip(batch, advantages.beta_normalize(batch.rewards), high=1.28, dual_clip=10.0)
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-sum")


def pass_at_k(batch: Batch) -> chex.Array:
    """Pass@k-GRPO: only the best answer of a group has an advantage, over the second best."""
    loss = _clip(batch, advantages.best_minus_second(batch.rewards))
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-mean")


def cpgd(batch: Batch, *, drift_coef=0.1, cap=0.2) -> chex.Array:
    """CPGD (arXiv 2505.12504): the clipped log-ratio, and a penalty for drifting.

    The paper's weight and cap of the penalty were not available.
    """
    advantage = advantages.group_center(batch.rewards)[..., None]
    loss = surrogates.clipped_log_ratio_loss(batch.log_ratio, advantage)
    loss = loss + drift_coef * penalties.policy_drift(batch.log_ratio, cap=cap)
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-mean")


def r2vpo(batch: Batch, *, coef=0.04) -> chex.Array:
    """R²VPO (arXiv 2601.03320): the ratio's variance is penalised instead of clipped."""
    advantage = advantages.group_normalize(batch.rewards)[..., None]
    loss = surrogates.ratio_variance_loss(batch.log_ratio, advantage, coef=coef)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def aspo(batch: Batch, *, kl_coef=0.001) -> chex.Array:
    """ASPO (arXiv 2510.06062): positive tokens weighed by 1/ratio; k3 on tokens of low entropy."""
    advantage = advantages.group_normalize(batch.rewards)[..., None]
    loss = surrogates.asymmetric_surrogate(batch.log_ratio, advantage)
    low = 1.0 - weights.top_entropy_mask(batch.entropy, batch.mask, keep=0.2)
    return reductions.aggregate(loss + low * _kl(batch, kl_coef), batch.mask, mode="token-mean")


def aepo(batch: Batch) -> chex.Array:
    """AEPO (arXiv 2510.14545): a clip that keeps its gradient above, advantages scaled by
    entropy.
    """
    advantage = _per_token(advantages.group_normalize(batch.rewards), batch)
    advantage = advantages.entropy_scaled_advantage(advantage, batch.entropy, batch.mask)
    loss = surrogates.soft_upper_clip(batch.log_ratio, advantage)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def dcpo(batch: Batch) -> chex.Array:
    """DCPO (arXiv 2509.02333): bounds open for unlikely tokens; each prompt as if first met."""
    nothing = jnp.zeros(batch.rewards.shape[:-1])
    advantage, *_ = advantages.cumulative_normalize(batch.rewards, nothing + 1.0, nothing, nothing)
    low, high = ratios.dynamic_clip_bounds(jnp.exp(batch.old_log_prob))
    loss = _clip(batch, advantage, low, high, dual_clip=10.0)
    rows = reductions.sequence_mean(loss, batch.mask)
    return jnp.mean(jnp.sum(rows, axis=-1))


def hapo(batch: Batch, *, beta=0.5) -> chex.Array:
    """HAPO (arXiv 2509.16591): advantages and clip bounds by the entropy of each token."""
    lengths = jnp.sum(batch.mask, axis=-1)
    score = ratios.entropy_score(batch.entropy, batch.mask)
    low, high = ratios.entropy_clip_bounds(score)
    ratio = losses.importance_ratio(batch.log_prob, batch.old_log_prob)
    neutral = (ratio > 0.9) & (ratio < 1.14)
    advantage = _per_token(advantages.token_weighted_normalize(batch.rewards, lengths), batch)
    advantage = advantage * jnp.where((score > 0.0) != neutral, 1.0 + beta * score, 1.0)
    loss = surrogates.clip_surrogate(batch.log_ratio, advantage, low=low, high=high)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def bapo(batch: Batch) -> chex.Array:
    """BAPO (arXiv 2510.18927): bounds that let positive tokens weigh as much as negative ones."""
    advantage = advantages.group_normalize(batch.rewards)
    ratio = losses.importance_ratio(batch.log_prob, batch.old_log_prob)
    low, high = ratios.balanced_clip_bounds(ratio, _per_token(advantage, batch), batch.mask)
    loss = _clip(batch, advantage, low, high, dual_clip=3.0)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def m2po(batch: Batch, *, threshold=0.04) -> chex.Array:
    """M2PO (arXiv 2510.01161): tokens are left out until the log-ratio's second moment is small;
    for stale answers.
    """
    advantage = _per_token(advantages.group_normalize(batch.rewards), batch)
    keep = weights.second_moment_mask(batch.log_ratio, advantage, batch.mask, threshold=threshold)
    loss = -advantage * losses.importance_ratio(batch.log_prob, batch.old_log_prob)
    return reductions.aggregate(loss * keep, batch.mask, mode="token-mean")


def top_entropy(batch: Batch, *, keep=0.2) -> chex.Array:
    """80/20 (arXiv 2506.01939): only the fifth of the tokens with the highest entropy learns."""
    loss = _clip(batch, advantages.group_normalize(batch.rewards), high=1.28)
    loss = loss * weights.top_entropy_mask(batch.entropy, batch.mask, keep=keep)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def d3s(batch: Batch) -> chex.Array:
    """D³S (arXiv 2509.22115): half of the answers, of the largest variance of the advantage, and
    their tokens with the largest |advantage|·entropy; more of them as training goes on.
    """
    advantage = advantages.group_normalize(batch.rewards)
    chosen = weights.max_variance_subset(advantage.ravel(), num=max(1, advantage.size // 2))
    keep = curricula.linear_schedule(batch.progress, start=0.1, end=0.5)
    score = jnp.abs(advantage)[..., None] * batch.entropy
    tokens = weights.top_fraction_mask(score, batch.mask, keep=keep)
    loss = _clip(batch, advantage) * tokens * chosen.reshape(advantage.shape)[..., None]
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def cppo(batch: Batch, *, kl_coef=0.001) -> chex.Array:
    """CPPO (arXiv 2503.22342): the half of each group with the largest |advantage|."""
    advantage = advantages.group_normalize(batch.rewards, eps=1e-4)
    keep = weights.top_advantage_mask(advantage, num=max(1, advantage.shape[-1] // 2))
    loss = _clip(batch, advantage) + _kl(batch, kl_coef)
    mask = batch.mask & (keep > 0)[..., None]
    return reductions.aggregate(loss, mask, mode="seq-mean-token-mean")


def seed_grpo(batch: Batch, *, alpha=0.02) -> chex.Array:
    """SEED-GRPO (arXiv 2505.12346): advantages shrink where the answers of a group differ."""
    group_size = batch.rewards.shape[-1]
    disorder = advantages.semantic_entropy(answer_labels(batch)) / math.log(max(2, group_size))
    advantage = advantages.group_center(batch.rewards) * (1.0 - alpha * disorder)[..., None]
    loss = _clip(batch, advantage)
    return reductions.aggregate(loss, batch.mask, mode="seq-mean-token-sum-norm")


def answer_labels(batch: Batch) -> chex.Array:
    """A number for each answer, the same for the same answer: the first of its group like it,
    `[N, G]`.
    """
    tokens = batch.tokens
    return jnp.argmax(jnp.all(tokens[:, :, None] == tokens[:, None], axis=-1), axis=-1)


def polychromic(batch: Batch, *, kl_coef=0.01) -> chex.Array:
    """Polychromic PPO (arXiv 2509.25424) at the prompt: sets of answers share an advantage, which
    rewards right ones that differ. Four sets, each of half of the group.
    """
    size = batch.rewards.shape[-1]
    subsets = [[(i + j * size // 4) % size for i in range(max(1, size // 2))] for j in range(4)]
    labels = answer_labels(batch)
    advantage = rewards.set_advantage(batch.rewards, labels, jnp.array(subsets))
    drift = losses.approx_kl(batch.log_prob, batch.old_log_prob)
    loss = _clip(batch, advantage) + kl_coef * drift
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def redit(batch: Batch, *, scale=0.05, kl_coef=0.001) -> chex.Array:
    """ReDit (arXiv 2506.18631): GRPO on rewards with noise; dead groups become noise alone."""
    dithered = rewards.dither(batch.rewards, batch.key, scale=scale)
    return grpo(batch._replace(rewards=dithered), kl_coef=kl_coef)


def tempsamp_r1(batch: Batch, *, kl_coef=0.001) -> chex.Array:
    """TempSamp-R1 (arXiv 2509.18056): GRPO on rewards that are compressed above a threshold; its
    answer from a demonstration is not here.
    """
    return grpo(
        batch._replace(rewards=rewards.soft_threshold_reward(batch.rewards)), kl_coef=kl_coef
    )


def prs(batch: Batch) -> chex.Array:
    """PRS (arXiv 2512.07478): a later stage of an answer pays if all earlier ones were passed."""
    stages = batch.stages / batch.stages.shape[-1]
    advantage = advantages.group_normalize(rewards.staged_reward(stages, batch.stages))
    return reductions.aggregate(_clip(batch, advantage), batch.mask, mode="token-mean")


def epo(batch: Batch, *, entropy_coef=0.001) -> chex.Array:
    """EPO (arXiv 2509.22576): GRPO, and entropy held in a band around its past mean."""
    loss = _clip(batch, advantages.group_normalize(batch.rewards))
    outside = penalties.entropy_band_penalty(batch.entropy, batch.entropy_history)
    coef = entropy_coef * penalties.entropy_phase_weight(batch.progress)
    loss = loss - coef * (batch.entropy - outside)
    return reductions.aggregate(loss, batch.mask, mode="token-mean")


def egsw(batch: Batch, *, alpha=1.0, temperature=1.0, kl_coef=0.001) -> chex.Array:
    """EGSW (arXiv 2503.22456): a group's answers weighed by advantage and entropy.

    The paper tunes alpha and temperature to each task.
    """
    advantage = advantages.group_normalize(batch.rewards)
    entropy = reductions.sequence_mean(batch.entropy, batch.mask)
    weight = weights.entropy_advantage_weights(
        advantage, entropy, alpha=alpha, temperature=temperature
    )
    rows = reductions.sequence_mean(_clip(batch, advantage) + _kl(batch, kl_coef), batch.mask)
    return jnp.mean(jnp.sum(weight * rows, axis=-1))


def rec(batch: Batch) -> chex.Array:
    """REC-Ring (arXiv 2509.24203): importance-weighted, without what lies between the bounds."""
    advantage = _per_token(advantages.group_center(batch.rewards), batch)
    keep = surrogates.rec_mask(batch.log_ratio, advantage, mode="ring")
    loss = surrogates.truncated_importance_loss(
        batch.log_ratio, batch.log_prob, advantage, cap=jnp.inf
    )
    return reductions.aggregate(loss * keep, batch.mask, mode="token-mean")


def clip_cov(batch: Batch) -> chex.Array:
    """SPEAR's clip (arXiv 2509.22601): a few of the tokens that lower the entropy most do not
    learn. Its replay of good answers is not here.
    """
    advantage = _per_token(advantages.group_normalize(batch.rewards), batch)
    covariance = weights.advantage_log_prob_covariance(advantage, batch.log_prob, batch.mask)
    keep = weights.covariance_clip_mask(covariance, batch.mask, batch.key)
    loss = surrogates.clip_surrogate(batch.log_ratio, advantage, low=0.8, high=1.28)
    return reductions.aggregate(loss * keep, batch.mask, mode="token-mean")

"""The masks among the weights: which tokens, sequences and groups a loss is for.

A mask is 1.0 or 0.0, has no gradient, and is 0 where the mask that it was given is. `weights` has
all of these names, too.
"""

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32, descending_rank, group_std, select, share
from .reductions import masked_mean, masked_quantile

Array = chex.Array
Scalar = float | Array


@at_least_float32
def top_entropy_mask(entropy: Array, mask: Array, *, keep: Scalar = 0.2) -> Array:
    """The tokens of highest entropy of the whole batch: 1[H ≥ quantile_{1−keep}(H)].

    Args:
      entropy: H of the policy at each position, `[..., T]`, in nats.
      mask: 1 (or True) where a token counts, `[..., T]`.
      keep: share of the valid tokens that is kept, in [0, 1].

    Returns:
      The mask, `[..., T]`. The quantile is that of the batch.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Wang et al. 2025 (arXiv 2506.01939), as TRL has it. A mean over tokens still divides by
    all valid ones, which is ours to choose: TRL's denominator depends on its loss type.
    """
    threshold = masked_quantile(entropy, mask, q=1.0 - keep)
    return entropy_above(entropy, mask, threshold)


@at_least_float32
def entropy_above(entropy: Array, mask: Array, threshold: Scalar) -> Array:
    """The tokens whose entropy is at least a threshold that was made elsewhere: 1[H ≥ threshold].

    Args:
      entropy: H of the policy at each position, `[..., T]`, in nats.
      mask: 1 (or True) where a token counts, `[..., T]`.
      threshold: the least entropy that is kept, a scalar, in nats.

    Returns:
      The mask, `[..., T]`.

    Raises:
      AssertionError: entropy and mask differ in shape, or the threshold is no scalar.

    Source: as `top_entropy_mask`; after OmniQuality-R (arXiv 2510.10609) it is a gate, too, whose
    exact form was not available.
    """
    chex.assert_equal_shape([entropy, mask])
    chex.assert_rank(threshold, 0)
    return _as_weight((entropy >= threshold) & jnp.asarray(mask, bool), entropy)


@at_least_float32
def top_fraction_mask(score: Array, mask: Array, *, keep: Scalar = 0.4) -> Array:
    """The ⌈keep·n⌉ tokens of highest score of each row, n its valid tokens.

    Args:
      score: what a token is ranked by, `[..., T]`: `dependency` in VPPO, |A|·H in D³S.
      mask: 1 (or True) where a token counts, `[..., T]`.
      keep: share of the row's valid tokens that is kept, in [0, 1].

    Returns:
      The mask, `[..., T]`; of equal scores the earlier token.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: VPPO (arXiv 2510.09285), and its released code, which rounds up.
    """
    chex.assert_equal_shape([score, mask])
    valid = jnp.asarray(mask, bool)
    rank = descending_rank(jnp.where(valid, score, -jnp.inf))
    count = jnp.ceil(share(keep, jnp.sum(valid, axis=-1, keepdims=True)))
    return _as_weight(valid & (rank < count), score)


@at_least_float32
def max_variance_subset(advantage: Array, *, num: int) -> Array:
    """The num samples of the whole batch whose advantages have the largest variance.

    They are the j largest and the num − j smallest, for the best j.

    Args:
      advantage: of each sample, `[...]`; all axes are one set.
      num: how many are kept, static, from 1 to the number of samples.

    Returns:
      The mask, `[...]`; of equal variances the smallest j, of equal advantages the first among the
      largest. The advantages of those that are kept are not normalised again.

    Raises:
      ValueError: num is out of range.

    Source: D³S (arXiv 2509.22115), equations as two independent notes quote them.
    """
    size = advantage.size
    if not 1 <= num <= size:
        raise ValueError(f"num={num}: must be from 1 to the number of samples, {size}")
    descending = -jnp.sort(-advantage.ravel())

    def sums(x):
        largest, smallest = (
            jnp.concatenate([jnp.zeros_like(x[:1]), jnp.cumsum(each)]) for each in (x, x[::-1])
        )
        return largest[: num + 1] + smallest[num::-1]

    j = jnp.argmax(num * sums(jnp.square(descending)) - jnp.square(sums(descending)))
    rank = descending_rank(advantage.ravel()).reshape(advantage.shape)
    return _as_weight((rank < j) | (rank >= size - num + j), advantage)


@at_least_float32
def top_advantage_mask(advantage: Array, *, num: int) -> Array:
    """The num samples of each group whose advantages are largest in magnitude.

    Args:
      advantage: of each sample of a group, `[..., G]`.
      num: how many of the group are kept, static, from 1 to G; CPPO's is ⌊G·(1 − pruning rate)⌋.

    Returns:
      The mask, `[..., G]`; of equal magnitudes the earlier sample.

    Raises:
      ValueError: num is out of range.

    Source: CPPO (arXiv 2503.22342). What it puts into the freed places is the sampler's matter.
    """
    if not 1 <= num <= advantage.shape[-1]:
        raise ValueError(f"num={num}: must be from 1 to the group's {advantage.shape[-1]}")
    return _as_weight(descending_rank(jnp.abs(advantage)) < num, advantage)


@at_least_float32
def second_moment_mask(
    log_ratio: Array, advantage: Array, mask: Array, *, threshold: Scalar = 0.04
) -> Array:
    """Bounds the second moment of the batch's log-ratios by dropping the largest of those that the
    advantage pushes further out.

    Candidates are the tokens with A·log ρ > 0; by ascending (log ρ)² the longest run from the start
    stays whose mean is at most the threshold. All other tokens stay.

    Args:
      log_ratio: log ρ, log π(a|s) − log π_old(a|s), `[..., T]`.
      advantage: of each token, `[..., T]`, or of its sequence, `[..., 1]`.
      mask: 1 (or True) where a token counts, `[..., T]`.
      threshold: the largest mean of (log ρ)² over the candidates that stay; inf keeps all.

    Returns:
      The mask, `[..., T]`, for −A·ρ, whose mean divides by all valid tokens, dropped ones too.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: M2PO (arXiv 2510.01161), algorithm 1 and footnote 2; the search for a bound that its
    repository began with is another method.
    """
    chex.assert_equal_shape([log_ratio, mask])
    advantage = _of_each_token(advantage, log_ratio)
    valid = jnp.asarray(mask, bool)
    candidate = valid & (jnp.sign(advantage) * log_ratio > 0)
    square = jnp.where(candidate, jnp.square(log_ratio), jnp.inf).ravel()
    running_mean = jnp.cumsum(jnp.sort(square)) / jnp.arange(1, square.size + 1)
    kept = jnp.sum(running_mean <= threshold)
    rank = descending_rank(-square).reshape(log_ratio.shape)
    return _as_weight(valid & (~candidate | (rank < kept)), log_ratio)


@at_least_float32
def void_turn_mask(void: Array, turn_mask: Array) -> Array:
    """The trajectories none of whose turns is void.

    Args:
      void: whether a turn came to nothing, neither a call nor an answer, bool (or 0/1), of each
        turn, `[..., K]`.
      turn_mask: 1 (or True) where there is a turn, `[..., K]`.

    Returns:
      The mask, `[...]`, 1.0 or 0.0 of a trajectory.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: SimpleTIR (arXiv 2509.02479).
    """
    chex.assert_equal_shape([void, turn_mask])
    spoilt = jnp.any(jnp.asarray(void, bool) & jnp.asarray(turn_mask, bool), axis=-1)
    return _as_weight(~spoilt, void)


@at_least_float32
def spread_mask(rewards: Array, *, threshold: Scalar) -> Array:
    """The groups whose rewards differ: 1[std ≥ threshold], of every sample of the group.

    Args:
      rewards: of each sample of a group, `[..., G]`.
      threshold: the least standard deviation (of G − 1) that is kept; just above 0 it drops groups
        of equal rewards and of one.

    Returns:
      The mask, `[..., G]`.

    Source: the dynamic sampling of DAPO (arXiv 2503.14476); after OmniQuality-R (arXiv 2510.10609)
    with a threshold, where the paper's exact form was not available.
    """
    kept = (group_std(rewards) >= threshold)[..., None]
    return _as_weight(jnp.broadcast_to(kept, rewards.shape), rewards)


@at_least_float32
def advantage_log_prob_covariance(advantage: Array, log_prob: Array, mask: Array) -> Array:
    """What each token adds to the covariance of advantage and log-probability over the batch:
    (A − mean A)·(log π − mean log π).

    Args:
      advantage: of each token, `[..., T]`, or of its sequence, `[..., 1]`.
      log_prob: log π(a|s), `[..., T]`, in nats.
      mask: 1 (or True) where a token counts, `[..., T]`.

    Returns:
      The product, `[..., T]`, with stopped gradient; 0 where it is masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Cui et al. 2025 (arXiv 2505.22617), which SPEAR (arXiv 2509.22601) builds on.
    """
    chex.assert_equal_shape([log_prob, mask])
    advantage = _of_each_token(advantage, log_prob)
    product = (advantage - masked_mean(advantage, mask)) * (log_prob - masked_mean(log_prob, mask))
    return jax.lax.stop_gradient(select(product, mask))


@at_least_float32
def covariance_clip_mask(
    cov: Array,
    mask: Array,
    key: chex.PRNGKey,
    *,
    low: Scalar = 1.0,
    high: Scalar = 40.0,
    fraction: Scalar = 0.02,
) -> Array:
    """Drops a few tokens, drawn at random, of those that lower the entropy fastest.

    Drawn are ⌊fraction·n⌋ of the n valid tokens of the batch, at least one, from those with low ≤
    cov ≤ high, or all of these where they are fewer.

    Args:
      cov: as `advantage_log_prob_covariance` gives it, `[..., T]`.
      mask: 1 (or True) where a token counts, `[..., T]`.
      key: for the draw.
      low: the least covariance that may be dropped.
      high: the largest.
      fraction: share of the valid tokens that is dropped, in [0, 1]; 0 drops none.

    Returns:
      The mask, `[..., T]`.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: SPEAR (arXiv 2509.22601), and its released code; the clip-cov of Cui et al. 2025 (arXiv
    2505.22617) has fraction 2e-4, low 1 and high 5.
    """
    chex.assert_equal_shape([cov, mask])
    valid = jnp.asarray(mask, bool)
    candidate = valid & (low <= cov) & (cov <= high)
    lot = jnp.where(candidate, jax.random.uniform(key, cov.shape), -1.0)
    rank = descending_rank(lot.ravel()).reshape(cov.shape)
    count = jnp.maximum(jnp.floor(share(fraction, jnp.sum(valid))), jnp.sign(fraction))
    return _as_weight(valid & ~(candidate & (rank < count)), cov)


def _as_weight(kept: Array, like: Array) -> Array:
    return kept.astype(jnp.result_type(like, jnp.float32))


def _of_each_token(advantage: Array, like: Array) -> Array:
    """Of each token what is of each token, or of its sequence with one entry in the place of T."""
    chex.assert_equal_rank([advantage, like])
    chex.assert_equal_shape_prefix([advantage, like], like.ndim - 1)
    chex.assert_is_broadcastable(advantage.shape, like.shape)
    return jnp.broadcast_to(advantage, like.shape)

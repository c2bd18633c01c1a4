"""Log-ratios of sequences and items, and bounds of a ratio that depend on the data."""

import chex
import jax
import jax.numpy as jnp

from .._numerics import assert_fits, at_least_float32, safe_divide, select
from .reductions import masked_quantile, sequence_mean

Array = chex.Array
Scalar = float | Array


@at_least_float32
def sequence_log_ratio(log_prob: Array, old_log_prob: Array, mask: Array) -> Array:
    """The mean log-ratio of a sequence at each of its tokens: one ratio for all, length-normalised.

    With s the mean of log_prob − old_log_prob over the valid tokens: s at every token, and the
    gradient of each valid token is its own: sg(s) + log_prob − sg(log_prob). The gradients of
    −A·exp of it are −A·e^s at each token; their mean over the row is that of −A·e^s.

    Args:
      log_prob: log π of the drawn tokens under the policy that is trained, `[..., T]`, in nats.
      old_log_prob: log π_old under the policy that drew them, `[..., T]`.
      mask: 1 (or True) where a token counts, `[..., T]`.

    Returns:
      The log-ratio, `[..., T]`; 0 in a row without a valid token. A clip of it is a clip of the
      whole sequence: the paper's is to 1 − 3e-4 and 1 + 4e-4.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: GSPO (arXiv 2507.18071), in the form per token that verl and TRL have.
    """
    chex.assert_equal_shape([log_prob, old_log_prob, mask])
    mean = sequence_mean(log_prob - old_log_prob, mask)[..., None]
    own_gradient = select(log_prob - jax.lax.stop_gradient(log_prob), mask)
    return jax.lax.stop_gradient(mean) + own_gradient


@at_least_float32
def item_log_ratio(log_ratio: Array, item: Array, *, num_items: int) -> tuple[Array, Array]:
    """The mean log-ratio of the tokens of each item, for a sequence that is a list of items.

    Args:
      log_ratio: log π − log π_old of the drawn tokens, `[..., T]`, in nats; differentiated.
      item: which item a token belongs to, 0 to num_items − 1, int `[..., T]`; any other number (−1)
        for a token of no item, whose log-ratio may be NaN.
      num_items: L, static.

    Returns:
      (log_ratio, mask), both `[..., L]`: the means, and 1 where an item has a token, 0 where it has
      none, whose log-ratio is 0.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Rank-GRPO (arXiv 2510.20150): the ratio is exponentiated and clipped per item.
    """
    chex.assert_equal_shape([log_ratio, item])
    of_item = jax.nn.one_hot(item, num_items, axis=-2, dtype=bool)
    num_tokens = jnp.sum(of_item, axis=-1, dtype=log_ratio.dtype)
    total = jnp.sum(select(log_ratio[..., None, :], of_item), axis=-1)
    return safe_divide(total, num_tokens), jnp.sign(num_tokens)


@at_least_float32
def dynamic_clip_bounds(
    old_prob: Array, *, low: Scalar = 0.16, high: Scalar = 0.2, cap: Scalar = 10.0
) -> tuple[Array, Array]:
    """Bounds of the ratio that are wide where the action was improbable.

    With q the old probability: ½ + ½·√max(1 − 4·low/q, 0) and min(½ + ½·√(1 + 4·high/q), cap), the
    solutions of q·(ρ − ρ²) = low and q·(ρ² − ρ) = high.

    Args:
      old_prob: q = π_old(a|s) of the drawn action, `[...]`, in [0, 1].
      low: how far the ratio may go below 1, in units of q·(ρ − ρ²).
      high: how far it may go above 1, in units of q·(ρ² − ρ).
      cap: greatest upper bound, which a q of 0 has.

    Returns:
      (low, high), both `[...]` with stopped gradients, bounds of the ratio for `clip_surrogate`;
      the lower one is at least ½.

    Source: DCPO (arXiv 2509.02333). Its low and high are .16 and .2 in the readme, .2 and .28 in
    the scripts and .1 and .2 in the code's defaults.
    """
    inverse = 1.0 / jnp.maximum(old_prob, jnp.finfo(old_prob.dtype).tiny)
    below = 0.5 + 0.5 * jnp.sqrt(jnp.maximum(1.0 - 4.0 * low * inverse, 0.0))
    above = jnp.minimum(0.5 + 0.5 * jnp.sqrt(1.0 + 4.0 * high * inverse), cap)
    return jax.lax.stop_gradient((below, above))


@at_least_float32
def balanced_clip_bounds(
    ratio: Array,
    advantage: Array,
    mask: Array,
    *,
    low: Scalar = 0.6,
    high: Scalar = 1.2,
    low_max: Scalar = 0.9,
    high_max: Scalar = 3.0,
    step: Scalar = 0.05,
    target: Scalar = 1.0,
) -> tuple[Array, Array]:
    """Bounds of the ratio under which good actions weigh as much as bad ones in the batch.

    c = Σ_{A≥0} A·min(ρ, high)/Σ_{A<0} |A|·max(ρ, low). While c < target, low rises by step up to
    low_max, and then high up to high_max. A greater low makes c smaller, so that one that has to
    rise goes all the way; high stops at the first step with c ≥ target.

    Args:
      ratio: π/π_old of the drawn actions, `[..., T]`.
      advantage: A, `[..., T]`, or `[..., 1]` where it is one a sequence.
      mask: 1 (or True) where an action counts, `[..., T]`.
      low: lower bound to begin with.
      high: upper bound to begin with.
      low_max: greatest lower bound.
      high_max: greatest upper bound.
      step: by how much a bound rises in a turn; at 0 high stays.
      target: the least c. The paper states the share of the good, c/(1 + c) ≥ ½: a c of 1.

    Returns:
      (low, high), scalars of the whole batch with stopped gradients, for `clip_surrogate`; as given
      where nothing valid has a negative advantage.

    Raises:
      AssertionError: ratio and mask differ in shape, or the advantage fits neither.

    Source: BAPO (arXiv 2510.18927), the order of the search that of the released code.
    """
    chex.assert_equal_shape([ratio, mask])
    assert_fits(ratio, advantage)
    good = select(jnp.maximum(advantage, 0.0), mask)
    bad = select(jnp.maximum(-advantage, 0.0), mask)
    ratio = select(ratio, mask)

    def upper_bound(turn):
        return jnp.minimum(high + turn * step, jnp.maximum(high, high_max))

    def too_little(low, high):
        gain = jnp.sum(good * jnp.minimum(ratio, high))
        return gain < target * jnp.sum(bad * jnp.maximum(ratio, low))

    low = jnp.where(too_little(low, high), jnp.maximum(low, low_max), low)
    turns = jax.lax.while_loop(
        lambda turn: (
            too_little(low, upper_bound(turn)) & (upper_bound(turn + 1) > upper_bound(turn))
        ),
        lambda turn: turn + 1,
        0,
    )
    return jax.lax.stop_gradient((low, upper_bound(turns)))


@at_least_float32
def entropy_score(entropy: Array, mask: Array, *, q: Scalar = 0.8) -> Array:
    """Where the entropy of a position stands in the batch: from −1, the least, to 1, the greatest.

    x = log H − its q-quantile; where x > 0 it is divided by the greatest x, and where x < 0 by the
    size of the least. (A division by the root mean square before that cancels.)

    Args:
      entropy: H of the policy at a position, `[..., T]`, in nats; below 1e-6 it counts as that.
      mask: 1 (or True) where a position counts, `[..., T]`.
      q: share of the batch's positions below a score of 0.

    Returns:
      The score, `[..., T]`, in [−1, 1] with stopped gradient; 0 where it is masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: HAPO (arXiv 2509.16591), the range that the text gives. Deviation: the released code
    divides the negative part by its own least, which is negative, so that no score is below 0 and
    what it does at low entropy never happens.
    """
    chex.assert_equal_shape([entropy, mask])
    log_entropy = jnp.log(jnp.maximum(select(jax.lax.stop_gradient(entropy), mask), 1e-6))
    x = select(log_entropy - masked_quantile(log_entropy, mask, q=q), mask)
    above, below = jnp.maximum(x, 0.0), jnp.maximum(-x, 0.0)
    return safe_divide(above, jnp.max(above)) - safe_divide(below, jnp.max(below))


@at_least_float32
def entropy_clip_bounds(
    score: Array, *, low: Scalar = 0.2, high: Scalar = 0.28, alpha: Scalar = 1.0
) -> tuple[Array, Array]:
    """Bounds of the ratio, wider below 1 where entropy is low and wider above 1 where it is high.

    1 − low·(1 − α·min(s, 0)) and 1 + high·(1 + α·max(s, 0)). The paper also scales advantages by 1
    + β·s, where s > 0 if the ratio is outside of (1 − (1 − low')/2, 1 + (high' − 1)/2), low' and
    high' these bounds, and where s ≤ 0 if it is inside.

    Args:
      score: s, the `entropy_score`, `[...]`.
      low: distance of the lower bound from 1 at s = 0.
      high: distance of the upper bound from 1 at s = 0.
      alpha: how much the score widens; 0 is the plain clip.

    Returns:
      (low, high), both `[...]` with stopped gradients, bounds of the ratio for `clip_surrogate`.

    Source: HAPO (arXiv 2509.16591), with the range of the score that the text gives.
    """
    below = 1.0 - low * (1.0 - alpha * jnp.minimum(score, 0.0))
    above = 1.0 + high * (1.0 + alpha * jnp.maximum(score, 0.0))
    return jax.lax.stop_gradient((below, above))

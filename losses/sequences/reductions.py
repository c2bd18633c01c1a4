"""Sums, means and quantiles of what the mask lets count; `aggregate` makes a scalar of a loss."""

import math

import chex
import jax
import jax.numpy as jnp

from .._numerics import at_least_float32, centred, safe_divide, select, share

Array = chex.Array
Scalar = float | Array

MODES = ("token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm")


@at_least_float32
def sequence_sum(x: Array, mask: Array) -> Array:
    """Sum over time of what the mask lets count: Σ_t m_t·x_t.

    Args:
      x: anything per step, `[..., T]`; may hold NaN where it is masked.
      mask: 1 (or True) where a step counts, `[..., T]`.

    Returns:
      The sums, `[...]`; 0 for a row without a valid step.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition.
    """
    chex.assert_equal_shape([x, mask])
    return jnp.sum(select(x, mask), axis=-1)


@at_least_float32
def sequence_mean(x: Array, mask: Array) -> Array:
    """Mean over time of what the mask lets count: Σ_t m_t·x_t/Σ_t m_t.

    Args:
      x: anything per step, `[..., T]`; may hold NaN where it is masked.
      mask: 1 (or True) where a step counts, `[..., T]`.

    Returns:
      The means, `[...]`; 0 for a row without a valid step.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition.
    """
    chex.assert_equal_shape([x, mask])
    return safe_divide(jnp.sum(select(x, mask), axis=-1), _count(mask, axis=-1))


@at_least_float32
def masked_mean(x: Array, mask: Array) -> Array:
    """Mean of the whole batch, all axes, of what the mask lets count.

    Args:
      x: anything, `[...]`; may hold NaN where it is masked.
      mask: 1 (or True) where an entry counts, `[...]`.

    Returns:
      The mean, a scalar; 0 where nothing is valid.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition.
    """
    chex.assert_equal_shape([x, mask])
    return safe_divide(jnp.sum(select(x, mask)), _count(mask))


@at_least_float32
def masked_quantile(x: Array, mask: Array, *, q: Scalar) -> Array:
    """Quantile of the valid entries of the whole batch, a threshold.

    Of n valid entries in ascending order it is the one at the place q·(n − 1), counted from 0, and
    between two places linear.

    Args:
      x: anything, `[...]`; may hold NaN where it is masked.
      mask: 1 (or True) where an entry counts, `[...]`.
      q: share of the entries below the quantile, in [0, 1].

    Returns:
      The quantile, a scalar with stopped gradient; +inf where nothing is valid.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: Hyndman and Fan 1996, definition 7, which is numpy's default.
    """
    chex.assert_equal_shape([x, mask])
    ascending = jnp.sort(jnp.where(_is_valid(mask), x, jnp.inf).ravel())
    place = share(q, jnp.maximum(jnp.sum(_is_valid(mask)) - 1, 0))
    below = jnp.floor(place).astype(jnp.int32)
    above = jnp.ceil(place).astype(jnp.int32)
    step = jnp.where(above > below, ascending[above] - ascending[below], 0.0)
    return jax.lax.stop_gradient(ascending[below] + (place - below) * step)


@at_least_float32
def masked_whiten(x: Array, mask: Array, *, eps: Scalar = 1e-8) -> Array:
    """The valid entries of the whole batch at mean 0 and variance 1: (x − mean)/√(var + eps).

    The variance is that of n − 1; a single entry has none. Entries that are all equal give exactly
    0.

    Args:
      x: anything, `[...]`; may hold NaN where it is masked.
      mask: 1 (or True) where an entry counts, `[...]`.
      eps: added to the variance, above 0, in units of x squared.

    Returns:
      The whitened entries, `[...]`, differentiable by x; 0 where they are masked.

    Raises:
      AssertionError: the arrays differ in shape.

    Source: the definition; verl and TRL have the same under this name.
    """
    chex.assert_equal_shape([x, mask])
    centre = centred(x.ravel(), mask.ravel()).reshape(x.shape)
    variance = jnp.sum(jnp.square(centre)) / jnp.maximum(_count(mask) - 1.0, 1.0)
    return centre / jnp.sqrt(variance + eps)


@at_least_float32
def aggregate(
    loss: Array,
    mask: Array,
    *,
    mode: str,
    denominator: Scalar | None = None,
    horizon: Scalar | None = None,
) -> Array:
    """A scalar of the loss per token, in one of four modes; L is the loss, m the mask, B the rows.

      token-mean                ΣmL/Σm: every token weighs the same (DAPO)
      seq-mean-token-mean       mean over rows of Σ_t mL/Σ_t m: every row does (GRPO)
      seq-mean-token-sum        mean over rows of Σ_t mL: rows weigh by their length
      seq-mean-token-sum-norm   ΣmL/(B·horizon): no length enters (Dr. GRPO)

    A row is one that has a valid token, except in the last mode, whose denominator is a constant:
    there all are counted. A mean over a batch that is worked on in pieces needs the denominator of
    the whole: the sum of `aggregate(..., denominator=denominator(whole_mask, mode=mode))` over the
    pieces is the aggregate of the whole, and so are the gradients. Pieces are sets of rows or, in
    every mode but seq-mean-token-mean, of tokens.

    Args:
      loss: the loss per token, `[..., T]`; may hold NaN where it is masked.
      mask: 1 (or True) where a token counts, `[..., T]`.
      mode: one of the four names above, static.
      denominator: what the sum over rows is divided by, a scalar; the `denominator` of this mask
        unless given.
      horizon: tokens that a row is normalised by in seq-mean-token-sum-norm, T unless given; the
        other modes, and a given denominator, make no use of it.

    Returns:
      The aggregate, a scalar; 0 where the denominator is.

    Raises:
      AssertionError: loss and mask differ in shape, or the denominator is no scalar.
      ValueError: the mode is none of the four.

    Source: DAPO (arXiv 2503.14476), GRPO (arXiv 2402.03300), Dr. GRPO (arXiv 2503.20783); the names
    are those of verl. TRL's loss_type "bnpo" is the first mode, not the weight of BNPO.
    """
    chex.assert_equal_shape([loss, mask])
    if denominator is None:
        denominator = _rows_or_tokens(mask, mode, horizon)
    _require_mode(mode)
    chex.assert_rank(denominator, 0)
    per_row = sequence_mean if mode == "seq-mean-token-mean" else sequence_sum
    return safe_divide(jnp.sum(per_row(loss, mask)), denominator)


@at_least_float32
def denominator(mask: Array, *, mode: str, horizon: Scalar | None = None) -> Array:
    """What `aggregate` divides by for this mask: Σm, the number of rows, or B·horizon.

    Args:
      mask: 1 (or True) where a token counts, `[..., T]`, of the whole batch.
      mode: one of the four of `aggregate`, static.
      horizon: tokens that a row is normalised by in seq-mean-token-sum-norm, T unless given.

    Returns:
      The denominator, a scalar. Those of pieces of a batch, cut between rows, add up to that of the
      whole.

    Raises:
      ValueError: the mode is none of the four.

    Source: as `aggregate`.
    """
    return _rows_or_tokens(mask, mode, horizon)


def _rows_or_tokens(mask: Array, mode: str, horizon: Scalar | None) -> Array:
    _require_mode(mode)
    if mode == "token-mean":
        return _count(mask)
    if mode == "seq-mean-token-sum-norm":
        tokens = mask.shape[-1] if horizon is None else horizon
        return jnp.asarray(math.prod(mask.shape[:-1]) * tokens, _float_of(mask))
    return _count(jnp.any(_is_valid(mask), axis=-1))


def _require_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode={mode!r}: must be one of {', '.join(MODES)}")


def _is_valid(mask: Array) -> Array:
    return jnp.asarray(mask, bool)


def _count(mask: Array, axis: int | None = None) -> Array:
    return jnp.sum(_is_valid(mask), axis=axis, dtype=_float_of(mask))


def _float_of(mask: Array) -> jnp.dtype:
    return jnp.result_type(mask, jnp.float32)

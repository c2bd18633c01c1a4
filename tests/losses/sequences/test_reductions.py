"""Reductions by hand and by plain loops; the aggregates of pieces of a batch add up to its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onejit.losses.sequences import reductions

pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
MODES = reductions.MODES


def batch():
    """Two groups of three rows of five, one row without a valid step; what is masked is NaN or
    infinite.
    """
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(2, 3, 5)), rng.random((2, 3, 5)) < 0.6
    mask[0, 1] = False
    return np.where(mask, x, rng.choice([np.nan, np.inf, -np.inf], x.shape)), mask


def over_rows(reduce):
    """A loop over the rows of what is valid in them."""

    def loop(x, mask):
        result = np.zeros(x.shape[:-1])
        for row in np.ndindex(result.shape):
            result[row] = reduce([x[row][t] for t in range(x.shape[-1]) if mask[row][t]])
        return result

    return loop


def valid(x, mask):
    return [x[place] for place in np.ndindex(x.shape) if mask[place]]


def mean(entries):
    return sum(entries) / len(entries) if entries else 0.0


def whiten_loop(x, mask, eps):
    entries = valid(x, mask)
    variance = sum((each - mean(entries)) ** 2 for each in entries) / (len(entries) - 1)
    result = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if mask[place]:
            result[place] = (x[place] - mean(entries)) / (variance + eps) ** 0.5
    return result


def aggregate_loop(x, mask, mode, horizon=None):
    rows = [row for row in np.ndindex(x.shape[:-1]) if any(mask[row])]
    in_rows = [[x[row][t] for t in range(x.shape[-1]) if mask[row][t]] for row in rows]
    total = sum(map(sum, in_rows))
    if mode == "token-mean":
        return total / sum(map(len, in_rows))
    if mode == "seq-mean-token-mean":
        return sum(map(mean, in_rows)) / len(rows)
    if mode == "seq-mean-token-sum":
        return total / len(rows)
    return total / (x[..., 0].size * (horizon or x.shape[-1]))


LOOPS = {
    "sequence_sum": (reductions.sequence_sum, over_rows(sum)),
    "sequence_mean": (reductions.sequence_mean, over_rows(mean)),
    "masked_mean": (reductions.masked_mean, lambda x, mask: mean(valid(x, mask))),
    "masked_whiten": (
        functools.partial(reductions.masked_whiten, eps=0.1),
        functools.partial(whiten_loop, eps=0.1),
    ),
    **{
        mode: (
            functools.partial(reductions.aggregate, mode=mode),
            functools.partial(aggregate_loop, mode=mode),
        )
        for mode in MODES
    },
    "horizon": (
        functools.partial(reductions.aggregate, mode=MODES[3], horizon=7),
        functools.partial(aggregate_loop, mode=MODES[3], horizon=7),
    ),
}


def finite_differences(function, x, mask, step=1e-6):
    """The gradient by every entry, 0 where it is masked."""
    gradient = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        if mask[place]:
            up, down = x.copy(), x.copy()
            up[place] += step
            down[place] -= step
            gradient[place] = (function(up) - function(down)) / (2.0 * step)
    return gradient


@pytest.mark.parametrize("name", LOOPS)
def test_values_and_gradients_equal_those_of_plain_loops(name):
    reduction, loop = LOOPS[name]
    x, mask = batch()
    expected = loop(x, mask)
    weight = np.random.default_rng(1).normal(size=np.shape(expected))
    with jax.enable_x64(True):

        def weighed(x, mask):
            result = reduction(x, mask)
            return jnp.sum(weight * result), result

        compiled = jax.jit(jax.value_and_grad(weighed, has_aux=True))
        for kind in (bool, float):
            (_, result), gradient = compiled(x, mask.astype(kind))
            assert result.dtype == np.float64
            close(result, expected, rtol=1e-12, atol=1e-14)
            numeric = finite_differences(lambda x: np.sum(weight * loop(x, mask)), x, mask)
            close(gradient, numeric, rtol=1e-7, atol=1e-8)


# Three rows of three, one of them two long and one without a token.
LOSS = jnp.arange(1.0, 10.0).reshape(3, 3)
MASK = jnp.array([[1, 1, 0], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("mode", "horizon", "expected", "divisor"),
    [
        ("token-mean", None, 3.6, 5),  # (1 + 2 + 4 + 5 + 6)/5
        ("seq-mean-token-mean", None, 3.25, 2),  # ((1 + 2)/2 + (4 + 5 + 6)/3)/2
        ("seq-mean-token-sum", None, 9.0, 2),  # (3 + 15)/2
        ("seq-mean-token-sum-norm", None, 2.0, 9),  # 18/(3·3): the empty row counts
        ("seq-mean-token-sum-norm", 4, 1.5, 12),  # 18/(3·4)
    ],
)
def test_aggregate_by_hand(mode, horizon, expected, divisor):
    result = reductions.aggregate(LOSS, MASK, mode=mode, horizon=horizon)
    close(result, expected, rtol=1e-6)
    assert reductions.denominator(MASK, mode=mode, horizon=horizon) == divisor
    given = reductions.aggregate(LOSS, MASK, mode=mode, denominator=4 * divisor)
    close(given, expected / 4, rtol=1e-6)


@functools.cache
def compiled_aggregate(mode):
    def aggregate(loss, mask, denominator):
        return reductions.aggregate(loss, mask, mode=mode, denominator=denominator)

    return jax.jit(jax.value_and_grad(aggregate))


ROWS, LENGTH, PIECES = 4, 3, 3
entries = st.integers(-80, 80).map(lambda n: n / 8)


@settings(max_examples=30, deadline=None)
@given(
    loss=st.lists(entries, min_size=ROWS * LENGTH, max_size=ROWS * LENGTH),
    mask=st.lists(st.booleans(), min_size=ROWS * LENGTH, max_size=ROWS * LENGTH),
    piece_of_row=st.lists(st.integers(0, PIECES - 1), min_size=ROWS, max_size=ROWS),
    piece_of_token=st.lists(
        st.integers(0, PIECES - 1), min_size=ROWS * LENGTH, max_size=ROWS * LENGTH
    ),
)
def test_pieces_with_the_denominator_of_the_whole_add_up_to_it(
    loss, mask, piece_of_row, piece_of_token
):
    loss, mask, piece_of_token = (
        np.array(each).reshape(ROWS, LENGTH) for each in (loss, mask, piece_of_token)
    )
    loss = np.where(mask, loss, np.nan).astype(np.float32)
    row_sets = [np.flatnonzero(np.array(piece_of_row) == piece) for piece in range(PIECES)]
    row_sets = [rows for rows in row_sets if rows.size]
    for mode in MODES:
        divisor = reductions.denominator(mask, mode=mode)
        whole = reductions.aggregate(loss, mask, mode=mode)
        value, gradient = compiled_aggregate(mode)(loss, mask, divisor)
        close(value, whole, rtol=1e-6, atol=1e-6)

        # Cut between rows
        pieces = [compiled_aggregate(mode)(loss[rows], mask[rows], divisor) for rows in row_sets]
        close(sum(part for part, _ in pieces), whole, rtol=1e-5, atol=1e-5)
        in_place = np.zeros_like(loss)
        for rows, (_, part) in zip(row_sets, pieces, strict=True):
            in_place[rows] = part
        close(in_place, gradient, rtol=1e-6, atol=1e-7)
        divisors = [reductions.denominator(mask[rows], mode=mode) for rows in row_sets]
        assert sum(divisors) == divisor

        # Cut between tokens: a mean over a row needs the whole of it
        if mode != "seq-mean-token-mean":
            pieces = [
                compiled_aggregate(mode)(loss, mask & (piece_of_token == piece), divisor)
                for piece in range(PIECES)
            ]
            close(sum(part for part, _ in pieces), whole, rtol=1e-5, atol=1e-5)
            close(sum(part for _, part in pieces), gradient, rtol=1e-6, atol=1e-7)


def test_an_unknown_mode_is_refused_with_the_names_of_the_four():
    for call in (
        lambda mode: reductions.aggregate(LOSS, MASK, mode=mode),
        lambda mode: reductions.aggregate(LOSS, MASK, mode=mode, denominator=1.0),
        lambda mode: reductions.denominator(MASK, mode=mode),
    ):
        with pytest.raises(ValueError, match="mode='bnpo'") as caught:
            call("bnpo")
        assert all(mode in str(caught.value) for mode in MODES)


def test_a_denominator_per_row_is_refused():
    with pytest.raises(AssertionError):
        reductions.aggregate(LOSS, MASK, mode="token-mean", denominator=jnp.ones(3))


@pytest.mark.parametrize("name", LOOPS)
def test_where_nothing_is_valid_the_result_is_0_and_so_is_the_gradient(name):
    reduction, _ = LOOPS[name]
    nothing = jnp.full((2, 3), jnp.nan), jnp.zeros((2, 3), bool)
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(reduction(x, nothing[1])))(nothing[0])
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


def test_quantile_is_numpys_of_what_is_valid():
    x, mask = batch()
    with jax.enable_x64(True):
        quantile = jax.jit(reductions.masked_quantile)
        for q in (0.0, 0.2, 0.37, 0.5, 0.8, 1.0):
            close(quantile(x, mask, q=q), np.quantile(x[mask], q), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(
            jax.grad(lambda x: quantile(x, mask, q=0.4))(x), np.zeros_like(x)
        )


def test_quantile_by_hand():
    # Five valid entries, .1 .2 .6 .9 1: at .8·4 = 3.2, .9 + .2·(1 − .9)
    entropy = jnp.array([[0.2, 1.0, 0.6], [0.9, 0.1, 0.5]])
    mask = jnp.array([[1, 1, 1], [1, 1, 0]])
    close(reductions.masked_quantile(entropy, mask, q=0.8), 0.92, rtol=1e-6)
    only = jnp.zeros_like(mask).at[1, 0].set(1)
    close(reductions.masked_quantile(entropy, only, q=0.3), 0.9, rtol=1e-6)
    assert reductions.masked_quantile(entropy, jnp.zeros_like(mask), q=0.8) == np.inf


def test_a_quantile_that_is_an_entry_is_that_entry():
    # 0.3·50 is 15, and in float32 a little more: the next entry must have no part in it.
    x = jnp.arange(51.0).at[16:].set(1e6)
    assert np.float32(0.3) * np.float32(50.0) > 15.0
    for q in (0.3, jnp.float32(0.3)):
        assert reductions.masked_quantile(x, jnp.ones(51, bool), q=q) == x[15]


def test_whitened_entries_have_mean_0_and_variance_1_whatever_their_scale_and_place():
    x, mask = batch()
    x = x.astype(np.float32)
    for scale, place in ((1.0, 0.0), (3.0, 100.0)):
        whitened = np.asarray(reductions.masked_whiten(scale * x + place, mask))
        close(np.mean(whitened[mask]), 0.0, atol=1e-6)
        close(np.var(whitened[mask], ddof=1), 1.0, rtol=1e-5)
        np.testing.assert_array_equal(whitened[~mask], 0.0)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_equal_entries_are_whitened_to_exactly_0(count):
    mask = jnp.arange(5) < count
    x = jnp.where(mask, 0.1, jnp.nan)
    value, gradient = jax.value_and_grad(
        lambda x: jnp.sum(jnp.square(reductions.masked_whiten(x, mask)))
    )(x)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(5))

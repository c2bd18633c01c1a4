"""The masks against plain loops in float64, by their properties, and at the edges."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.losses.sequences import weights

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

ROWS, STEPS = 4, 6
# Compiled, because one program compiles faster than its operations one by one.
max_variance_subset = jax.jit(weights.max_variance_subset, static_argnames="num")
second_moment_mask = jax.jit(weights.second_moment_mask)


def batch(seed, num=1, dtype=np.float32):
    """Arrays of float32 numbers and a mask; NaN where it is masked, one row wholly."""
    rng = np.random.default_rng(seed)
    arrays = rng.normal(size=(num, ROWS, STEPS)).astype(np.float32).astype(dtype)
    mask = rng.random((ROWS, STEPS)) < 0.75
    mask[2] = False
    return *np.where(mask, arrays, np.nan), mask


def top_entropy_loop(entropy, mask, keep):
    threshold = np.quantile(entropy[mask], 1.0 - keep)
    return [
        [float(m and h >= threshold) for h, m in zip(*row, strict=True)]
        for row in zip(entropy, mask, strict=True)
    ]


def top_fraction_loop(score, mask, keep):
    kept = np.zeros(score.shape)
    for row, (scores, valid) in enumerate(zip(score, mask, strict=True)):
        order = sorted(np.flatnonzero(valid), key=lambda t: -scores[t])
        kept[row, order[: math.ceil(keep * len(order))]] = 1.0
    return kept


def second_moment_loop(log_ratio, advantage, mask, threshold):
    kept = mask.astype(float)
    pushed = [at for at in zip(*np.nonzero(mask), strict=True) if advantage[at] * log_ratio[at] > 0]
    pushed.sort(key=lambda at: log_ratio[at] ** 2)
    total = 0.0
    for count, at in enumerate(pushed, start=1):
        total += log_ratio[at] ** 2
        kept[at] = total / count <= threshold
    return kept


def covariance_loop(advantage, log_prob, mask):
    mean_a, mean_l = advantage[mask].mean(), log_prob[mask].mean()
    return np.where(mask, (advantage - mean_a) * (log_prob - mean_l), 0.0)


@pytest.mark.parametrize(
    ("function", "loop", "num", "hyperparameters"),
    [
        (weights.top_entropy_mask, top_entropy_loop, 1, [{"keep": 0.23}, {"keep": 0.77}]),
        (weights.top_fraction_mask, top_fraction_loop, 1, [{"keep": 0.4}, {"keep": 0.77}]),
        (
            weights.second_moment_mask,
            second_moment_loop,
            2,
            [{"threshold": 0.04}, {"threshold": 0.5}],
        ),
        (weights.advantage_log_prob_covariance, covariance_loop, 2, [{}]),
    ],
    ids=["top_entropy", "top_fraction", "second_moment", "covariance"],
)
def test_equals_a_plain_loop(function, loop, num, hyperparameters):
    function = jax.jit(function)
    for seed, each in itertools.product(range(3), hyperparameters):
        *arrays, mask = batch(seed, num)
        expected = loop(*np.asarray(arrays, np.float64), mask, **each)
        np.testing.assert_allclose(function(*arrays, mask, **each), expected, rtol=1e-5, atol=1e-6)


def test_an_advantage_of_each_row_is_that_of_its_tokens():
    log_ratio, mask = batch(0)
    advantage = np.random.default_rng(1).normal(size=(ROWS, 1)).astype(np.float32)
    of_tokens = np.broadcast_to(advantage, mask.shape)
    for function in (
        lambda a: weights.second_moment_mask(log_ratio, a, mask),
        lambda a: weights.advantage_log_prob_covariance(a, log_ratio, mask),
    ):
        np.testing.assert_array_equal(function(advantage), function(of_tokens))
        for refused in (advantage[:, 0], of_tokens[:1], of_tokens[:, :2]):
            with pytest.raises(AssertionError):
                function(refused)


@pytest.mark.parametrize(
    "function",
    [
        weights.top_entropy_mask,
        weights.top_fraction_mask,
        lambda x, mask: weights.entropy_above(x, mask, jnp.float32(0.0)),
        lambda x, mask: weights.second_moment_mask(x, x, mask),
        lambda x, mask: weights.advantage_log_prob_covariance(x, x, mask),
        lambda x, mask: weights.covariance_clip_mask(x, mask, jax.random.key(0)),
    ],
    ids=["top_entropy", "top_fraction", "above", "second_moment", "covariance", "clip"],
)
def test_nothing_valid_gives_zeros(function):
    x = np.full((ROWS, STEPS), np.nan, np.float32)
    result = jax.jit(function)(x, np.zeros(x.shape, bool))
    np.testing.assert_array_equal(result, np.zeros(x.shape))


def test_keeping_all_gives_the_mask_back_and_a_mask_of_numbers_is_as_good():
    x, mask = batch(5)
    for kept in (
        weights.top_entropy_mask(x, mask, keep=1.0),
        weights.top_fraction_mask(x, mask.astype(np.float32), keep=1.0),
        weights.entropy_above(x, mask.astype(np.int32), jnp.float32(-np.inf)),
        weights.second_moment_mask(x, x, mask, threshold=np.inf),
        weights.covariance_clip_mask(x, mask, jax.random.key(0), fraction=0.0),
    ):
        assert kept.dtype == jnp.float32
        np.testing.assert_array_equal(kept, mask)


def test_top_fraction_of_equal_scores_keeps_the_earlier():
    kept = weights.top_fraction_mask(jnp.zeros((1, 5)), jnp.array([[0, 1, 1, 1, 1]]), keep=0.4)
    np.testing.assert_array_equal(kept, [[0, 1, 1, 0, 0]])  # ⌈0.4·4⌉ = 2


def test_top_fraction_rounds_up_what_is_no_integer_alone():
    # keep·n of float32 is not to fall on the other side of an integer.
    n = np.arange(1, 101)
    mask = np.arange(100) < n[:, None]
    top_fraction_mask = jax.jit(weights.top_fraction_mask)
    for percent in (2, 4, 5, 10, 20, 25, 30, 40, 50, 60, 70, 80, 90):
        kept = top_fraction_mask(jnp.zeros(mask.shape), mask, keep=percent / 100)
        np.testing.assert_array_equal(jnp.sum(kept, axis=-1), -(-percent * n // 100))


@pytest.mark.parametrize("num", range(1, 8))
def test_max_variance_subset_equals_trying_all(num):
    for seed in range(3):
        advantage = np.random.default_rng(seed).normal(size=7).astype(np.float32)
        subsets = list(itertools.combinations(range(7), num))
        best = max(subsets, key=lambda at: np.var(advantage[list(at)].astype(np.float64)))
        kept = max_variance_subset(advantage, num=num)
        if num > 1:  # one alone has no variance: all are equal, and the smallest is taken
            np.testing.assert_array_equal(np.flatnonzero(kept), best)
        assert jnp.sum(kept) == num


def test_max_variance_subset_of_equal_splits_has_the_fewest_large_ones():
    # {1, −1, −1} and {1, 1, −1} vary alike: the three smallest, without the first of the 1s.
    # 0.866024 is what a group of two and two normalises to.
    for scale in (1.0, 0.866024):
        advantage = jnp.array([[1.0, -1.0], [-1.0, 1.0]]) * scale
        kept = max_variance_subset(advantage, num=3)
        np.testing.assert_array_equal(kept, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(weights.max_variance_subset(advantage, num=4), np.ones((2, 2)))


def test_top_advantage_mask_keeps_the_largest_of_each_group_and_the_earlier_of_equals():
    advantage = jnp.array([[0.5, -2.0, 1.0, -1.0], [0.0, 0.0, 0.0, 0.0]])
    kept = weights.top_advantage_mask(advantage, num=2)
    np.testing.assert_array_equal(kept, [[0, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(weights.top_advantage_mask(advantage, num=4), np.ones((2, 4)))


@pytest.mark.parametrize("function", [weights.max_variance_subset, weights.top_advantage_mask])
@pytest.mark.parametrize("num", [0, 5])
def test_a_size_out_of_range_is_refused(function, num):
    with pytest.raises(ValueError, match=f"num={num}: must be from 1 to"):
        function(jnp.zeros(4), num=num)


@pytest.mark.parametrize("threshold", [0.01, 0.04, 0.1])
def test_second_moment_mask_is_the_longest_within_the_threshold(threshold):
    log_ratio, advantage, mask = batch(7, 2)
    log_ratio *= 0.5
    kept = np.asarray(second_moment_mask(log_ratio, advantage, mask, threshold=threshold))
    candidate = mask & (np.nan_to_num(advantage * log_ratio) > 0)
    np.testing.assert_array_equal(kept[~candidate], mask[~candidate])
    squares, stays = log_ratio[candidate] ** 2, kept[candidate] > 0
    assert np.sum(squares[stays]) <= threshold * np.sum(stays) * (1 + 1e-6)
    one_more = np.append(squares[stays], np.min(squares[~stays]))
    assert np.mean(one_more) > threshold


def test_void_turn_mask_looks_at_valid_turns_alone():
    void = jnp.array([[0, 1, 1], [0, 0, 1], [1, 1, 1]])
    turns = jnp.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(weights.void_turn_mask(void, turns), [0, 1, 1])


def test_spread_mask_drops_groups_of_equal_rewards_and_of_one():
    rewards = jnp.array([[0.1, 0.1, 0.1], [0.1, 0.1, 0.2], [0.0, 1.0, 0.0]])
    # std of G − 1: 0, √(2·0.0333² + 0.0667²)/√2 = 0.0577, 0.577
    for threshold, expected in ((1e-9, [0, 1, 1]), (0.1, [0, 0, 1]), (0.0, [1, 1, 1])):
        kept = weights.spread_mask(rewards, threshold=threshold)
        np.testing.assert_array_equal(kept, np.repeat(expected, 3).reshape(3, 3))
    np.testing.assert_array_equal(weights.spread_mask(rewards[:, :1], threshold=1e-9), [[0]] * 3)


def test_covariance_clip_mask_drops_so_many_of_those_in_the_interval():
    rng = np.random.default_rng(0)
    mask = rng.random((8, 25)) < 0.9
    cov = np.where(mask, rng.exponential(size=mask.shape), np.nan).astype(np.float32)
    candidates = mask & (np.nan_to_num(cov) >= 1.0) & (np.nan_to_num(cov) <= 2.0)
    keys = jax.random.split(jax.random.key(0), 500)

    @jax.jit
    def dropped_of_each(keys, fraction):
        def one(key):
            return weights.covariance_clip_mask(
                cov, mask, key, low=1.0, high=2.0, fraction=fraction
            )

        return jnp.float32(mask)[None] - jax.vmap(one)(keys)

    for fraction in (0.001, 0.1, 0.9):
        expected = min(max(int(fraction * mask.sum()), 1), candidates.sum())
        dropped = np.asarray(dropped_of_each(jax.random.clone(keys), fraction))
        np.testing.assert_array_equal(dropped.sum(axis=(1, 2)), expected)
        assert np.all(dropped[:, ~candidates] == 0)
    share = np.mean(dropped_of_each(jax.random.clone(keys), 0.1), axis=0)[candidates]
    chance = int(0.1 * mask.sum()) / candidates.sum()
    assert np.all(np.abs(share - chance) < 5 * np.sqrt(chance * (1 - chance) / 500))

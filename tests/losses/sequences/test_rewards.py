"""The rewards by hand, by enumeration of subsets and by plain loops, and what their papers say."""

import fractions
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.losses.sequences import rewards

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def rows(loop, *arrays):
    """A loop over the last axis, for every row of the axes before it."""
    leading = arrays[0].shape[:-1]
    results = [loop(*(array[row] for array in arrays)) for row in np.ndindex(leading)]
    return np.reshape(results, leading + np.shape(results[0]))


# max@k


def enumerated(reward, delta, k):
    """Per element, Σ over the k-subsets with it of their maximum, to first order in δ."""
    n = len(reward)
    result = np.zeros(n)
    for subset in itertools.combinations(range(n), k):
        share = (1.0 + sum(delta[i] for i in subset)) * max(reward[i] for i in subset)
        result[list(subset)] += share / math.comb(n, k)
    return result


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6])
def test_max_at_k_equals_the_enumeration_of_subsets(k):
    reward, delta = uniform(2, 3, 6), uniform(2, 3, 6, seed=1) - 0.5
    reward[0, 0] = [1, 0, 0, 1, 1, 0]
    with jax.enable_x64(True):
        zero = np.zeros_like(reward)
        on_policy = jax.jit(lambda r: rewards.max_at_k(r, k=k))(reward)
        close(on_policy, rows(lambda r, d: enumerated(r, d, k), reward, zero), rtol=1e-12)
        off_policy = jax.jit(lambda r, d: rewards.max_at_k_off_policy(r, d, k=k))
        expected = rows(lambda r, d: enumerated(r, d, k), reward, delta)
        close(off_policy(reward, delta), expected, rtol=1e-12, atol=1e-15)
        close(off_policy(reward, zero), on_policy, rtol=1e-12)


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (1, [0.05, 0.25, 0.125, 0.0]),  # r/4
        # Of the six pairs .2 is in those of maximum .2, .5 and 1; 1 in three of 1; and so on.
        (2, [1.7 / 6, 3.0 / 6, 2.0 / 6, 1.7 / 6]),
        (4, [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_max_at_k_by_hand(k, expected):
    close(rewards.max_at_k(jnp.array([0.2, 1.0, 0.5, 0.0]), k=k), expected, rtol=1e-6)


def test_max_at_k_of_a_large_group_adds_up_to_k_times_the_expected_maximum():
    # Binomials up to C(64, 32) = 1.8e18, beyond float32's integers
    reward, k = uniform(64), 32
    expected = sum(
        fractions.Fraction(math.comb(rank - 1, k - 1), math.comb(64, k)) * fractions.Fraction(each)
        for rank, each in enumerate(np.sort(reward), start=1)
    )
    coefficients = rewards.max_at_k(jnp.float32(reward), k=k)
    close(np.sum(coefficients), float(k * expected), rtol=1e-5)


def test_ties_have_equal_coefficients():
    tied = rewards.max_at_k(jnp.array([1.0, 0.3, 1.0, 0.3, 1.0, 0.3]), k=3)
    close(tied, np.where(np.arange(6) % 2, tied[1], tied[0]), rtol=1e-6)


@pytest.mark.parametrize("k", [0, 5])
def test_a_subset_that_is_no_subset_is_refused(k):
    with pytest.raises(ValueError, match=rf"k={k}: must be in 1\.\.4"):
        rewards.max_at_k(jnp.zeros((3, 4)), k=k)


# dither


@pytest.mark.parametrize(("kind", "std"), [("normal", 0.05), ("uniform", 0.05 / math.sqrt(3))])
def test_dither_keeps_the_mean_and_has_the_scale_it_is_given(kind, std):
    dithered = rewards.dither(jnp.ones((100, 200)), jax.random.key(1), scale=0.05, kind=kind)
    noise = np.asarray(dithered) - 1.0
    close(np.mean(noise), 0.0, atol=4.0 * std / math.sqrt(noise.size))
    close(np.std(noise), std, rtol=0.02)
    if kind == "uniform":
        assert 0.049 < np.max(np.abs(noise)) <= 0.05 + 1e-6


def test_dither_is_decided_by_its_key_and_off_at_scale_0():
    reward = jnp.array([1.0, 0.0, 0.0, 1.0])
    first, again, other = (
        rewards.dither(reward, jax.random.key(seed), scale=0.1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)
    np.testing.assert_array_equal(rewards.dither(reward, jax.random.key(0), scale=0.0), reward)


def test_a_kind_of_noise_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="kind='cauchy': must be one of normal, uniform"):
        rewards.dither(jnp.zeros(3), jax.random.key(0), scale=0.1, kind="cauchy")


# staged_reward


def staged_loop(stage, passed):
    total = 0.0
    for reward, through in zip(stage, passed, strict=True):
        total += reward
        if not through:
            break
    return total


def test_a_stage_pays_only_if_all_before_it_were_passed():
    passed = np.array(list(itertools.product([False, True], repeat=4)))
    stage = uniform(16, 4)
    expected = rows(staged_loop, stage, passed)
    with jax.enable_x64(True):
        for kind in (bool, float):
            close(rewards.staged_reward(stage, passed.astype(kind)), expected, rtol=1e-12)
    reached = np.cumprod(np.pad(passed[:, :-1], ((0, 0), (1, 0)), constant_values=True), axis=-1)
    unknown = np.where(reached, stage, np.nan).astype(np.float32)
    total = rewards.staged_reward(unknown, passed)
    close(total, expected, rtol=1e-6)
    # All passed: the plain sum. The first failed: the first alone.
    close(total[-1], np.sum(stage[-1]), rtol=1e-6)
    close(total[0], stage[0, 0], rtol=1e-6)


def test_a_staged_reward_does_not_fall_when_more_is_passed():
    passed = np.array(list(itertools.product([False, True], repeat=4)))
    total = rewards.staged_reward(np.tile(np.float32([1.0, 0.5, 0.0, 2.0]), (16, 1)), passed)
    for i, j in itertools.product(range(16), repeat=2):
        if np.all(passed[i] <= passed[j]):
            assert total[i] <= total[j]


# soft_threshold_reward and gaussian_score_reward


def soft_threshold_loop(reward, threshold, compress, expand):
    if reward >= threshold:
        return threshold + compress * math.log(reward - threshold + 1.0)
    distance = math.exp(expand * (threshold - reward)) - 1.0
    return threshold - distance / (math.exp(expand) - 1.0)


@pytest.mark.parametrize("constants", [(0.8, 0.01, 1.0), (0.3, 1.0, 2.5)])
def test_soft_threshold_equals_its_two_branches(constants):
    reward = np.linspace(-1.0, 2.0, 31)
    hyperparameters = dict(zip(("threshold", "compress", "expand"), constants, strict=True))
    with jax.enable_x64(True):
        shaped = rewards.soft_threshold_reward(reward, **hyperparameters)
        close(shaped, [soft_threshold_loop(each, *constants) for each in reward], rtol=1e-12)
    assert np.all(np.diff(shaped) > 0.0)


def test_soft_threshold_by_hand():
    # .8 + .01·ln 1.2; .8 − (e^.3 − 1)/(e − 1) = .8 − .349859/1.718282; one below: −(e − 1)/(e − 1)
    shaped = rewards.soft_threshold_reward(jnp.array([1.0, 0.8, 0.5, -0.2]))
    close(shaped, [0.801823, 0.8, 0.596390, -0.2], atol=1e-6)


def test_soft_threshold_is_continuous_and_its_slope_above_is_what_compress_says():
    step = 1e-6
    with jax.enable_x64(True):
        for compress in (0.01, 1.0):
            below, at, above = rewards.soft_threshold_reward(
                0.8 + step * jnp.array([-1.0, 0.0, 1.0]), compress=compress
            )
            assert at == 0.8
            close(below, at, atol=2.0 * step)
            close((above - at) / step, compress, rtol=1e-5)


def test_a_gaussian_reward_is_1_at_the_target_and_falls_with_the_distance_in_sigmas():
    score = jnp.array([3.0, 3.5, 2.5, 4.0])
    expected = np.exp([0.0, -0.5, -0.5, -2.0])
    close(rewards.gaussian_score_reward(score, jnp.full(4, 3.0), sigma=0.5), expected, rtol=1e-6)
    close(rewards.gaussian_score_reward(score, 3.0, sigma=0.5), expected, rtol=1e-6)


# information_gain


def test_gains_of_information_are_differences_and_add_up():
    gain = rewards.information_gain(jnp.array([0.1, 0.3, 0.2, 0.6]))
    close(gain, [0.2, -0.1, 0.4], rtol=1e-6)
    probability = uniform(3, 5).astype(np.float32)
    total = np.sum(rewards.information_gain(probability), axis=-1)
    close(total, probability[:, -1] - probability[:, 0], rtol=1e-5, atol=1e-6)


# set_scores and set_advantage

SUBSETS = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 0], [1, 3, 5]])  # of seven: the last is in none


def score_loop(returns, labels):
    return [
        sum(returns[i] for i in members) / 3 * len({labels[i] for i in members}) / 3
        for members in SUBSETS
    ]


def advantage_loop(returns, labels):
    scores = score_loop(returns, labels)
    result = []
    for i in range(len(returns)):
        mine = [score for score, members in zip(scores, SUBSETS, strict=True) if i in members]
        result.append(sum(mine) / len(mine) - sum(scores) / len(scores) if mine else 0.0)
    return result


def test_sets_are_scored_by_their_mean_return_and_their_distinct_labels():
    returns = uniform(2, 4, 7)
    labels = np.random.default_rng(1).integers(4, size=(2, 4, 7))
    with jax.enable_x64(True):
        scores = rewards.set_scores(returns, labels, SUBSETS)
        close(scores, rows(score_loop, returns, labels), rtol=1e-12)
        advantage = rewards.set_advantage(returns, labels, SUBSETS)
        close(advantage, rows(advantage_loop, returns, labels), rtol=1e-10, atol=1e-15)


def test_sets_by_hand():
    # Means .75, .25; both labels of the first differ, those of the second do not: .75·2/2, .25·1/2.
    returns, labels = jnp.array([1.0, 0.5, 0.5, 0.0]), jnp.array([0, 1, 2, 2])
    subsets = jnp.array([[0, 1], [2, 3]])
    np.testing.assert_array_equal(rewards.set_scores(returns, labels, subsets), [0.75, 0.125])
    # ∓ half of the difference: that of each set for its two, which add up to 0
    advantage = rewards.set_advantage(returns, labels, subsets)
    np.testing.assert_array_equal(advantage, [0.3125, 0.3125, -0.3125, -0.3125])


def test_sets_of_one_label_score_a_share_and_equal_sets_have_no_advantage():
    returns = jnp.float32(uniform(3, 7))
    scores = rewards.set_scores(returns, jnp.zeros((3, 7), int), SUBSETS)
    close(scores, np.mean(returns[:, SUBSETS], axis=-1) / 3, rtol=1e-6)
    advantage = rewards.set_advantage(jnp.full((3, 7), 0.7), jnp.ones((3, 7), int), SUBSETS)
    np.testing.assert_array_equal(advantage, np.zeros((3, 7)))


# fused_ranking_reward


def ranking_loop(scores, target, weight, cutoff):
    rank = 1 + sum(score > scores[target] for score in scores)
    softmax = math.exp(scores[target]) / sum(math.exp(score) for score in scores)
    return (1 - weight) * (rank <= cutoff) / math.log2(rank + 1) + weight * softmax


@pytest.mark.parametrize("cutoff", [1, 3, 1000])
def test_ranking_reward_equals_a_plain_loop(cutoff):
    rng = np.random.default_rng(0)
    scores, target = rng.normal(size=(20, 6)), rng.integers(6, size=20)
    expected = [
        ranking_loop(*each, weight=0.3, cutoff=cutoff) for each in zip(scores, target, strict=True)
    ]
    with jax.enable_x64(True):
        reward = rewards.fused_ranking_reward(scores, target, weight=0.3, cutoff=cutoff)
        close(reward, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("scores", "target", "expected"),
    [
        # Rank 2: .95/log2(3) + .05·e/(e² + e + e^.5) = .599382 + .05·.231224
        ([2.0, 1.0, 0.5], 1, 0.610944),
        ([1.0, 1.0], 1, 0.975),  # a tie is in favour of the target: .95 + .05/2
    ],
)
def test_ranking_reward_by_hand(scores, target, expected):
    close(rewards.fused_ranking_reward(jnp.array(scores), target), expected, atol=1e-6)


# What holds for all


@pytest.mark.parametrize(
    "reward",
    [
        lambda x: rewards.max_at_k_off_policy(x, x, k=2),
        lambda x: rewards.dither(x, jax.random.key(0), scale=0.1),
        lambda x: rewards.staged_reward(x, x > 0.5),
        lambda x: rewards.soft_threshold_reward(x),
        lambda x: rewards.gaussian_score_reward(x, 0.5, sigma=0.1),
        lambda x: rewards.information_gain(x),
        lambda x: rewards.set_scores(x, x > 0.5, SUBSETS),
        lambda x: rewards.set_advantage(x, x > 0.5, SUBSETS),
        lambda x: rewards.fused_ranking_reward(x, 1),
    ],
)
def test_rewards_are_data(reward):
    x = jnp.float32(uniform(7))
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(reward(x)))(x), np.zeros(7))

"""Advantages of sequences against their group, a baseline, the batch and the past: plain loops, and
what the papers say of them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from onejit.losses.sequences import advantages

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal

(
    anchored_advantage,
    asymmetric_advantage,
    best_minus_second,
    beta_normalize,
    cumulative_normalize,
    gradient_weighted_baseline,
    group_center,
    group_normalize,
    leave_one_out,
    semantic_entropy,
    signed_advantage,
    sil_advantage,
    token_weighted_normalize,
    whitened_group_center,
) = map(
    jax.jit,
    (
        advantages.anchored_advantage,
        advantages.asymmetric_advantage,
        advantages.best_minus_second,
        advantages.beta_normalize,
        advantages.cumulative_normalize,
        advantages.gradient_weighted_baseline,
        advantages.group_center,
        advantages.group_normalize,
        advantages.leave_one_out,
        advantages.semantic_entropy,
        advantages.signed_advantage,
        advantages.sil_advantage,
        advantages.token_weighted_normalize,
        advantages.whitened_group_center,
    ),
)
opmd_advantage = jax.jit(advantages.opmd_advantage, static_argnames="baseline")
segment_normalize = jax.jit(advantages.segment_normalize, static_argnames="num_segments")


def opmd(rewards):
    return opmd_advantage(rewards, tau=0.7)


def opmd_log_mean_exp(rewards):
    return opmd_advantage(rewards, tau=0.7, baseline="log_mean_exp")


def rewards_of(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


REWARDS = rewards_of(2, 3, 5)
EQUAL = np.full((3, 7), 0.1, np.float32)  # 0.1 is no binary fraction: their mean may be another
RELATIVE = [
    group_normalize,
    group_center,
    leave_one_out,
    whitened_group_center,
    best_minus_second,
    opmd,
    opmd_log_mean_exp,
]
relative = pytest.mark.parametrize(
    "function", RELATIVE, ids=[function.__name__ for function in RELATIVE]
)


def best_minus_second_loop(r):
    best = max(range(len(r)), key=lambda i: r[i])
    return [
        x - max(r[j] for j in range(len(r)) if j != i) if i == best else 0.0
        for i, x in enumerate(r)
    ]


LOOPS = {
    group_normalize: lambda r: [
        (x - sum(r) / 5) / ((sum((y - sum(r) / 5) ** 2 for y in r) / 4) ** 0.5 + 1e-6) for x in r
    ],
    group_center: lambda r: [x - sum(r) / 5 for x in r],
    leave_one_out: lambda r: [x - (sum(r) - x) / 4 for x in r],
    best_minus_second: best_minus_second_loop,
    asymmetric_advantage: lambda r: [x - (sum(r) / 5 - 0.1) for x in r],
    opmd: lambda r: [(x - sum(r) / 5) / 1.7 for x in r],
    opmd_log_mean_exp: lambda r: [
        (x - 0.7 * np.log(sum(np.exp(y / 0.7) for y in r) / 5)) / 1.7 for x in r
    ],
    anchored_advantage: lambda r: [*r, 1.2 * max(r)],
}


@pytest.mark.parametrize("function", LOOPS, ids=[function.__name__ for function in LOOPS])
def test_equals_a_plain_loop(function):
    expected = np.apply_along_axis(LOOPS[function], -1, REWARDS.astype(np.float64))
    close(function(REWARDS), expected, rtol=1e-5, atol=1e-6)


def test_whitened_group_center_equals_numpy_over_the_batch():
    centre = REWARDS.astype(np.float64)
    centre = centre - centre.mean(-1, keepdims=True)
    close(whitened_group_center(REWARDS), centre / centre.std(ddof=1), rtol=1e-5, atol=1e-6)


# What all that compare within a group share


@relative
def test_equal_rewards_have_no_advantage_at_all(function):
    equal(function(EQUAL), np.zeros_like(EQUAL))


@relative
def test_a_group_of_one_has_none(function):
    alone = rewards_of(3, 1)
    equal(function(alone), np.zeros_like(alone))


@relative
def test_only_differences_of_rewards_matter(function):
    close(function(REWARDS + 3.0), function(REWARDS), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    "function", [group_normalize, group_center, leave_one_out, whitened_group_center, opmd]
)
def test_advantages_of_a_group_sum_to_0(function):
    close(np.sum(function(REWARDS), axis=-1), np.zeros((2, 3)), atol=2e-6)


def test_the_unit_of_the_reward_does_not_matter_where_it_is_divided_by_the_deviation():
    for function in (group_normalize, whitened_group_center):
        close(function(100.0 * REWARDS), function(REWARDS), rtol=1e-5, atol=2e-6)


@relative
def test_integers_are_rewards_too(function):
    correct = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], np.int32)
    close(function(correct), function(correct.astype(np.float32)), rtol=1e-6)


def test_two_best_of_a_group_have_no_lead():
    equal(best_minus_second(jnp.array([[1.0, 2.0, 2.0], [3.0, 1.0, 2.0]])), [[0] * 3, [1, 0, 0]])


# Baselines


def test_asymmetric_advantage_without_a_shift_is_group_center_and_of_equal_rewards_is_the_shift():
    close(asymmetric_advantage(REWARDS, shift=0.0), group_center(REWARDS), rtol=1e-6)
    equal(asymmetric_advantage(EQUAL, shift=-0.25), np.full_like(EQUAL, 0.25))


def test_opmd_at_a_high_temperature_has_the_mean_for_a_baseline_and_at_a_low_one_the_best():
    hot = {"tau": 1e4}
    close(
        opmd_advantage(REWARDS, **hot, baseline="log_mean_exp") * (1.0 + 1e4),
        group_center(REWARDS),
        rtol=1e-3,
        atol=1e-3,
    )
    cold = opmd_advantage(REWARDS, tau=1e-4, baseline="log_mean_exp")
    close(cold, REWARDS - REWARDS.max(-1, keepdims=True), rtol=1e-3, atol=1e-3)


def test_opmd_refuses_another_baseline():
    with pytest.raises(ValueError, match="mean or log_mean_exp"):
        advantages.opmd_advantage(REWARDS, baseline="median")


def test_positive_and_negative_reinforcement_add_up():
    correct = np.array([True, False, False, True])
    psr = signed_advantage(correct, positive_weight=1.0, negative_weight=0.0)
    nsr = signed_advantage(correct, positive_weight=0.0, negative_weight=1.0)
    equal(psr + nsr, 2.0 * correct - 1.0)


def test_the_baseline_by_gradients_is_where_the_weighted_error_is_least():
    weights = np.square(rewards_of(2, 3, 5, seed=1))
    baseline = np.asarray(gradient_weighted_baseline(REWARDS, weights), np.float64)
    close(baseline, (weights * REWARDS).sum(-1) / weights.sum(-1), rtol=1e-5, atol=1e-6)

    def error(b):
        return np.sum(weights * np.square(REWARDS - b[..., None]), axis=-1)

    assert np.all(error(baseline) < error(baseline + 0.01))
    assert np.all(error(baseline) < error(baseline - 0.01))


@pytest.mark.parametrize("norm", [0.0, 2.0])
def test_the_baseline_by_gradients_of_the_same_norm_is_the_mean(norm):
    weights = np.full_like(REWARDS, norm)
    close(gradient_weighted_baseline(REWARDS, weights), REWARDS.mean(-1), rtol=1e-5, atol=1e-6)


# Meaning


def semantic_entropy_loop(labels):
    shares = [np.mean(labels == each) for each in set(labels.tolist())]
    return -sum(np.log(p) for p in shares) / len(shares)


def test_semantic_entropy_equals_a_loop_over_clusters_whatever_they_are_called():
    labels = np.random.default_rng(0).integers(4, size=(3, 2, 6)).astype(np.int32)
    entropy = semantic_entropy(labels)
    close(entropy, np.apply_along_axis(semantic_entropy_loop, -1, labels), rtol=1e-5)
    renamed = np.array([7, -1, 12, 3], np.int32)[labels]
    equal(semantic_entropy(renamed), entropy)


def test_semantic_entropy_is_0_for_one_cluster_and_greatest_for_as_many_as_answers():
    labels = np.array([[3] * 6, [0, 1, 2, 3, 4, 5]], np.int32)
    close(semantic_entropy(labels), [0.0, np.log(6.0)], rtol=1e-6)


# Keys and tokens


def test_segment_normalize_equals_group_normalize_in_any_order():
    rewards = rewards_of(3, 4)
    keys = np.repeat(np.arange(3, dtype=np.int32), 4)
    order = np.random.default_rng(0).permutation(12)
    scattered = segment_normalize(rewards.ravel()[order], keys[order], num_segments=3)
    close(scattered, group_normalize(rewards).ravel()[order], rtol=1e-5, atol=1e-6)


def test_segment_normalize_of_what_is_alone_equal_or_in_no_group_is_0():
    keys = np.array([0, 1, 1, 1, -1, 3], np.int32)
    rewards = np.array([5.0, 0.1, 0.1, 0.1, np.nan, 2.0], np.float32)
    equal(segment_normalize(rewards, keys, num_segments=3), np.zeros(6))


def test_groups_of_different_sizes():
    keys = np.array([1, 0, 1, 0, 1], np.int32)
    rewards = np.array([3.0, 1.0, 0.0, 0.0, 0.0], np.float32)
    # [1, 0]: ±½ over √½; [3, 0, 0]: [2, −1, −1] over √(6/2)
    expected = [2 / 3**0.5, 0.5**0.5, -1 / 3**0.5, -(0.5**0.5), -1 / 3**0.5]
    close(segment_normalize(rewards, keys, num_segments=2), expected, rtol=1e-5)


def test_token_weighted_normalize_equals_numpy_over_the_tokens():
    lengths = np.random.default_rng(0).integers(1, 9, size=REWARDS.shape).astype(np.int32)
    expected = np.empty(REWARDS.shape)
    for place in np.ndindex(REWARDS.shape[:-1]):
        tokens = np.repeat(REWARDS[place].astype(np.float64), lengths[place])
        expected[place] = (REWARDS[place] - tokens.mean()) / (tokens.std() + 1e-6)
    close(token_weighted_normalize(REWARDS, lengths), expected, rtol=1e-5, atol=1e-6)


def test_token_weighted_normalize_of_equal_lengths_has_the_deviation_of_the_group():
    by_sequence = np.asarray(group_normalize(REWARDS))
    lengths = np.full(REWARDS.shape, 3.0, np.float32)
    close(token_weighted_normalize(REWARDS, lengths), by_sequence * (5 / 4) ** 0.5, rtol=1e-5)


def test_a_group_in_which_one_short_answer_stands_out_is_normalised_by_sequence():
    rewards = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], np.float32)
    lengths = np.array([[1, 50, 50], [1, 10, 10]], np.int32)
    # Of n tokens one has a reward of 1: (1 − 1/n)/√(1/n − 1/n²) = √(n − 1); √100 ≥ 5 > √20
    advantage = token_weighted_normalize(rewards, lengths)
    close(advantage[0], group_normalize(rewards[0]), rtol=1e-5)
    close(advantage[1], [20**0.5, -(20**-0.5), -(20**-0.5)], rtol=1e-5)
    close(token_weighted_normalize(rewards, lengths, fallback=jnp.inf)[0, 0], 10.0, rtol=1e-4)


def test_an_answer_without_tokens_does_not_count():
    rewards = np.array([[1.0, np.nan, 0.0], [np.nan] * 3], np.float32)
    lengths = np.array([[2, 0, 2], [0, 0, 0]], np.int32)
    close(token_weighted_normalize(rewards, lengths), [[1, 0, -1], [0] * 3], rtol=1e-5)
    equal(token_weighted_normalize(EQUAL, EQUAL), np.zeros_like(EQUAL))


# The batch


def test_beta_normalize_equals_the_formula_with_the_density_of_scipy():
    rewards = (np.random.default_rng(0).random((6, 8)) < np.linspace(0, 1, 6)[:, None]) * 1.0
    rate = rewards.mean(-1)
    assert rate[0] == 0.0 and rate[-1] == 1.0
    strength = rate.mean() * (1 - rate.mean()) / rate.var(ddof=1) - 1
    alpha = max(1, 1 + strength * rate.mean() / 3)
    beta = max(1, 1 + strength * (1 - rate.mean()) / 3)
    assert alpha > 1 and beta > 1
    with np.errstate(divide="ignore"):
        weight = np.clip(1 / scipy.stats.beta.pdf(rate, alpha, beta), 0, 1e6)
    advantage = beta_normalize(rewards)
    close(advantage, (rewards - rate[:, None]) * weight[:, None], rtol=1e-4, atol=1e-6)
    equal(advantage[::5], np.zeros((2, 8)))  # nothing wrong, or nothing right


@pytest.mark.parametrize("rows", [[[1, 0, 0]], [[1, 0, 0], [0, 1, 0]]], ids=["one", "same rate"])
def test_beta_normalize_of_rates_that_do_not_vary_is_group_center(rows):
    rewards = np.array(rows, np.float32)
    close(beta_normalize(rewards), group_center(rewards), rtol=1e-6)


# History


def cumulative_loop(r, i, mean, var):
    new_mean, new_var = np.mean(r), np.var(r, ddof=1)
    total_mean = ((i - 1) * mean + new_mean) / i
    total_var = ((i - 1) * var + new_var + (i - 1) / i * (mean - new_mean) ** 2) / i
    advantage = []
    for x in r:
        by_group = (x - new_mean) / new_var**0.5
        by_all = (x - total_mean) / total_var**0.5
        first = (i - 1) / i * by_group + by_all / i
        second = by_group / i + (i - 1) / i * by_all
        advantage.append(first if abs(first) < abs(second) else second)
    return advantage, total_mean, total_var


def test_cumulative_normalize_equals_a_plain_loop():
    count = np.array([[1, 2, 3], [4, 5, 9]], np.int32)
    mean, var = rewards_of(2, 3, seed=1), np.square(rewards_of(2, 3, seed=2))
    advantage, total_mean, total_var = cumulative_normalize(REWARDS, count, mean, var)
    for place in np.ndindex(2, 3):
        history = float(count[place]), float(mean[place]), float(var[place])
        expected = cumulative_loop(REWARDS[place].astype(np.float64), *history)
        result = advantage[place], total_mean[place], total_var[place]
        for each, reference in zip(result, expected, strict=True):
            close(each, reference, rtol=1e-5, atol=1e-6)


def test_cumulative_normalize_the_first_time_is_standardised_by_the_group_alone():
    count, unknown = np.ones((2, 3), np.int32), np.full((2, 3), np.nan, np.float32)
    advantage, mean, var = cumulative_normalize(REWARDS, count, unknown, unknown)
    close(advantage, group_normalize(REWARDS, eps=0.0), rtol=1e-5, atol=1e-6)
    close(mean, REWARDS.mean(-1), rtol=1e-5, atol=1e-6)
    close(var, REWARDS.var(-1, ddof=1), rtol=1e-5)


def test_what_is_always_the_same_has_no_advantage_over_its_history():
    mean, var = np.zeros(3, np.float32), np.zeros(3, np.float32)
    for count in (1, 2, 3):
        counts = np.full(3, count, np.int32)
        advantage, mean, var = cumulative_normalize(EQUAL, counts, mean, var)
        equal(advantage, np.zeros_like(EQUAL))
        equal(mean, EQUAL[:, 0])
        equal(var, np.zeros(3))


def test_a_group_without_spread_is_compared_with_its_history():
    # i = 2: μ' = (0 + 1)/2, var' = (0.5 + 0 + ½·1)/2 = ½; A_tot = ½/√½, A_new = 0, and the blends
    # are the same
    advantage, mean, var = cumulative_normalize(
        *(jnp.array(x, jnp.float32) for x in ([1, 1, 1], 2, 0, 0.5))
    )
    close(mean, 0.5)
    close(var, 0.5)
    close(advantage, [0.5 * 0.5**0.5] * 3, rtol=1e-6)


def test_sil_advantage_is_what_exceeds_the_median_of_the_filled_history():
    history = np.array([1.0, np.nan, 3.0, 2.0, np.inf, 10.0], np.float32)
    filled = np.array([1, 0, 1, 1, 0, 1], np.int32)
    rewards = np.array([0.0, 2.5, 4.0], np.float32)
    equal(sil_advantage(rewards, history, filled), [0.0, 0.0, 1.5])  # the median is 2.5
    equal(sil_advantage(rewards, history, np.zeros(6, bool)), np.zeros(3))
    equal(sil_advantage(rewards, history[2:4]), [0.0, 0.0, 1.5])

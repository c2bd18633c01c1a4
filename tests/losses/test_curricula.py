"""Prompt samplers and allocations against enumeration, frequencies and plain loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.losses import curricula

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
# Compiled, because one program compiles faster than its operations one by one.
allocate_rollouts = jax.jit(curricula.allocate_rollouts, static_argnames=("budget", "low", "high"))
replacement_prompts = jax.jit(curricula.replacement_prompts)


def uniform(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.05, 0.95, size=shape).astype(np.float32)


# beta_update and what is drawn from it


def test_beta_update_without_decay_counts_and_without_data_returns_to_the_prior():
    alpha, beta, successes, failures = 8.0 * uniform(4, 6)
    for decay in (0.5, uniform(6, seed=1)):
        result = curricula.beta_update(
            alpha, beta, successes, failures, decay=decay, prior_alpha=2.0, prior_beta=3.0
        )
        expected = (
            decay * alpha + (1 - decay) * 2.0 + successes,
            decay * beta + (1 - decay) * 3.0 + failures,
        )
        close(result, expected, rtol=1e-6)
    counted = curricula.beta_update(alpha, beta, successes, failures, decay=1.0)
    close(counted, (alpha + successes, beta + failures), rtol=1e-6)
    none = jnp.zeros(6)
    for _ in range(60):
        alpha, beta = curricula.beta_update(alpha, beta, none, none, decay=0.5, prior_alpha=2.0)
    close(alpha, np.full(6, 2.0), rtol=1e-6)
    close(beta, np.ones(6), rtol=1e-6)


def test_thompson_success_has_the_moments_of_the_posterior():
    alpha, beta = jnp.array([1.0, 8.0, 2.5]), jnp.array([1.0, 2.0, 11.5])
    tiled = (jnp.broadcast_to(each, (4000, 3)) for each in (alpha, beta))
    rates = np.asarray(curricula.thompson_success(jax.random.key(0), *tiled))
    assert np.all((rates >= 0) & (rates <= 1))
    mean, total = alpha / (alpha + beta), alpha + beta
    std = np.sqrt(mean * (1 - mean) / (total + 1))
    assert np.all(np.abs(np.mean(rates, axis=0) - mean) < 5 * std / np.sqrt(4000))
    close(np.std(rates, axis=0), std, rtol=0.05)


def test_prompts_near_a_half_are_those_of_the_largest_variance():
    p = uniform(5, 20)
    by_distance = curricula.top_prompts(-jnp.square(p - 0.5), num=20)
    by_variance = curricula.top_prompts(curricula.prompt_informativeness(p), num=20)
    np.testing.assert_array_equal(by_distance, by_variance)
    np.testing.assert_array_equal(by_distance, np.argsort(np.abs(p - 0.5), axis=-1))
    close(curricula.prompt_informativeness(p), p * (1 - p), rtol=1e-6)


def test_top_prompts_of_equal_scores_are_the_first():
    best = curricula.top_prompts(jnp.array([1.0, 3.0, 1.0, 3.0, 1.0]), num=3)
    np.testing.assert_array_equal(best, [1, 3, 0])
    for num in (0, 6):
        with pytest.raises(ValueError, match=f"num={num}: must be from 1 to"):
            curricula.top_prompts(jnp.zeros(5), num=num)


def test_curriculum_update_moves_what_was_visited():
    values, target = uniform(2, 3, 4)
    visited = np.array([[1, 0, 1, 0]] * 3, bool)
    result = curricula.curriculum_update(
        values, np.where(visited, target, np.nan), visited, step_size=0.25
    )
    close(result, np.where(visited, 0.75 * values + 0.25 * target, values), rtol=1e-6)


# rollout_value and allocate_rollouts


def exact_value(n, p):
    p = float(p)
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


def test_rollout_value_is_that_of_each_prompt_and_0_where_nothing_varies():
    success = np.append(uniform(5), np.float32([0.0, 1.0]))
    for num in (8, np.arange(2, 9)):
        expected = [
            exact_value(*each) for each in zip(np.broadcast_to(num, 7), success, strict=True)
        ]
        close(curricula.rollout_value(num, success), expected, rtol=1e-5, atol=1e-7)
    close(curricula.rollout_value(1, success), np.zeros(7), atol=1e-7)
    with pytest.raises(AssertionError):
        curricula.rollout_value(jnp.ones(1), success)


def enumerated(success, budget, low, high):
    """The best allocation, of equal ones the first in lexicographic order."""
    candidates = itertools.product(range(low, high + 1), repeat=len(success))
    feasible = [counts for counts in candidates if sum(counts) == budget]
    total = [sum(map(exact_value, counts, success)) for counts in feasible]
    return next(
        counts for counts, each in zip(feasible, total, strict=True) if each > max(total) - 1e-12
    )


@pytest.mark.parametrize(
    "success",
    [uniform(4, seed=1), uniform(4, seed=2), [0.5, 0.5, 0.5, 0.5], [0.0, 0.3, 1.0, 0.3]],
    ids=["random", "other", "equal", "hopeless and solved"],
)
def test_allocate_rollouts_equals_enumeration(success):
    success = np.float32(success)
    for low, high in ((2, 6), (1, 4), (0, 3), (3, 3)):
        for budget in range(4 * low, 4 * high + 1):
            counts = curricula.allocate_rollouts(success, budget=budget, low=low, high=high)
            np.testing.assert_array_equal(counts, enumerated(success, budget, low, high))


def test_allocate_rollouts_of_many_rows_is_that_of_each():
    success = uniform(3, 5)
    kwargs = {"budget": 60, "low": 2, "high": 40}
    rows = [allocate_rollouts(row, **kwargs) for row in success]
    np.testing.assert_array_equal(allocate_rollouts(success, **kwargs), rows)
    np.testing.assert_array_equal(np.sum(rows, axis=-1), 60)


@pytest.mark.parametrize(("budget", "low", "high"), [(7, 2, 4), (17, 2, 4), (8, 3, 2), (-4, -1, 2)])
def test_a_budget_that_cannot_be_spent_is_refused(budget, low, high):
    with pytest.raises(ValueError, match=f"budget={budget}, low={low}, high={high}: must be"):
        curricula.allocate_rollouts(jnp.full(4, 0.5), budget=budget, low=low, high=high)


# dead_groups and replacement_prompts


def test_dead_groups_are_those_without_spread():
    rewards = jnp.array([[0.1, 0.1, 0.1], [0.0, 1.0, 0.0], [0.1, 0.1, 0.11]])
    np.testing.assert_array_equal(curricula.dead_groups(rewards), [True, False, False])
    # The last one's std is 0.01/√3 = 0.0058.
    np.testing.assert_array_equal(
        curricula.dead_groups(rewards, threshold=0.006), [True, False, True]
    )
    assert np.all(curricula.dead_groups(rewards[:, :1]))


def test_replacement_prompts_are_drawn_in_proportion_and_without_replacement():
    value, dead = jnp.array([1.0, 2.0, 0.0, 5.0]), jnp.array([0, 1, 0, 1, 1, 1])
    keys = jax.random.split(jax.random.key(0), 2000)
    drawn = np.asarray(jax.vmap(lambda key: replacement_prompts(key, dead, value))(keys))
    np.testing.assert_array_equal(drawn[:, [0, 2]], -1)
    # Three prompts of the pool have a value; the fourth dead place gets none.
    np.testing.assert_array_equal(np.sort(drawn[:, [1, 3, 4]], axis=-1), [[0, 1, 3]] * 2000)
    np.testing.assert_array_equal(drawn[:, 5], -1)
    share = np.bincount(drawn[:, 1], minlength=4) / 2000
    chance = np.array([1, 2, 0, 5]) / 8
    assert np.all(np.abs(share - chance) <= 5 * np.sqrt(chance * (1 - chance) / 2000))
    second_after_3 = drawn[drawn[:, 1] == 3, 3]  # of the rest, 1 : 2
    assert abs(np.mean(second_after_3 == 1) - 2 / 3) < 5 * np.sqrt(2 / 9 / len(second_after_3))


def test_no_prompt_replaces_what_lives_or_from_a_pool_without_value():
    for dead, value in ((jnp.zeros(3), jnp.ones(2)), (jnp.ones(3), jnp.zeros(2))):
        drawn = replacement_prompts(jax.random.key(0), dead, value)
        np.testing.assert_array_equal(drawn, [-1, -1, -1])
        assert drawn.dtype == jnp.int32


# schedules


def test_schedules_begin_and_end_where_they_say():
    close(curricula.linear_schedule(jnp.array([0.0, 0.5, 1.0]), start=4.0, end=1.0), [4, 2.5, 1])
    ramp = curricula.cosine_ramp(jnp.array([0, 50, 100, 150, 200, 1000]), steps=200)
    # ½(1 − cos(π/4)) = 0.1464466
    close(ramp, [0.0, 0.1464466, 0.5, 0.8535534, 1.0, 1.0], rtol=1e-5, atol=1e-7)

"""Estimators of returns: hand-computed numbers, plain loops over every pattern of ends, and
rlax.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from onejit import losses

GAMMA, LAMBDA = 0.9, 0.8
STEPS = 4
# One column per pattern of the two flags over four steps, all 2^8 of them: every way in which a
# rollout can end.
PATTERNS = np.array(list(itertools.product([False, True], repeat=2 * STEPS))).T
TERMINATED, TRUNCATED = PATTERNS[:STEPS], PATTERNS[STEPS:]
COLUMNS = PATTERNS.shape[1]

close = np.testing.assert_allclose
# Compiled, because one program compiles faster than its operations one by one.
gae, lambda_returns, n_step_return, vtrace = map(
    jax.jit, (losses.gae, losses.lambda_returns, losses.n_step_return, losses.vtrace)
)


def rollout(seed=0):
    """Rewards, values and values of the true successors; the latter differ from values[t + 1] only
    at an end.
    """
    rng = np.random.default_rng(seed)
    rewards, fresh = rng.normal(size=(2, STEPS, COLUMNS)).astype(np.float32)
    all_values = rng.normal(size=(STEPS + 1, COLUMNS)).astype(np.float32)
    return rewards, all_values[:-1], np.where(TERMINATED | TRUNCATED, fresh, all_values[1:])


def per_column(loop, *arrays):
    """Runs a loop over time on each column in float64, and stacks what it returns."""
    columns = [loop(*(np.asarray(a, np.float64)[:, i] for a in arrays)) for i in range(COLUMNS)]
    return tuple(np.stack(result, axis=-1) for result in zip(*columns, strict=True))


def gae_loop(rewards, values, next_values, terminated, truncated):
    advantages = np.zeros_like(rewards)
    following = 0.0
    for t in reversed(range(STEPS)):
        if terminated[t]:
            following = rewards[t] - values[t]
        elif truncated[t]:
            following = rewards[t] + GAMMA * next_values[t] - values[t]
        else:
            following = rewards[t] + GAMMA * next_values[t] - values[t] + GAMMA * LAMBDA * following
        advantages[t] = following
    return advantages, advantages + values


# gae and lambda_returns


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # δ = [1 + ½·4 − 2, 2 + ½·6 − 4, 3 + ½·10 − 6] = [1, 1, 2], γλ = ¼: A = [1 + ¼·1.5, 1 + ¼·2,
        # 2]
        (False, False, [1.375, 1.5, 2.0]),
        # δ_1 = 2 − 4 = −2, nothing flows back from row 2: A = [1 + ¼·(−2), −2, 2]
        (True, False, [0.5, -2.0, 2.0]),
        # the true successor is worth 8, δ_1 = 2 + ½·8 − 4 = 2, nothing flows back from row 2: A =
        # [1 + ¼·2, 2, 2]
        (False, True, [1.5, 2.0, 2.0]),
        # both at once is a termination
        (True, True, [0.5, -2.0, 2.0]),
    ],
    ids=["no end", "terminated", "truncated", "both"],
)
def test_gae_by_hand(terminated, truncated, expected):
    rewards, values = jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 4.0, 6.0])
    next_values = jnp.array([4.0, 8.0 if terminated or truncated else 6.0, 10.0])
    flags = jnp.array([False, terminated, False]), jnp.array([False, truncated, False])
    advantages, targets = gae(rewards, values, next_values, *flags, gamma=0.5, gae_lambda=0.5)
    np.testing.assert_array_equal(advantages, expected)
    np.testing.assert_array_equal(targets, np.array(expected) + values)
    returns = lambda_returns(rewards, next_values, *flags, gamma=0.5, gae_lambda=0.5)
    np.testing.assert_array_equal(returns, targets)


def test_gae_and_lambda_returns_equal_plain_loops_for_every_pattern_of_ends():
    rewards, values, next_values = rollout()
    data = rewards, values, next_values, TERMINATED, TRUNCATED
    advantages, targets = gae(*data, gamma=GAMMA, gae_lambda=LAMBDA)
    expected_advantages, expected_targets = per_column(gae_loop, *data)
    close(advantages, expected_advantages, rtol=1e-5, atol=1e-6)
    close(targets, expected_targets, rtol=1e-5, atol=1e-6)
    returns = lambda_returns(rewards, next_values, *data[3:], gamma=GAMMA, gae_lambda=LAMBDA)
    close(returns, expected_targets, rtol=1e-5, atol=1e-6)


def test_truncation_taken_for_termination_gives_other_numbers():
    rewards, values, next_values = rollout()
    at_row_2 = np.zeros_like(TERMINATED)
    at_row_2[2] = True
    never = np.zeros_like(at_row_2)
    right, _ = gae(rewards, values, next_values, never, at_row_2, gamma=GAMMA, gae_lambda=LAMBDA)
    wrong, _ = gae(rewards, values, next_values, at_row_2, never, gamma=GAMMA, gae_lambda=LAMBDA)
    # The missing bootstrap γ·V(s') of row 2, carried back by γλ per step; after the end nothing
    # changes.
    carried = np.array([(GAMMA * LAMBDA) ** 2, GAMMA * LAMBDA, 1.0, 0.0])[:, None]
    close(right - wrong, carried * GAMMA * next_values[2:3], rtol=1e-5, atol=1e-6)
    assert np.all(np.abs(right - wrong)[:3] > 0)


@pytest.mark.parametrize(
    ("gamma", "gae_lambda"), [(0.9, 0.8), (1.0, 1.0), (0.99, 0.0), (0.0, 0.95)]
)
def test_gae_without_ends_equals_rlax(gamma, gae_lambda):
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=30).astype(np.float32), rng.normal(size=31).astype(np.float32)
    never = np.zeros(30, bool)
    advantages, _ = gae(
        rewards, values[:-1], values[1:], never, never, gamma=gamma, gae_lambda=gae_lambda
    )
    discounts = jnp.full(30, gamma)
    expected = rlax.truncated_generalized_advantage_estimation(
        rewards, discounts, gae_lambda, values
    )
    close(advantages, expected, rtol=1e-5, atol=1e-6)


def test_lambda_returns_with_terminations_equal_rlax():
    rng = np.random.default_rng(2)
    rewards, next_values = rng.normal(size=(2, 30)).astype(np.float32)
    terminated = rng.random(30) < 0.2
    returns = lambda_returns(
        rewards, next_values, terminated, np.zeros(30, bool), gamma=GAMMA, gae_lambda=LAMBDA
    )
    expected = rlax.lambda_returns(
        rewards, GAMMA * (1.0 - jnp.asarray(terminated)), next_values, LAMBDA
    )
    close(returns, expected, rtol=1e-5, atol=1e-6)


def test_gae_lambda_0_is_the_one_step_error():
    rewards, values, next_values = rollout()
    advantages, _ = gae(
        rewards, values, next_values, TERMINATED, TRUNCATED, gamma=GAMMA, gae_lambda=0.0
    )
    close(advantages, rewards + GAMMA * next_values * ~TERMINATED - values, rtol=1e-5, atol=1e-6)


def test_gae_lambda_1_is_the_bootstrapped_sum_of_rewards():
    rewards, values, next_values = rollout()
    flags = TERMINATED, TRUNCATED
    _, targets = gae(rewards, values, next_values, *flags, gamma=GAMMA, gae_lambda=1.0)
    # The window that starts at row t and runs to the end of the rollout.
    for t in range(STEPS):
        window = (a[t:] for a in (rewards, *flags))
        returns, discount, index = n_step_return(*window, gamma=GAMMA)
        bootstrap = np.take_along_axis(next_values[t:], np.asarray(index)[None], axis=0)[0]
        close(targets[t], returns + discount * bootstrap, rtol=1e-5, atol=1e-6)


# n_step_return


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        ([0, 0, 0], [0, 0, 0], (3.0, 0.125, 2)),  # 1 + ½·2 + ¼·4, bootstrap ½³ at the last row
        ([1, 0, 0], [0, 0, 0], (1.0, 0.0, 0)),  # the first row ends the episode: its reward alone
        # The same, bootstrapping from the first row's successor.
        (
            [0, 0, 0],
            [1, 0, 0],
            (1.0, 0.5, 0),
        ),
        ([0, 1, 0], [0, 0, 0], (2.0, 0.0, 1)),  # 1 + ½·2
        ([0, 0, 0], [0, 1, 0], (2.0, 0.25, 1)),
        ([0, 1, 0], [0, 1, 0], (2.0, 0.0, 1)),  # both at once is a termination
        ([0, 0, 1], [1, 0, 0], (1.0, 0.5, 0)),  # the termination belongs to the next episode
        ([0, 1, 0], [0, 0, 1], (2.0, 0.0, 1)),  # the truncation does
    ],
)
def test_n_step_return_by_hand(terminated, truncated, expected):
    flags = jnp.array(terminated, bool), jnp.array(truncated, bool)
    returns, discount, index = n_step_return(jnp.array([1.0, 2.0, 4.0]), *flags, gamma=0.5)
    assert (float(returns), float(discount), int(index)) == expected
    assert index.dtype == jnp.int32


def n_step_loop(rewards, terminated, truncated):
    total = 0.0
    for k in range(STEPS):
        total += GAMMA**k * rewards[k]
        if terminated[k] or truncated[k]:
            break
    return total, 0.0 if terminated[k] else GAMMA ** (k + 1), k


def test_n_step_return_equals_a_plain_loop_for_every_pattern_of_ends():
    rewards, _, _ = rollout()
    results = n_step_return(rewards, TERMINATED, TRUNCATED, gamma=GAMMA)
    expected = per_column(n_step_loop, rewards, TERMINATED, TRUNCATED)
    for result, reference in zip(results, expected, strict=True):
        close(result, reference, rtol=1e-5, atol=1e-6)


def test_n_step_return_never_reads_rewards_after_the_end():
    rewards = jnp.array([1.0, jnp.nan, jnp.inf])
    returns, _, _ = n_step_return(
        rewards, jnp.zeros(3, bool), jnp.array([True, False, True]), gamma=0.5
    )
    assert returns == 1.0


def test_n_step_return_of_one_row_is_the_reward_with_the_discount():
    flags = jnp.array([[False, True, False]]), jnp.array([[False, False, True]])
    returns, discount, index = n_step_return(jnp.array([[1.0, 2.0, 3.0]]), *flags, gamma=0.5)
    np.testing.assert_array_equal(returns, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(discount, [0.5, 0.0, 0.5])
    np.testing.assert_array_equal(index, [0, 0, 0])


# vtrace


def test_vtrace_by_hand():
    # ρ = [min(1, 2), min(1, ½)] = [1, ½]; δ = [1·(1 + ½·4 − 2), ½·(2 + ½·8 − 4)] = [1, 1];
    # targets: v_1 = 4 + 1 = 5, v_0 = 2 + 1 + ½·1·(5 − 4) = 3.5;
    # advantages: A_1 = ½·(2 + ½·8 − 4) = 1, A_0 = 1·(1 + ½·5 − 2) = 1.5
    never = jnp.zeros(2, bool)
    log_ratio, rewards = jnp.log(jnp.array([2.0, 0.5])), jnp.array([1.0, 2.0])
    values, next_values = jnp.array([2.0, 4.0]), jnp.array([4.0, 8.0])
    advantages, targets = vtrace(log_ratio, rewards, values, next_values, never, never, gamma=0.5)
    close(advantages, [1.5, 1.0], rtol=1e-6)
    close(targets, [3.5, 5.0], rtol=1e-6)


def vtrace_loop(log_ratio, rewards, values, next_values, terminated, truncated):
    """The docstring's equations with λ = 0.8, ρ at most 1.5 and c at most 0.7."""
    ratio = np.exp(log_ratio)
    targets, advantages = np.zeros_like(rewards), np.zeros_like(rewards)
    for t in reversed(range(STEPS)):
        goes_on = not (terminated[t] or truncated[t]) and t + 1 < STEPS
        rho, c = min(ratio[t], 1.5), LAMBDA * min(ratio[t], 0.7)
        bootstrap = 0.0 if terminated[t] else GAMMA * next_values[t]
        targets[t] = values[t] + rho * (rewards[t] + bootstrap - values[t])
        advantages[t] = rho * (rewards[t] + bootstrap - values[t])
        if goes_on:
            targets[t] += GAMMA * c * (targets[t + 1] - values[t + 1])
            advantages[t] = rho * (rewards[t] + GAMMA * targets[t + 1] - values[t])
    return advantages, targets


def test_vtrace_equals_a_plain_loop_for_every_pattern_of_ends():
    log_ratio = np.random.default_rng(3).normal(size=(STEPS, COLUMNS)).astype(np.float32)
    data = log_ratio, *rollout(), TERMINATED, TRUNCATED
    results = vtrace(*data, gamma=GAMMA, gae_lambda=LAMBDA, clip_rho=1.5, clip_c=0.7)
    for result, reference in zip(results, per_column(vtrace_loop, *data), strict=True):
        close(result, reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_rho", [1.0, 1.3])
def test_vtrace_with_terminations_equals_rlax(clip_rho):
    rng = np.random.default_rng(4)
    rewards, log_ratio = rng.normal(size=(2, 30)).astype(np.float32)
    values = rng.normal(size=31).astype(np.float32)
    terminated = rng.random(30) < 0.2
    data = log_ratio, rewards, values[:-1], values[1:], terminated, np.zeros(30, bool)

    def expected(gae_lambda):
        discounts = GAMMA * (1.0 - jnp.asarray(terminated))
        return rlax.vtrace_td_error_and_advantage(
            values[:-1],
            values[1:],
            rewards,
            discounts,
            jnp.exp(log_ratio),
            gae_lambda,
            clip_rho,
            clip_rho,
        )

    advantages, targets = vtrace(*data, gamma=GAMMA, clip_rho=clip_rho)
    close(advantages, expected(1.0).pg_advantage, rtol=1e-5, atol=1e-6)
    close(targets, expected(1.0).errors + values[:-1], rtol=1e-5, atol=1e-6)
    # With λ < 1 rlax mixes λ into its advantages as well, the paper does not: the targets alone are
    # comparable.
    _, targets = vtrace(*data, gamma=GAMMA, gae_lambda=LAMBDA, clip_rho=clip_rho)
    close(targets, expected(LAMBDA).errors + values[:-1], rtol=1e-5, atol=1e-6)


def test_vtrace_on_policy_equals_gae():
    data = *rollout(), TERMINATED, TRUNCATED
    on_policy = np.zeros((STEPS, COLUMNS), np.float32)
    for gae_lambda in (0.0, LAMBDA, 1.0):
        _, targets = vtrace(on_policy, *data, gamma=GAMMA, gae_lambda=gae_lambda)
        _, expected = gae(*data, gamma=GAMMA, gae_lambda=gae_lambda)
        close(targets, expected, rtol=1e-5, atol=1e-6)
    advantages, _ = vtrace(on_policy, *data, gamma=GAMMA, gae_lambda=1.0)
    expected, _ = gae(*data, gamma=GAMMA, gae_lambda=1.0)
    close(advantages, expected, rtol=1e-5, atol=1e-6)


def test_vtrace_of_an_impossible_action_keeps_the_values():
    data = *rollout(), TERMINATED, TRUNCATED
    advantages, targets = vtrace(np.full((STEPS, COLUMNS), -1e4, np.float32), *data, gamma=GAMMA)
    np.testing.assert_array_equal(advantages, np.zeros_like(advantages))
    np.testing.assert_array_equal(targets, data[1])


def test_vtrace_of_an_overflowing_ratio_is_that_of_the_clipped_one():
    data = *rollout(), TERMINATED, TRUNCATED
    overflowing, clipped = (np.full((STEPS, COLUMNS), x, np.float32) for x in (1e4, 5.0))
    results = (vtrace(x, *data, gamma=GAMMA, clip_rho=2.0) for x in (overflowing, clipped))
    for overflowed, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(overflowed, expected)


# What all four share

ESTIMATORS = {
    "gae": lambda r, v, n, *flags: gae(r, v, n, *flags, gamma=GAMMA, gae_lambda=LAMBDA),
    "lambda_returns": lambda r, v, n, *flags: lambda_returns(
        r, n, *flags, gamma=GAMMA, gae_lambda=LAMBDA
    ),
    "n_step_return": lambda r, v, n, *flags: n_step_return(r, *flags, gamma=GAMMA),
    "vtrace": lambda r, v, n, *flags: vtrace(0.1 * r, r, v, n, *flags, gamma=GAMMA),
}
estimators = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS.keys())


@estimators
def test_no_gradient_flows_through(estimator):
    def total(*floats):
        return sum(
            jnp.sum(result) for result in jax.tree.leaves(estimator(*floats, TERMINATED, TRUNCATED))
        )

    for gradient in jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*rollout()):
        np.testing.assert_array_equal(gradient, np.zeros((STEPS, COLUMNS)))


@estimators
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8])
def test_flags_may_be_0_and_1_in_any_dtype(estimator, dtype):
    flags = TERMINATED, TRUNCATED
    numbers = estimator(*rollout(), *(flag.astype(dtype) for flag in flags))
    for result, expected in zip(
        jax.tree.leaves(numbers), jax.tree.leaves(estimator(*rollout(), *flags)), strict=True
    ):
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == expected.dtype


@estimators
def test_axes_after_time_are_a_batch(estimator):
    data = *rollout(), TERMINATED, TRUNCATED
    two_axes = estimator(*(a.reshape(STEPS, 2, COLUMNS // 2) for a in data))
    for result, expected in zip(
        jax.tree.leaves(two_axes), jax.tree.leaves(estimator(*data)), strict=True
    ):
        close(result, expected.reshape(result.shape), rtol=1e-6, atol=1e-6)
        assert result.shape[-2:] == (2, COLUMNS // 2)

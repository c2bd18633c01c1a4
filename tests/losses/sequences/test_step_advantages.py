"""Advantages of tokens, turns, ranks and steps: plain loops, what is masked, and what the papers
say of them.
"""

import itertools
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses.sequences import advantages

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal

(
    egae,
    entropy_modulated_advantage,
    entropy_scaled_advantage,
    group_normalize,
    implicit_process_rewards,
    leave_one_out,
    process_advantage,
    turn_normalize,
    turn_returns,
) = map(
    jax.jit,
    (
        advantages.egae,
        advantages.entropy_modulated_advantage,
        advantages.entropy_scaled_advantage,
        advantages.group_normalize,
        advantages.implicit_process_rewards,
        advantages.leave_one_out,
        advantages.process_advantage,
        advantages.turn_normalize,
        advantages.turn_returns,
    ),
)
rank_returns = jax.jit(advantages.rank_returns, static_argnames="discount")
step_rewards = jax.jit(advantages.step_rewards, static_argnames="num_segments")
step_advantage = jax.jit(advantages.step_advantage, static_argnames="num_segments")

GROUPS, SIZE, STEPS = 2, 4, 5
LENGTHS = np.array([[5, 3, 0, 1], [2, 4, 5, 3]])
MASK = np.arange(STEPS) < LENGTHS[..., None]


def per_token(seed=0):
    """Numbers, and NaN where they are masked."""
    x = np.random.default_rng(seed).normal(size=MASK.shape).astype(np.float32)
    return np.where(MASK, x, np.nan)


def per_sequence(seed=0):
    return np.random.default_rng(seed).normal(size=(GROUPS, SIZE)).astype(np.float32)


def whiten(x):
    return (x - x.mean()) / x.std(ddof=1)


def sequences():
    return itertools.product(range(GROUPS), range(SIZE))


# Tokens


def egae_loop(rewards, values, length, truncated, gamma, gae_lambda):
    advantage, following = np.zeros(STEPS), 0.0
    for t in reversed(range(length)):
        if t == length - 1:
            next_value = values[t] if truncated else 0.0
        else:
            next_value = values[t + 1]
        following = rewards[t] + gamma * next_value - values[t] + gamma * gae_lambda * following
        advantage[t] = following
    return advantage


@pytest.mark.parametrize("truncated", [False, True])
def test_egae_equals_a_plain_loop(truncated):
    rewards, values = per_token(1), per_token(2)
    cut = np.full(LENGTHS.shape, truncated) ^ (np.arange(SIZE) == 1)
    advantage, returns = egae(rewards, values, MASK, cut, gamma=0.9, gae_lambda=0.8)
    for i, j in sequences():
        row = rewards[i, j].astype(np.float64), values[i, j].astype(np.float64)
        expected = egae_loop(*row, LENGTHS[i, j], cut[i, j], 0.9, 0.8)
        close(advantage[i, j], expected, rtol=1e-5, atol=1e-6)
    close(returns, np.where(MASK, advantage + values, 0.0), rtol=1e-5, atol=1e-6)


def test_egae_of_whole_responses_that_have_ended_is_gae():
    rewards, values = np.random.default_rng(0).normal(size=(2, STEPS, 3)).astype(np.float32)
    everything, no_one = np.ones((3, STEPS), bool), np.zeros(3, np.int32)
    results = egae(rewards.T, values.T, everything, no_one, gamma=0.9, gae_lambda=0.8)
    next_values = np.concatenate([values[1:], np.full((1, 3), 7.0, np.float32)])
    ends = np.zeros((STEPS, 3), bool)
    ends[-1] = True
    expected = losses.gae(
        rewards, values, next_values, ends, np.zeros_like(ends), gamma=0.9, gae_lambda=0.8
    )
    for each, reference in zip(results, expected, strict=True):
        close(each.T, reference, rtol=1e-5, atol=1e-6)


def test_a_cut_response_without_rewards_is_judged_by_its_last_value():
    values = per_token(2)
    rewards, cut = np.zeros_like(values), np.ones(LENGTHS.shape, bool)
    advantage, _ = egae(rewards, values, MASK, cut, gamma=1.0, gae_lambda=1.0)
    for i, j in sequences():
        last = values[i, j, LENGTHS[i, j] - 1]
        close(advantage[i, j][MASK[i, j]], (last - values[i, j])[MASK[i, j]], atol=1e-6)


def test_entropy_scaled_advantage_equals_numpy_over_the_valid_tokens():
    advantage, entropy = per_token(1), np.square(per_token(2))
    expected = np.zeros(MASK.shape)
    expected[MASK] = advantage[MASK] * (1.0 + 0.3 * whiten(entropy[MASK].astype(np.float64)))
    close(entropy_scaled_advantage(advantage, entropy, MASK, coef=0.3), expected, rtol=1e-5)


def test_entropy_that_is_the_same_or_does_not_count_leaves_the_advantage():
    advantage = per_token(1)
    for entropy, coef in ((np.full_like(advantage, 0.1), 0.3), (np.square(advantage), 0.0)):
        result = entropy_scaled_advantage(advantage, entropy, MASK, coef=coef)
        equal(result, np.where(MASK, advantage, 0.0))


def test_an_advantage_of_the_sequence_is_one_of_all_its_tokens():
    advantage, entropy = per_sequence()[..., None], np.square(per_token(2))
    tokens = np.broadcast_to(advantage, MASK.shape)
    for function in (entropy_scaled_advantage, entropy_modulated_advantage):
        equal(function(advantage, entropy, MASK), function(tokens, entropy, MASK))


# Steps by their entropy


def entropy_modulated_loop(advantage, entropy, k, k_future, bonus):
    least, greatest = np.min(entropy[MASK]), np.max(entropy[MASK])
    h = (entropy - least) / (greatest - least)
    mean = np.mean(np.exp(-k * h[MASK]))
    result = np.zeros(MASK.shape)
    for i, j in sequences():
        for t in range(LENGTHS[i, j]):
            result[i, j, t] = advantage[i, j, t] * np.exp(-k * h[i, j, t]) / mean
            if t + 1 < LENGTHS[i, j]:
                result[i, j, t] += bonus * np.exp(-k_future * h[i, j, t + 1])
    return np.where(MASK, result - result[MASK].mean(), 0.0)


def test_entropy_modulated_advantage_equals_a_plain_loop():
    advantage, entropy = per_token(1), np.square(per_token(2))
    expected = entropy_modulated_loop(advantage.astype(float), entropy.astype(float), 0.7, 1.3, 0.2)
    result = entropy_modulated_advantage(advantage, entropy, MASK, k=0.7, k_future=1.3, bonus=0.2)
    close(result, expected, rtol=1e-5, atol=1e-6)


def test_entropy_that_does_not_count_leaves_the_advantage_centred():
    advantage, entropy = per_token(1), np.square(per_token(2))
    expected = np.where(MASK, advantage - advantage[MASK].mean(), 0.0)
    result = entropy_modulated_advantage(advantage, entropy, MASK, k=0.0, bonus=0.0)
    close(result, expected, rtol=1e-5, atol=1e-6)
    same = np.full_like(entropy, 0.1)
    close(entropy_modulated_advantage(advantage, same, MASK, bonus=0.0), expected, atol=1e-6)


# Turns and ranks


def test_turn_normalize_equals_numpy_over_the_turns_of_a_group():
    rewards = per_token(1)
    result = turn_normalize(rewards, MASK)
    for group in range(GROUPS):
        turns = rewards[group][MASK[group]].astype(np.float64)
        close(result[group][MASK[group]], whiten(turns), rtol=1e-4, atol=1e-6)
    equal(result[~MASK], 0.0)


def test_turns_of_equal_rewards_one_turn_and_none_are_0():
    rewards = np.where(MASK, np.float32(0.1), np.nan)
    equal(turn_normalize(rewards, MASK), np.zeros(MASK.shape))
    one = np.zeros(MASK.shape, bool)
    one[0, 1, 2] = True
    equal(turn_normalize(rewards, one), np.zeros(MASK.shape))


def test_turn_returns_equal_a_plain_loop():
    rewards = per_token(1)
    returns = turn_returns(rewards, MASK, gamma=0.7)
    for i, j in sequences():
        for t in range(STEPS):
            later = [0.7 ** (s - t) * rewards[i, j, s] for s in range(t, LENGTHS[i, j])]
            close(returns[i, j, t], sum(later), rtol=1e-5, atol=1e-6)


def test_rank_returns_equal_a_plain_loop():
    relevance = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    expected = [
        [[sum(r[j] / np.log2(j + 2) for j in range(k, 4)) for k in range(4)] for r in group]
        for group in relevance.astype(np.float64)
    ]
    close(rank_returns(relevance, discount="log_decay"), expected, rtol=1e-5)
    equal(rank_returns(relevance, discount="exp_inf"), relevance)


@pytest.mark.parametrize("discount", ["log_decay", "exp_inf"])
def test_a_list_of_one_item_is_a_reward(discount):
    rewards = per_sequence()
    returns = rank_returns(rewards[..., None], discount=discount)
    per_rank = group_normalize(jnp.swapaxes(returns, -1, -2), eps=1e-4)
    close(per_rank[..., 0, :], group_normalize(rewards, eps=1e-4), rtol=1e-6)


def test_rank_returns_refuses_another_discount():
    with pytest.raises(ValueError, match="log_decay or exp_inf"):
        advantages.rank_returns(np.ones((2, 3)), discount="linear")


# Rewards of every token or step


def test_implicit_process_rewards_are_the_log_ratio_by_beta():
    log_prob, ref_log_prob = per_token(1), per_token(2)
    rewards = implicit_process_rewards(log_prob, ref_log_prob, beta=0.2)
    close(rewards, 0.2 * (log_prob - ref_log_prob), rtol=1e-6)


def process_loop(q, outcome, process_coef, outcome_coef):
    """Of one group, its returns before they are whitened."""
    lengths = [int(np.sum(~np.isnan(row))) for row in q]
    members = [i for i, length in enumerate(lengths) if length]
    returns = np.zeros(q.shape)
    for i in members:
        others = [j for j in members if j != i]
        baseline = np.mean([np.mean(q[j, : lengths[j]]) for j in others]) if others else 0.0
        loo = outcome[i] - np.mean([outcome[j] for j in others]) if others else 0.0
        total = outcome_coef * loo
        for t in reversed(range(lengths[i])):
            total += process_coef * (q[i, t] - baseline)
            returns[i, t] = total
    return returns


def test_process_advantage_equals_a_plain_loop():
    q, outcome = per_token(1), per_sequence(2)
    data = zip(q.astype(np.float64), outcome.astype(np.float64), strict=True)
    returns = np.stack([process_loop(*each, 2.0, 3.0) for each in data])
    expected = np.zeros(MASK.shape)
    expected[MASK] = whiten(returns[MASK])
    result = process_advantage(q, outcome, MASK, process_coef=2.0, outcome_coef=3.0)
    close(result, expected, rtol=1e-5, atol=1e-6)


def test_process_advantage_of_a_group_of_one_has_no_baseline():
    q, outcome = per_token(1)[:, :1], per_sequence(2)[:, :1]
    result = process_advantage(q, outcome, MASK[:, :1], process_coef=1.0, outcome_coef=1.0)
    returns = np.stack([process_loop(*each, 1.0, 0.0) for each in zip(q, outcome, strict=True)])
    close(result[MASK[:, :1]], whiten(returns[MASK[:, :1]]), rtol=1e-5, atol=1e-6)


SEGMENT = np.random.default_rng(5).integers(3, size=MASK.shape).astype(np.int32)


def test_step_rewards_are_sums_over_the_tokens_of_a_step():
    q = per_token(1)
    sums = step_rewards(q, SEGMENT, MASK, num_segments=3)
    for i, j in sequences():
        for step in range(3):
            close(
                sums[i, j, step], np.sum(q[i, j][MASK[i, j] & (SEGMENT[i, j] == step)]), atol=1e-6
            )


def test_step_advantage_equals_a_plain_loop():
    q, outcome = per_token(1), per_sequence(2)
    result = step_advantage(q, outcome, SEGMENT, MASK, num_segments=3, step_coef=0.5)
    for i in range(GROUPS):
        steps = {}
        for j in range(SIZE):
            for t in range(LENGTHS[i, j]):
                key = j, SEGMENT[i, j, t]
                steps[key] = steps.get(key, 0.0) + float(q[i, j, t])
        members = [j for j in range(SIZE) if LENGTHS[i, j]]
        expected = np.zeros((SIZE, STEPS))
        for j in members:
            episode = outcome[i, j] - np.mean([outcome[i, k] for k in members if k != j])
            for t in range(LENGTHS[i, j]):
                own = j, SEGMENT[i, j, t]
                others = np.mean([value for key, value in steps.items() if key != own])
                expected[j, t] = episode + 0.5 * (steps[own] - others)
        close(result[i], expected, rtol=1e-5, atol=1e-6)


def test_steps_that_earn_the_same_leave_the_outcome():
    outcome = per_sequence(2)[1:]
    first = np.zeros((1, SIZE, STEPS), np.int32)
    at_the_start = np.where(np.arange(STEPS) == 0, np.float32(0.1), 0.0) * np.ones_like(first)
    result = step_advantage(at_the_start, outcome, first, MASK[1:], num_segments=2)
    close(result, np.where(MASK[1:], leave_one_out(outcome)[..., None], 0.0), atol=1e-6)
    outside = step_advantage(at_the_start, outcome, first - 1, MASK[1:], num_segments=2)
    close(outside, result, atol=1e-6)


# What all have in common

CALLS = runpy.run_path(str(Path(__file__).parents[1] / "calls" / "sequences_advantages.py"))[
    "CALLS"
]


@pytest.mark.parametrize("name", CALLS)
def test_no_gradient_flows_through(name):
    arrays, hyperparameters, static = CALLS[name](np.random.default_rng(0))
    function = getattr(advantages, name.split(".")[-1])

    def total(arrays, hyperparameters):
        results = jax.tree.leaves(function(*arrays, **hyperparameters, **static))
        return sum(jnp.sum(result) for result in results)

    gradients = jax.jit(jax.grad(total, argnums=(0, 1), allow_int=True))(arrays, hyperparameters)
    for gradient in jax.tree.leaves(gradients):
        if gradient.dtype != jax.dtypes.float0:
            equal(gradient, np.zeros(gradient.shape))


TIMED = {
    "egae": lambda x, mask: egae(x, x, mask, mask[..., 0]),
    "turn_normalize": turn_normalize,
    "turn_returns": lambda x, mask: turn_returns(x, mask, gamma=0.9),
    "entropy_modulated_advantage": lambda x, mask: entropy_modulated_advantage(x, x, mask),
    "entropy_scaled_advantage": lambda x, mask: entropy_scaled_advantage(x, x, mask),
    "process_advantage": lambda x, mask: process_advantage(
        x, per_sequence(), mask, process_coef=1.0, outcome_coef=1.0
    ),
    "step_rewards": lambda x, mask: step_rewards(x, SEGMENT, mask, num_segments=3),
    "step_advantage": lambda x, mask: step_advantage(
        x, per_sequence(), SEGMENT, mask, num_segments=3
    ),
}
timed = pytest.mark.parametrize("function", TIMED.values(), ids=TIMED.keys())


@timed
def test_where_nothing_is_valid_all_is_0(function):
    nothing = np.zeros(MASK.shape, bool)
    for result in jax.tree.leaves(function(np.full(MASK.shape, np.nan, np.float32), nothing)):
        equal(result, np.zeros_like(result))


@timed
def test_what_is_masked_may_hold_anything(function):
    x = np.random.default_rng(3).normal(size=MASK.shape).astype(np.float32)
    expected = jax.tree.leaves(function(x, MASK))
    for hidden in (np.nan, np.inf, -np.inf):
        results = jax.tree.leaves(function(np.where(MASK, x, hidden).astype(np.float32), MASK))
        for result, reference in zip(results, expected, strict=True):
            equal(result, reference)

"""Advantages of the leaves of a tree: against a solver of scipy, and what their order promises."""

import jax
import numpy as np
import pytest
import scipy.optimize

from onejit.losses.sequences import advantages

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal

tree_advantage = jax.jit(advantages.tree_advantage, static_argnames="num_iterations")
tree_baseline = jax.jit(advantages.tree_baseline)

SIZE, PAIRS, MARGIN = 8, 10, 0.05


def problem(seed, scale=1.0):
    """Rewards of 0 or `scale`, and pairs in the direction of a hidden order, so that all can be
    met.
    """
    rng = np.random.default_rng(seed)
    rewards = scale * rng.integers(2, size=SIZE).astype(np.float32)
    order = rng.permutation(SIZE)
    pairs = np.sort([rng.choice(SIZE, 2, replace=False) for _ in range(PAIRS)], axis=-1)
    below, above = order[pairs].T.astype(np.int32)
    return rewards, below, above


def solved(rewards, below, above):
    start = rewards.astype(np.float64) - rewards.mean()
    constraints = [
        {"type": "eq", "fun": np.sum},
        {"type": "ineq", "fun": lambda a: SIZE - a @ a},
        {"type": "ineq", "fun": lambda a: a[above] - a[below] - MARGIN},
    ]
    result = scipy.optimize.minimize(
        lambda a: 0.5 * np.sum((a - start) ** 2),
        start,
        jac=lambda a: a - start,
        constraints=constraints,
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-14},
    )
    # 8: the line search finds no descent any more, as where rounding ends the way down on some
    # processors; whether it is the solution is what the test compares.
    assert result.status in (0, 8), result.message
    return result.x


@pytest.mark.parametrize(("seed", "scale"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 4.0), (4, 4.0)])
def test_the_solution_is_that_of_a_solver(seed, scale):
    rewards, below, above = problem(seed, scale)
    advantage = tree_advantage(rewards, below, above, margin=MARGIN)
    close(advantage, solved(rewards, below, above), atol=2e-5)
    close(np.sum(advantage), 0.0, atol=1e-5)
    assert np.sum(np.square(advantage)) <= SIZE + 1e-4
    assert np.all(advantage[above] - advantage[below] >= MARGIN - 1e-4)
    again = tree_advantage(advantage, below, above, margin=MARGIN)
    close(again, advantage, atol=2e-5)


def test_without_pairs_it_is_group_center_in_the_ball():
    rewards = np.array([1, 0, 0, 1, 1, 0, 1, 1], np.float32)
    none = np.arange(PAIRS, dtype=np.int32) % SIZE  # a sequence with itself is padding
    centre = rewards - rewards.mean()
    close(tree_advantage(rewards, none, none), centre, atol=1e-6)
    norm = np.linalg.norm(10.0 * centre)
    close(tree_advantage(10.0 * rewards, none, none), 10.0 * centre * 8**0.5 / norm, rtol=1e-5)


def test_padding_pairs_change_nothing():
    rewards, below, above = problem(0)
    padded = (np.concatenate([pair, np.full(3, 5, np.int32)]) for pair in (below, above))
    close(
        tree_advantage(rewards, *padded, margin=MARGIN),
        tree_advantage(rewards, below, above, margin=MARGIN),
        atol=1e-6,
    )


def test_equal_rewards_have_an_advantage_by_their_order_alone():
    # One pair: each is moved by half the margin.
    rewards, pair = np.full(4, 0.1, np.float32), (np.array([2]), np.array([0]))
    close(tree_advantage(rewards, *pair, margin=0.5), [0.25, 0.0, -0.25, 0.0], atol=1e-6)
    alone = tree_advantage(rewards, np.array([1]), np.array([1]))
    equal(alone, np.zeros(4))


def test_tree_baseline_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    rewards = rng.random((3, SIZE)).astype(np.float32)
    subtree = rng.random((3, SIZE, SIZE)) < 0.4
    subtree |= np.eye(SIZE, dtype=bool)
    result = tree_baseline(rewards, subtree, weight=0.7)
    for r, members, advantage in zip(rewards.astype(np.float64), subtree, result, strict=True):
        values = [np.mean(r[members[i]]) for i in range(SIZE)]
        uncentred = r - 0.7 * np.array(values)
        close(advantage, uncentred - uncentred.mean(), rtol=1e-5, atol=1e-6)


def test_tree_baseline_of_one_prefix_is_group_center_and_of_equal_rewards_nothing():
    rewards = np.random.default_rng(1).random(SIZE).astype(np.float32)
    one_prefix = np.ones((SIZE, SIZE), bool)
    close(tree_baseline(rewards, one_prefix), rewards - rewards.mean(), atol=1e-6)
    some = np.random.default_rng(2).random((SIZE, SIZE)) < 0.3
    equal(tree_baseline(np.full(SIZE, 0.1, np.float32), some), np.zeros(SIZE))
    equal(tree_baseline(rewards[:1], some[:1, :1]), np.zeros(1))

"""Log-ratios and bounds against loops in float64, and what the papers say of them."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses.sequences import ratios, surrogates

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
# Compiled, because one program compiles faster than its operations one by one.
balanced_clip_bounds, entropy_score = map(
    jax.jit, (ratios.balanced_clip_bounds, ratios.entropy_score)
)
GARBAGE = np.array([np.nan, np.inf, -np.inf])


def spoiled(x, mask):
    """x with anything in the places that do not count."""
    return np.where(mask, x, np.resize(GARBAGE, x.shape))


def rows(seed, shape=(6, 7)):
    """Two arrays and a mask with gaps, of which row 2 has nothing valid."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask[..., 2, :] = False
    return *rng.normal(size=(2, *shape)), mask


# sequence_log_ratio
def test_sequence_log_ratio_is_the_mean_at_every_token_with_the_gradient_of_its_own():
    log_prob, old_log_prob, mask = rows(0)
    upstream = np.random.default_rng(1).normal(size=mask.shape)
    with jax.enable_x64(True):

        @jax.jit
        def everything(x, old, upstream):
            values, pull = jax.vjp(lambda x: ratios.sequence_log_ratio(x, old, mask), x)
            return values, *pull(upstream)

        both = spoiled(log_prob, mask), spoiled(old_log_prob, mask)
        values, slopes = map(np.asarray, everything(*both, upstream))
    for i in range(len(mask)):
        valid = [log_prob[i, t] - old_log_prob[i, t] for t in range(7) if mask[i, t]]
        close(values[i], sum(valid) / len(valid) if valid else 0.0, rtol=1e-12)
    np.testing.assert_array_equal(slopes, np.where(mask, upstream, 0.0))


def test_the_gradients_of_the_tokens_add_up_to_that_of_one_ratio_a_sequence():
    log_prob, old_log_prob, mask = rows(2)
    advantage = np.random.default_rng(3).normal(size=6)

    def by_token(x):
        ratio = jnp.exp(ratios.sequence_log_ratio(x, old_log_prob, mask))
        return jnp.sum(losses.sequences.reductions.sequence_mean(-advantage[:, None] * ratio, mask))

    def by_sequence(x):
        mean = losses.sequences.reductions.sequence_mean(x - old_log_prob, mask)
        return jnp.sum(-advantage * jnp.exp(mean))

    with jax.enable_x64(True):
        found, expected = (jax.jit(jax.grad(f))(log_prob) for f in (by_token, by_sequence))
    close(found, expected, rtol=1e-12)


def test_of_one_token_it_is_the_log_ratio():
    log_prob, old_log_prob, _ = rows(4, (3, 1))
    mask = jnp.ones((3, 1))
    close(ratios.sequence_log_ratio(log_prob, old_log_prob, mask), log_prob - old_log_prob)


# item_log_ratio
def test_item_log_ratio_is_a_loop_over_items():
    log_ratio, _, _ = rows(5)
    item = np.random.default_rng(6).integers(-1, 5, size=log_ratio.shape)
    item[1] = -1
    inside = (item >= 0) & (item < 4)
    upstream = np.random.default_rng(7).normal(size=(6, 4))
    with jax.enable_x64(True):

        @jax.jit
        def everything(x, upstream):
            means, pull, mask = jax.vjp(
                lambda x: ratios.item_log_ratio(x, jnp.asarray(item), num_items=4), x, has_aux=True
            )
            return means, mask, *pull(upstream)

        means, mask, slopes = map(np.asarray, everything(spoiled(log_ratio, inside), upstream))
    assert mask.shape == (6, 4)
    expected = np.zeros(log_ratio.shape)
    for i, k in np.ndindex(6, 4):
        mine = [t for t in range(7) if item[i, t] == k]
        assert mask[i, k] == (1 if mine else 0)
        close(means[i, k], np.mean(log_ratio[i, mine]) if mine else 0.0, rtol=1e-12)
        expected[i, mine] = upstream[i, k] / max(len(mine), 1)
    close(slopes, expected, rtol=1e-12)


# dynamic_clip_bounds
def test_dynamic_clip_bounds_solve_their_equations():
    q = jnp.array([1.0, 0.9, 0.7, 0.65, 0.3, 0.1, 1e-3, 1e-30, 0.0])
    low, high = jax.jit(lambda q: ratios.dynamic_clip_bounds(q, low=0.16, high=0.2))(q)
    # Below q = .64, 4·low, the lower equation has no solution: ½.
    close((q * (low - low**2))[:4], 0.16, rtol=1e-5)
    np.testing.assert_array_equal(low[4:], 0.5)
    close((q * (high**2 - high))[:6], 0.2, rtol=1e-5)
    np.testing.assert_array_equal(high[6:], 10.0)
    # By hand, q = 1: ½ + ½·√.36 and ½ + ½·√1.8.
    close((low[0], high[0]), (0.8, 0.5 + 0.5 * math.sqrt(1.8)), rtol=1e-6)
    assert np.all(np.diff(low) <= 0)
    assert np.all(np.diff(high) >= 0)


def test_dynamic_clip_bounds_are_those_of_a_clip_and_have_no_gradient():
    x, advantage, _ = (jnp.asarray(each, jnp.float32) for each in rows(8))
    prob = jnp.exp(-jnp.abs(x))

    def loss(prob):
        low, high = ratios.dynamic_clip_bounds(prob)
        return jnp.sum(surrogates.clip_surrogate(x, advantage, low=low, high=high, dual_clip=10.0))

    np.testing.assert_array_equal(jax.jit(jax.grad(loss))(prob), 0.0)


# balanced_clip_bounds
def balanced_loop(ratio, advantage, mask, low=0.6, high=1.2, low_max=0.9, high_max=3.0):
    """The search as it is said: first low, then high, in steps of .05, until c is 1."""

    def contribution(low, high):
        good = bad = 0.0
        for r, a, m in zip(ratio.ravel(), advantage.ravel(), mask.ravel(), strict=True):
            if m and a >= 0:
                good += a * min(r, high)
            elif m:
                bad += -a * max(r, low)
        return good / bad if bad else math.inf

    while contribution(low, high) < 1.0 and low < low_max - 1e-9:
        low = min(low + 0.05, low_max)
    while contribution(low, high) < 1.0 and high < high_max - 1e-9:
        high = min(high + 0.05, high_max)
    return low, high


def test_balanced_clip_bounds_is_the_search_of_a_loop():
    rng = np.random.default_rng(9)
    ratio = np.exp(0.8 * rng.normal(size=(120, 4, 5)))
    advantage = rng.normal(size=(120, 4, 5)) + 0.1
    mask = rng.random((120, 4, 5)) < 0.8
    advantage[0] = np.abs(advantage[0])  # nothing bad: as given
    advantage[1] = -np.abs(advantage[1])  # nothing good: both at their caps
    mask[2] = False
    with jax.enable_x64(True):
        bounds = jax.jit(jax.vmap(ratios.balanced_clip_bounds))(
            spoiled(ratio, mask), spoiled(advantage, mask), mask
        )
        low, high = map(np.asarray, bounds)
    expected = [balanced_loop(*each) for each in zip(ratio, advantage, mask, strict=True)]
    close(np.stack([low, high], axis=-1), expected, rtol=1e-12)
    assert [(low[i], high[i]) for i in range(3)] == [(0.6, 1.2), (0.9, 3.0), (0.6, 1.2)]
    assert np.sum((high > 1.2) & (high < 3.0)) > 10  # searches that end on the way
    assert np.all((low == 0.6) == (high == 1.2))


@pytest.mark.parametrize("step", [0.0, -0.1, 1e-12])
def test_balanced_clip_bounds_end_where_a_step_leads_nowhere(step):
    ratio, advantage = jnp.ones((1, 2)), jnp.array([[1.0, -3.0]])
    mask = jnp.ones((1, 2), bool)
    low, high = balanced_clip_bounds(ratio, advantage, mask, step=step, target=1.0)
    close((low, high), (0.9, 1.2), rtol=1e-6)


def test_balanced_clip_bounds_by_hand():
    # Good: 2·min(4, high); bad: 4·max(.7, .9) = 3.6 after low has gone to its cap; 2·1.8 = 3.6.
    ratio, advantage = jnp.array([[4.0, 0.7]]), jnp.array([[2.0, -4.0]])
    mask = jnp.ones((1, 2), bool)
    low, high = balanced_clip_bounds(ratio, advantage, mask, step=0.05, target=0.999)
    close((low, high), (0.9, 1.8), rtol=1e-6)


# entropy_score and entropy_clip_bounds
def test_entropy_score_is_a_loop_over_the_batch():
    entropy, _, mask = rows(10)
    entropy = np.exp(entropy)
    entropy[0, 0], mask[0, 0] = 0.0, True
    with jax.enable_x64(True):
        score = np.asarray(entropy_score(spoiled(entropy, mask), mask))
    x = np.log(np.maximum(entropy[mask], 1e-6))
    x = x - np.quantile(x, 0.8)
    expected = [each / max(x) if each > 0 else each / -min(x) for each in x]
    close(score[mask], expected, rtol=1e-10)
    np.testing.assert_array_equal(score[~mask], 0.0)
    assert score.min() == -1.0
    assert score.max() == 1.0


@pytest.mark.parametrize("entropy", [jnp.zeros((2, 3)), jnp.full((2, 3), 0.7)])
@pytest.mark.parametrize("valid", [True, False])
def test_entropies_that_are_equal_or_none_score_0(entropy, valid):
    mask = jnp.full((2, 3), valid)
    np.testing.assert_array_equal(entropy_score(entropy, mask), 0.0)


def test_entropy_clip_bounds_by_hand():
    # 1 − .2·(1 − .5·s) below, 1 + .28·(1 + .5·s) above; of either side only its own sign of s.
    low, high = ratios.entropy_clip_bounds(jnp.array([-1.0, -0.4, 0.0, 0.5, 1.0]), alpha=0.5)
    close(low, [0.7, 0.76, 0.8, 0.8, 0.8], rtol=1e-6)
    close(high, [1.28, 1.28, 1.28, 1.35, 1.42], rtol=1e-6)


def test_a_score_of_0_is_the_plain_clip():
    x, advantage, _ = (jnp.asarray(each, jnp.float32) for each in rows(11))
    low, high = ratios.entropy_clip_bounds(jnp.zeros_like(x))
    np.testing.assert_array_equal(
        surrogates.clip_surrogate(x, advantage, low=low, high=high),
        surrogates.clip_surrogate(x, advantage, low=0.8, high=1.28),
    )

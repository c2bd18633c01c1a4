"""Surrogates against loops over tokens in float64, their gradients against finite differences of
those loops, and what the papers say of them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses.sequences import penalties, surrogates

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


# Loops: the loss of one token by x, with x frozen at `at` where the gradient stops.
def clip_loop(x, at, a, low=0.8, high=1.28, dual=3.0):
    ratio = math.exp(x)
    loss = max(-a * ratio, -a * min(max(ratio, low), high))
    return min(loss, -a * dual) if a < 0 else loss


def soft_upper_loop(x, at, a):
    if a > 0 and math.exp(at) > 1.28:
        return -a * 1.28 * math.exp(x) / math.exp(at)
    return clip_loop(x, at, a)


def asymmetric_loop(x, at, a):
    ratio = math.exp(at)
    if a > 0:
        return -a / 1.2 if ratio > 1.2 else -a * min(1 / ratio, 3.0) * math.exp(x - at)
    return -a * 0.8 if ratio < 0.8 else -a * min(ratio, 3.0) * math.exp(x - at)


def log_ratio_loop(x, at, a):
    return -min(x * a, min(max(x, math.log(0.7)), math.log(1.2)) * a)


PER_TOKEN = [
    (
        lambda x, a: surrogates.clip_surrogate(x, a, low=0.8, high=1.28, dual_clip=3.0),
        clip_loop,
    ),
    (
        lambda x, a: surrogates.clip_surrogate(x, a, low=jnp.full_like(x, 0.5), high=1.1),
        lambda x, at, a: clip_loop(x, at, a, 0.5, 1.1, math.inf),
    ),
    (surrogates.soft_upper_clip, soft_upper_loop),
    (surrogates.asymmetric_surrogate, asymmetric_loop),
    (
        lambda x, a: surrogates.clipped_log_ratio_loss(x, a, clip_low=0.3, clip_high=0.2),
        log_ratio_loop,
    ),
    (surrogates.policy_gradient_loss, lambda x, at, a: -a * x),
    (
        lambda x, a: surrogates.truncated_importance_loss(x, x, a, cap=1.5),
        lambda x, at, a: -min(math.exp(at), 1.5) * a * x,
    ),
    (
        lambda x, a: surrogates.ratio_variance_loss(x, a, coef=0.3),
        lambda x, at, a: -(math.exp(x) * a - 0.3 * math.expm1(x) ** 2),
    ),
]
PENALTIES = [
    (
        lambda x, a: penalties.policy_drift(x, cap=0.2),
        lambda x, at, a: min(math.expm1(at), 0.2) * x,
    ),
    (lambda x, a: penalties.kl_k1(x, -x), lambda x, at, a: 2 * x),
    (lambda x, a: penalties.kl_k2(x, a), lambda x, at, a: 0.5 * (x - a) ** 2),
    (lambda x, a: penalties.kl_k3(x, a), lambda x, at, a: math.expm1(a - x) - (a - x)),
]


def every_loss(x, advantage):
    return sum(loss(x, advantage) for loss, _ in PER_TOKEN)


def tokens(seed=0, shape=(8, 6)):
    """Log-ratios on either side of every bound, and advantages of which some are 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=0.8, size=shape)
    return x, rng.normal(size=shape) * (rng.random(shape) < 0.9)


def values_and_slopes(loss, x, *data):
    def both(x, *data):
        value, pull = jax.vjp(lambda x: loss(x, *data), x)
        return value, pull(jnp.ones_like(value))[0]

    return jax.tree.map(np.asarray, jax.jit(both)(x, *data))


@pytest.mark.parametrize(("loss", "loop"), PER_TOKEN + PENALTIES)
def test_values_and_gradients_are_those_of_a_loop(loss, loop):
    x, advantage = tokens()
    with jax.enable_x64(True):
        values, slopes = values_and_slopes(loss, x, advantage)
    step = 1e-6
    for i in np.ndindex(x.shape):
        close(values[i], loop(x[i], x[i], advantage[i]), rtol=1e-12)
        above, below = (loop(x[i] + h, x[i], advantage[i]) for h in (step, -step))
        close(slopes[i], (above - below) / (2 * step), rtol=1e-8, atol=1e-8)


def test_one_advantage_a_sequence_is_one_a_token_everywhere():
    x, advantage = map(jnp.float32, tokens(1, (3, 4)))

    @jax.jit
    def all_of_them(x, a):
        return (
            *(loss(x, a) for loss, _ in PER_TOKEN),
            surrogates.truncated_importance_loss(a, x, a, cap=2.0),
            surrogates.rec_mask(x, a, mode="ring"),
        )

    one, spread = advantage[:, :1], jnp.broadcast_to(advantage[:, :1], x.shape)
    np.testing.assert_array_equal(all_of_them(x, one), all_of_them(x, spread))


def test_advantages_and_bounds_that_would_broadcast_are_refused():
    x, advantage = map(jnp.float32, tokens(1, (3, 4)))
    for refused in (advantage[0], advantage[:1], advantage[..., None], advantage[:, :2]):
        with pytest.raises(AssertionError):
            surrogates.clip_surrogate(x, refused, low=0.8, high=1.2)
        with pytest.raises(AssertionError):
            surrogates.clip_surrogate(x, advantage, low=0.8, high=jnp.abs(refused) + 1.0)


def test_no_gradient_flows_through_an_advantage():
    x, advantage = map(jnp.float32, tokens(2, (3, 4)))
    slope = jax.jit(jax.grad(lambda a: sum(jnp.sum(loss(x, a)) for loss, _ in PER_TOKEN)))
    np.testing.assert_array_equal(slope(advantage), 0.0)


@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_with_bounds_around_1_it_is_the_loss_of_ppo(eps):
    x, advantage = map(jnp.float32, tokens(3))
    clipped = values_and_slopes(
        lambda x, a: surrogates.clip_surrogate(x, a, low=1 - eps, high=1 + eps), x, advantage
    )
    ppo = values_and_slopes(
        lambda x, a: losses.ppo_clip_loss(x, jnp.zeros_like(x), a, clip_eps=eps), x, advantage
    )
    close(clipped, ppo, rtol=1e-6)


def test_where_nothing_has_moved_the_gradient_is_the_policy_gradient():
    _, advantage = map(jnp.float32, tokens(4))
    _, slopes = values_and_slopes(every_loss, jnp.zeros_like(advantage), advantage)
    close(slopes, len(PER_TOKEN) * -advantage, rtol=1e-6)


def test_asymmetric_surrogate_by_hand():
    ratio, advantage, loss, slope = np.array(
        [
            (1.0, 2.0, -2.0, -2.0),
            (1.1, 2.0, -2.0 / 1.1, -2.0 / 1.1),  # good and likelier: 1/ρ
            (1.3, 2.0, -2.0 / 1.2, 0.0),  # beyond the clip
            (0.5, 2.0, -4.0, -4.0),
            (0.25, 2.0, -6.0, -6.0),  # 1/ρ = 4, capped at 3
            (0.5, -2.0, 1.6, 0.0),  # bad and below the clip
            (0.9, -2.0, 1.8, 1.8),
            (2.0, -2.0, 4.0, 4.0),
            (5.0, -2.0, 6.0, 6.0),  # a dual clip with a gradient
            (1.3, 0.0, 0.0, 0.0),
        ],
        np.float32,
    ).T
    found = values_and_slopes(surrogates.asymmetric_surrogate, np.log(ratio), advantage)
    close(found, (loss, slope), rtol=1e-6)
    # For a good action the weight falls with the ratio.
    ratio = np.linspace(0.1, 1.19, 50, dtype=np.float32)
    _, slopes = values_and_slopes(
        surrogates.asymmetric_surrogate, np.log(ratio), np.ones_like(ratio)
    )
    assert np.all(np.diff(slopes) >= 0)


def test_the_soft_upper_clip_changes_gradients_alone():
    x, advantage = map(jnp.float32, tokens(5, (40, 6)))
    soft, soft_slopes = values_and_slopes(surrogates.soft_upper_clip, x, advantage)
    hard, hard_slopes = values_and_slopes(PER_TOKEN[0][0], x, advantage)
    np.testing.assert_array_equal(soft, hard)
    kept = (advantage > 0) & (jnp.exp(x) > 1.28)
    np.testing.assert_array_equal(soft_slopes[~kept], hard_slopes[~kept])
    close(soft_slopes[kept], -1.28 * advantage[kept], rtol=1e-6)
    assert np.any(kept)


def test_a_coefficient_of_the_advantage_over_2_eps_is_spo():
    x, advantage = map(jnp.float32, tokens(6))
    spo = losses.spo_loss(x, jnp.zeros_like(x), advantage, eps=0.2)
    coef = jnp.abs(advantage) / 0.4
    close(surrogates.ratio_variance_loss(x, advantage, coef=coef), spo, rtol=1e-5, atol=1e-5)
    # stationary at ρ = 1 + A/(2·coef)
    best = jnp.log1p(advantage / (2.0 * 4.0))
    _, slopes = values_and_slopes(
        lambda x, a: surrogates.ratio_variance_loss(x, a, coef=4.0), best, advantage
    )
    close(slopes, np.zeros(slopes.shape), atol=1e-6)


# The geometric mean
def geometric_mean_loop(x, advantage, mask):
    sign = np.sign(advantage)
    bounded = [
        sign * min(sign * each, sign * min(max(each, -0.3), 0.4))
        for each, valid in zip(x, mask, strict=True)
        if valid
    ]
    return -advantage * math.exp(sum(bounded) / len(bounded)) if bounded else 0.0


def geometric_mean(x, advantage, mask):
    return surrogates.geometric_mean_surrogate(x, advantage, mask, clip_low=0.3, clip_high=0.4)


def test_geometric_mean_surrogate_is_a_loop():
    x, advantage = tokens(7, (8, 6))
    advantage = advantage[:, 0]
    advantage[3] = 0.0
    mask = np.random.default_rng(7).random((8, 6)) < 0.7
    mask[2] = False
    clean = x
    x = np.where(mask, x, np.array([np.nan, np.inf, -np.inf] * 2))
    with jax.enable_x64(True):
        values, slopes = values_and_slopes(geometric_mean, x, advantage, mask)
    assert values[2] == 0.0
    np.testing.assert_array_equal(slopes[~mask], 0.0)
    step = 1e-6
    for i, t in np.ndindex(x.shape):
        close(values[i], geometric_mean_loop(clean[i], advantage[i], mask[i]), rtol=1e-12)
        above, below = np.array([clean[i], clean[i]])
        above[t] += step
        below[t] -= step
        above, below = (geometric_mean_loop(y, advantage[i], mask[i]) for y in (above, below))
        close(slopes[i, t], (above - below) / (2 * step), rtol=1e-8, atol=1e-8)


def test_geometric_mean_surrogate_where_nothing_moved_and_of_one_token():
    x, advantage = map(jnp.float32, tokens(8, (40, 1)))
    mask = jnp.ones((40, 1), bool)
    values, slopes = values_and_slopes(geometric_mean, jnp.zeros((40, 1)), advantage[:, 0], mask)
    close(values, -advantage[:, 0])
    close(slopes, -advantage)
    # One token is the clipped surrogate with the bounds e^∓.
    one = values_and_slopes(geometric_mean, x, advantage[:, 0], mask)
    clip = values_and_slopes(
        lambda x, a: surrogates.clip_surrogate(x, a, low=math.exp(-0.3), high=math.exp(0.4)),
        x,
        advantage,
    )
    close(one[0], clip[0][:, 0], rtol=1e-6)
    close(one[1], clip[1], rtol=1e-6)


# HAEPO
def haepo_loop(total, returns):
    weights = np.exp(total - np.max(total))
    weights /= weights.sum()
    loss = 0.0
    for w, r in zip(weights, returns, strict=True):
        loss += -w * r + 0.3 * w * math.log(w)
    return loss


def haepo(total, returns):
    return surrogates.haepo_loss(total, returns, entropy_coef=0.3)


def test_haepo_loss_is_a_loop():
    total, returns = tokens(9, (3, 5))
    with jax.enable_x64(True):
        values, slopes = values_and_slopes(haepo, total, returns)
        shifted = values_and_slopes(haepo, total - 700.0, returns)
    for found, expected in zip(shifted, (values, slopes), strict=True):
        close(found, expected, rtol=1e-9, atol=1e-12)
    step = 1e-6
    for i, k in np.ndindex(total.shape):
        close(values[i], haepo_loop(total[i], returns[i]), rtol=1e-12)
        up, down = (total[i] + h * (np.arange(5) == k) for h in (step, -step))
        numeric = (haepo_loop(up, returns[i]) - haepo_loop(down, returns[i])) / (2 * step)
        close(slopes[i, k], numeric, rtol=1e-7, atol=1e-8)


def test_haepo_without_entropy_raises_what_is_better_than_the_weighted_mean():
    total, returns = map(jnp.float32, tokens(10, (3, 5)))
    _, slopes = values_and_slopes(
        lambda t, r: surrogates.haepo_loss(t, r, entropy_coef=0.0), total, returns
    )
    weights = jax.nn.softmax(total)
    mean = jnp.sum(weights * returns, axis=-1, keepdims=True)
    close(slopes, -weights * (returns - mean), rtol=1e-4, atol=1e-6)
    _, slopes = values_and_slopes(
        lambda t, r: surrogates.haepo_loss(t, r, entropy_coef=0.0), total, jnp.ones((3, 5))
    )
    close(slopes, np.zeros((3, 5)), atol=1e-7)


# REC
MASKS = {  # of the ratios .3, .7, 1, 1.4 and 3.5, for a good, a neutral and a bad action
    "none": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
    "one-side": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]],
    "two-side": [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]],
    "ring": [[1, 0, 1, 0, 0], [1, 0, 1, 0, 1], [0, 0, 1, 0, 1]],
}


@pytest.mark.parametrize("mode", MASKS)
def test_rec_mask_by_hand(mode):
    x = jnp.log(jnp.broadcast_to(jnp.array([0.3, 0.7, 1.0, 1.4, 3.5]), (3, 5)))
    advantage = jnp.array([[2.0], [0.0], [-1.0]])
    np.testing.assert_array_equal(surrogates.rec_mask(x, advantage, mode=mode), MASKS[mode])


def test_rec_mask_refuses_other_modes():
    with pytest.raises(ValueError, match="one of none, one-side, two-side, ring"):
        surrogates.rec_mask(jnp.zeros(3), jnp.zeros(3), mode="both")


def test_rec_on_one_side_weighted_by_the_ratio_has_the_gradient_of_ppo():
    x, advantage = map(jnp.float32, tokens(11))

    def rec(x, a):
        weight = surrogates.rec_mask(x, a, mode="one-side") * jax.lax.stop_gradient(jnp.exp(x))
        return weight * surrogates.policy_gradient_loss(x, a)

    def ppo(x, a):
        return losses.ppo_clip_loss(x, jnp.zeros_like(x), a, clip_eps=0.2)

    found, expected = (values_and_slopes(loss, x, advantage)[1] for loss in (rec, ppo))
    close(found, expected, rtol=1e-6)


# Edges
def test_whatever_the_log_ratio_losses_and_gradients_are_finite():
    advantage = jnp.broadcast_to(jnp.array([-2.0, 0.0, 2.0]), (6, 3))
    x = jnp.broadcast_to(jnp.array([[-1e4], [-90.0], [-20.0], [20.0], [90.0], [1e4]]), (6, 3))
    values, slopes = values_and_slopes(every_loss, x, advantage)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(slopes))


def test_beyond_a_log_ratio_of_20_the_ratio_no_longer_grows():
    advantage = jnp.full(2, -1.0)
    values, slopes = values_and_slopes(
        lambda x, a: surrogates.clip_surrogate(x, a, low=0.8, high=1.2),
        jnp.array([21.0, 90.0]),
        advantage,
    )
    close(values, math.exp(20.0), rtol=1e-6)
    np.testing.assert_array_equal(slopes, 0.0)

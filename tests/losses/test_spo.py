"""The losses of SPO by hand, and what the paper says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # at ratio 1: −A, and the policy gradient −A
        (1.2, 2.0, -2.2, 0.0),  # at 1 + eps: −(1.2·2 − 2/0.4·0.04) = −2.4 + 0.2, the minimum
        # Beyond: −2.8 + 5·0.16; by log_prob r·(|A|/eps·(r − 1) − A) = 1.4·(4 − 2).
        (
            1.4,
            2.0,
            -2.0,
            2.8,
        ),
        (0.8, -2.0, 1.8, 0.0),  # a bad action at 1 − eps: 1.6 + 5·0.04, the minimum
        # A bad action that has become too rare: 1 + 5·0.25; 0.5·(10·(−0.5) + 2).
        (
            0.5,
            -2.0,
            2.25,
            -1.5,
        ),
        # A bad action that has become likelier: 3 + 5·0.25; 1.5·(10·0.5 + 2).
        (
            1.5,
            -2.0,
            4.25,
            10.5,
        ),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_spo_loss_by_hand(ratio, advantage, loss, gradient):
    arguments = jnp.log(ratio) - 1.0, jnp.float32(-1.0), jnp.float32(advantage)
    value, slope = jax.value_and_grad(lambda *a: losses.spo_loss(*a, eps=0.2))(*arguments)
    close((value, slope), (loss, gradient), rtol=1e-5, atol=2e-6)


def test_the_gradient_is_the_policy_gradient_at_ratio_1_and_zero_at_the_optimal_ratio():
    old_log_prob, advantage = normal(2, 200)
    slope = jax.vmap(jax.grad(lambda *a: losses.spo_loss(*a, eps=0.3)))
    close(slope(old_log_prob, old_log_prob, advantage), -advantage, rtol=1e-6)
    best = old_log_prob + np.log1p(0.3 * np.sign(advantage))
    close(slope(best, old_log_prob, advantage), np.zeros(200), atol=2e-5)


def test_spo_loss_is_the_aligned_loss_weighted_and_shifted():
    log_prob, old_log_prob, advantage = normal(3, 500)
    eps = 0.2
    aligned = losses.spo_aligned_loss(log_prob, old_log_prob, advantage, eps=eps)
    size = np.abs(advantage)
    close(
        losses.spo_loss(log_prob, old_log_prob, advantage, eps=eps),
        size / (2 * eps) * aligned - advantage - size * eps / 2,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss"), [(1.0, 5.0, 0.04), (1.2, 5.0, 0.0), (1.2, -5.0, 0.16)]
)
def test_spo_aligned_loss_by_hand(ratio, advantage, loss):
    # (r − 1 ∓ 0.2)², whatever the size of the advantage
    value = losses.spo_aligned_loss(
        jnp.log(ratio), jnp.float32(0.0), jnp.float32(advantage), eps=0.2
    )
    close(value, loss, atol=1e-6)


@pytest.mark.parametrize("log_ratio", [-100.0, -20.0, 9.0, 11.0, 100.0])
@pytest.mark.parametrize("advantage", [-3.0, 0.0, 3.0])
@pytest.mark.parametrize("loss", [losses.spo_loss, losses.spo_aligned_loss])
def test_losses_that_square_the_ratio_stay_finite_and_still_pull_back(loss, advantage, log_ratio):
    value, slope = jax.value_and_grad(lambda *a: loss(*a, eps=0.2))(
        jnp.float32(log_ratio), jnp.float32(0.0), jnp.float32(advantage)
    )
    assert np.isfinite(value)
    assert np.isfinite(slope**2)  # its square enters the norm of the gradient
    if log_ratio > 1.0 and (advantage != 0.0 or loss is losses.spo_aligned_loss):
        assert slope > 0.0

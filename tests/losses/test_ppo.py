"""The losses of PPO by hand, in their limits, and against rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rlax

from onejit import losses

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# ppo_clip_loss


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 2.0, -2.0, -2.0),  # at ratio 1: −A, and the policy gradient −A
        (1.1, 2.0, -2.2, -2.2),  # inside: −r·A, whose gradient by log_prob is −r·A too
        (1.5, 2.0, -2.4, 0.0),  # a good action, already likelier: −(1 + 0.2)·2, no further push
        (0.5, 2.0, -1.0, -1.0),  # a good action that has become rarer: not clipped, −0.5·2
        (1.5, -2.0, 3.0, 3.0),  # a bad action that has become likelier: not clipped, 1.5·2
        (0.5, -2.0, 1.6, 0.0),  # a bad action, already rarer: (1 − 0.2)·2, no further push
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_ppo_clip_loss_by_hand(ratio, advantage, loss, gradient):
    arguments = jnp.log(ratio) - 1.0, jnp.float32(-1.0), jnp.float32(advantage)
    value, slope = jax.value_and_grad(lambda *a: losses.ppo_clip_loss(*a, clip_eps=0.2))(*arguments)
    close((value, slope), (loss, gradient), rtol=1e-6)


def test_ppo_clip_loss_at_ratio_1_has_the_policy_gradient():
    logits, advantage = normal(30, 5), normal(30)
    action = np.random.default_rng(1).integers(5, size=30)
    old_log_prob = losses.categorical_log_prob(action, logits)

    def loss(logits):
        log_prob = losses.categorical_log_prob(action, logits)
        return jnp.sum(losses.ppo_clip_loss(log_prob, old_log_prob, advantage, clip_eps=0.2))

    # −A·∇log π(a|s) of a softmax: −A·(one_hot(a) − π)
    expected = -advantage[:, None] * (np.eye(5)[action] - jax.nn.softmax(logits))
    close(jax.jit(jax.grad(loss))(logits), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip_eps", [0.05, 0.2, 0.5])
def test_ppo_clip_loss_equals_rlax(clip_eps):
    log_prob, old_log_prob, advantage = normal(3, 200)

    def ours(log_prob):
        return jnp.mean(losses.ppo_clip_loss(log_prob, old_log_prob, advantage, clip_eps=clip_eps))

    def theirs(log_prob):
        return rlax.clipped_surrogate_pg_loss(jnp.exp(log_prob - old_log_prob), advantage, clip_eps)

    (loss, gradient), (expected_loss, expected_gradient) = (
        jax.jit(jax.value_and_grad(mean_loss))(log_prob) for mean_loss in (ours, theirs)
    )
    close(loss, expected_loss, rtol=1e-6)
    close(gradient, expected_gradient, rtol=1e-6)


@pytest.mark.parametrize(("advantage", "loss"), [(2.0, -2.4), (0.0, 0.0)])
def test_ppo_clip_loss_hides_a_ratio_that_overflows_and_its_gradient(advantage, loss):
    value, slope = jax.value_and_grad(lambda *a: losses.ppo_clip_loss(*a, clip_eps=0.2))(
        jnp.float32(0.0), jnp.float32(-200.0), jnp.float32(advantage)
    )
    close((value, slope), (loss, 0.0), rtol=1e-6)


# clipped_value_loss


@pytest.mark.parametrize(
    ("value", "loss", "gradient"),
    [
        (0.3, 3.645, -2.7),  # within ½ of the old value 0: ½·(0.3 − 3)², gradient V − R
        # Moved 2 towards the target 3, clipped to ½: ½·max(1, (½ − 3)²), no further pull.
        (
            2.0,
            3.125,
            0.0,
        ),
        (-2.0, 12.5, -5.0),  # moved away: ½·max((−2 − 3)², (−½ − 3)²), pulled back
        (9.0, 18.0, 6.0),  # overshot by more: ½·max((9 − 3)², (½ − 3)²), pulled back
    ],
)
def test_clipped_value_loss_by_hand(value, loss, gradient):
    arguments = jnp.float32(value), jnp.float32(0.0), jnp.float32(3.0)
    result, slope = jax.value_and_grad(lambda *a: losses.clipped_value_loss(*a, clip_eps=0.5))(
        *arguments
    )
    close((result, slope), (loss, gradient), rtol=1e-6)


def test_clipped_value_loss_with_infinite_clip_eps_is_half_the_square():
    value, old_value, target = normal(3, 50)

    def ours(value):
        return losses.clipped_value_loss(value, old_value, target, clip_eps=jnp.inf)

    close(ours(value), optax.l2_loss(value, target), rtol=1e-5, atol=1e-6)
    by_value = jax.jit(jax.grad(lambda v: jnp.sum(ours(v))))(value)
    close(by_value, value - target, rtol=1e-5, atol=1e-6)


def test_clipped_value_loss_is_never_below_the_unclipped_one():
    value, old_value, target = 2.0 * normal(3, 1000)
    clipped = losses.clipped_value_loss(value, old_value, target, clip_eps=0.5)
    unclipped = losses.clipped_value_loss(value, value, target, clip_eps=0.5)
    assert np.all(clipped >= unclipped)
    assert np.any(clipped > unclipped)

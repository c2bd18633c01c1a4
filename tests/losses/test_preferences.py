"""Losses of preferences by hand, and what their papers say of them; values and gradients against
loops are in test_objectives_by_loop.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses import preferences

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def log_law(*shape, seed=0):
    return jax.nn.log_softmax(normal(*shape, seed=seed), axis=-1)


PAIR, HALVES = np.float32([1.0, 0.0]), np.log(np.float32([2.0, 0.5]))
THREE = np.float32([1.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("function", "arguments", "hyperparameters", "expected"),
    [
        # ½·(2 − .3/.1)², ½·(−1 + .5/.1)²
        ("sppo_loss", ([2.0, -1.0], [0.8, 0.0]), {"beta": 0.1}, [0.5, 8.0]),
        # ½·log((e² + 1)/2); the maximum; nearly the mean
        ("optimal_value", (PAIR,), {"beta": 0.5}, 0.5 * math.log((math.exp(2.0) + 1.0) / 2.0)),
        ("optimal_value", (THREE,), {"beta": 1e-6}, 1.0),
        ("optimal_value", (THREE,), {"beta": 1e6}, 0.5),
        # (.1·3 + .6 − 1)², (.1·(−2) + .6 − 0)²
        ("optimal_advantage_loss", ([3.0, -2.0], PAIR, 0.6), {"beta": 0.1}, [0.01, 0.16]),
        # Logits 1.5·(1, −1, 0) of scores (2, 0, 1): log(1 + e^−1.5) twice, log 2
        ("pacs_loss", ([2.0, 0.0, 1.0], [1.0, 0.0, 1.0]), {}, [0.201413, 0.201413, math.log(2)]),
        # log(1 + e^∓1)
        ("outcome_cross_entropy", ([20.0, 20.0], PAIR), {}, [0.313262, 1.313262]),
        # One success, two failures: (log(1 + e^−1) + log(1 + e^1))/2
        ("success_pair_loss", ([1.0, 0.0, 2.0], [1.0, 0.0, 0.0]), {}, 0.813262),
        # d = 1. Apart: −½·(min(2, 1.2) + min(−.5, −.8)); joint: −½·1·min(log 4, log 1.2)
        ("p3o_loss", (HALVES, PAIR), {}, -0.2),
        ("p3o_loss", (HALVES, PAIR), {"joint": True}, -0.5 * math.log(1.2)),
    ],
)
def test_by_hand(function, arguments, hyperparameters, expected):
    arguments = [jnp.asarray(each, jnp.float32) for each in arguments]
    value = getattr(preferences, function)(*arguments, **hyperparameters)
    close(value, expected, rtol=2e-6, atol=1e-6)


# comparisons


@pytest.mark.parametrize("margin", [-1e4, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize(
    ("loss", "hyperparameters"),
    [
        (preferences.dpo_loss, {"beta": 1.0}),
        (preferences.dpo_loss, {"beta": 1.0, "label_smoothing": 0.1}),
        (preferences.exo_pair_loss, {"beta": 1.0}),
        (preferences.ipo_loss, {"beta": 1.0}),
    ],
)
def test_losses_of_a_pair_are_finite_whatever_the_margin(loss, hyperparameters, margin):
    value, slope = jax.value_and_grad(lambda m: loss(m, **hyperparameters))(margin)
    assert np.isfinite(value) and value >= 0.0
    assert np.isfinite(slope)
    assert slope <= 0.0 or margin > 0.0


def test_where_losses_of_a_pair_are_least():
    # IPO at 1/(2β); DPO with smoothing and EXO where σ(β·margin) is 1 − ε.
    logit = math.log(0.9 / 0.1)
    for loss, margin in [
        (lambda m: preferences.ipo_loss(m, beta=0.2), 2.5),
        (lambda m: preferences.dpo_loss(m, beta=0.2, label_smoothing=0.1), logit / 0.2),
        (lambda m: preferences.exo_pair_loss(m, beta=0.2, label_smoothing=0.1), logit / 0.2),
    ]:
        close(jax.grad(loss)(margin), 0.0, atol=1e-6)


def test_exo_is_a_divergence_and_the_pair_form_is_that_of_two():
    log_ratio, rewards = normal(2, 50, 4)
    exo = jax.jit(preferences.exo_loss)
    loss = exo(log_ratio, rewards, beta=0.5, reward_beta=0.7)
    assert np.all(loss > 0.0)
    close(exo(log_ratio, rewards + 3.0, beta=0.5, reward_beta=0.7), loss, rtol=1e-4, atol=1e-6)
    close(exo(rewards * 2.0 / 0.7, rewards, beta=0.5, reward_beta=0.7), np.zeros(50), atol=1e-6)
    margin = log_ratio[:, 0] - log_ratio[:, 1]
    target = np.broadcast_to(np.log(np.float32([0.9, 0.1])), (50, 2))
    close(
        exo(log_ratio[:, :2], target, beta=0.5, reward_beta=1.0),
        preferences.exo_pair_loss(margin, beta=0.5, label_smoothing=0.1),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.parametrize("joint", [False, True])
def test_the_gradient_of_p3o_at_ratio_1_and_what_it_does_not_see(joint):
    rewards = normal(20, 2)
    p3o = jax.jit(lambda x, r: preferences.p3o_loss(x, r, clip_eps=0.2, joint=joint))
    slope = jax.jit(jax.grad(lambda x, r: jnp.sum(p3o(x, r))))
    half = 0.5 * (rewards[:, 0] - rewards[:, 1])
    close(slope(jnp.zeros((20, 2)), rewards), np.stack([-half, half], axis=-1), rtol=1e-6)
    # The joint clip is not symmetric in logs: keep to its inside.
    log_ratio = (0.02 if joint else 0.3) * normal(20, 2, seed=1)
    loss = p3o(log_ratio, rewards)
    close(p3o(log_ratio, rewards + normal(20, 1, seed=2)), loss, rtol=1e-3, atol=1e-6)
    close(p3o(log_ratio[:, ::-1], rewards[:, ::-1]), loss, rtol=1e-5, atol=1e-7)


def test_the_joint_gradient_of_p3o_has_the_weight_and_ends_at_the_clip():
    log_ratio = jnp.array([[0.1, 0.05], [0.5, 0.1], [0.1, 0.5], [0.1, 0.5]])
    rewards = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = jax.jit(lambda x: jnp.sum(preferences.p3o_loss(x, rewards, joint=True)))
    slope = jax.grad(loss)(log_ratio)
    # −½·ρ₁ρ₂·d·(1, −1); nothing where x·d has gone beyond the clip
    weight = np.exp(np.sum(log_ratio, axis=-1)) / 2
    expected = np.array([-1.0, 0.0, -1.0, 0.0]) * weight
    close(slope, np.stack([expected, -expected], axis=-1), rtol=1e-5)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("log_ratio", [[-500.0, 500.0], [500.0, 500.0], [500.0, -500.0]])
def test_p3o_is_finite_far_from_the_old_policy(log_ratio, joint):
    p3o = jax.jit(lambda x: preferences.p3o_loss(x, jnp.array([1.0, 0.0]), joint=joint))
    loss, slope = jax.value_and_grad(p3o)(jnp.array(log_ratio))
    assert np.isfinite(loss) and np.all(np.isfinite(slope))


# regressions


def test_sppo_pulls_to_the_old_policy_at_even_odds_and_rests_where_the_log_ratio_is_due():
    slope = jax.grad(lambda x: jnp.sum(preferences.sppo_loss(x, jnp.array([0.5, 0.7]), beta=0.1)))
    close(slope(jnp.array([3.0, 2.0])), [3.0, 0.0], atol=1e-6)


def test_copg_is_0_at_the_optimum_of_the_regularised_problem_whoever_drew_the_candidates():
    rewards, ref_log_prob = normal(20, 5), log_law(20, 5, seed=1)
    copg = jax.jit(
        lambda log_prob: preferences.copg_loss(rewards, log_prob, ref_log_prob, beta=0.5)
    )
    optimum = jax.nn.log_softmax(ref_log_prob + rewards / 0.5, axis=-1)
    close(copg(optimum), np.zeros(20), atol=1e-9)
    # any constant of a prompt may be added
    close(copg(optimum + 2.0), np.zeros(20), atol=1e-9)
    assert np.all(copg(log_law(20, 5, seed=2)) > 1e-3)


def test_the_gradient_of_copg_is_that_of_the_leave_one_out_advantage():
    rewards, log_prob, ref_log_prob = normal(3, 20, 5)
    slope = jax.grad(lambda x: jnp.sum(preferences.copg_loss(rewards, x, ref_log_prob, beta=0.5)))(
        log_prob
    )
    advantage = losses.sequences.advantages.leave_one_out(rewards - 0.5 * (log_prob - ref_log_prob))
    close(slope, -2.0 * 0.5 * advantage, rtol=1e-4, atol=1e-5)


def test_a_candidate_alone_has_nothing_to_be_compared_with():
    one = jnp.array([3.0])
    for loss, expected in [
        (lambda x: preferences.copg_loss(one, x, one, beta=0.5), 0.0),
        (lambda x: preferences.exo_loss(x, one, beta=0.5, reward_beta=1.0), 0.0),
        (lambda x: preferences.success_pair_loss(x, one), 0.0),
        (lambda x: jnp.sum(preferences.pacs_loss(x, one)), math.log(2.0)),
    ]:
        value, slope = jax.jit(jax.value_and_grad(loss))(2.0 * one)
        close(value, expected, rtol=1e-6)
        assert slope == 0.0
    close(preferences.optimal_value(one, beta=0.5), 3.0)


def test_the_optimal_value_is_between_the_mean_and_the_maximum():
    rewards = normal(20, 8)
    values = [preferences.optimal_value(rewards, beta=beta) for beta in (1e6, 2.0, 0.5, 1e-6)]
    close(values[0], rewards.mean(axis=-1), atol=1e-5)
    close(values[-1], rewards.max(axis=-1), atol=1e-5)
    assert np.all(np.diff(values, axis=0) > 0.0)
    close(preferences.optimal_value(jnp.full(8, 0.3), beta=0.5), np.float32(0.3))


def test_optimal_advantage_regression_is_solved_by_the_optimal_policy():
    # The reference is uniform on K outcomes, which are its K draws.
    rewards = normal(20, 8)
    value = preferences.optimal_value(rewards, beta=0.5)[:, None]
    log_ratio = (rewards - value) / 0.5
    close(jnp.exp(log_ratio).mean(axis=-1), np.ones(20), rtol=1e-5)  # it is a policy
    loss = preferences.optimal_advantage_loss(log_ratio, rewards, value, beta=0.5)
    close(loss, np.zeros((20, 8)), atol=1e-10)


@pytest.mark.parametrize("shape", [(20,), (8,), (20, 8, 1), (19, 1), (1, 1, 1)])
def test_a_value_that_would_broadcast_by_accident_is_refused(shape):
    rewards = jnp.zeros((20, 8))
    with pytest.raises(AssertionError):
        preferences.optimal_advantage_loss(rewards, rewards, jnp.zeros(shape))


# implicit rewards


def test_the_gradient_of_pacs_at_small_scores_is_the_leave_one_out_advantage():
    correct = np.random.default_rng(0).random((20, 6)) < 0.5
    slope = jax.grad(lambda x: jnp.sum(preferences.pacs_loss(x, correct)))(jnp.zeros((20, 6)))
    advantage = losses.sequences.advantages.leave_one_out(jnp.asarray(correct, jnp.float32))
    close(slope, -advantage, atol=1e-6)


def test_pacs_and_its_kin_take_flags_of_any_type():
    score, correct = normal(5, 4), np.random.default_rng(1).random((5, 4)) < 0.5
    for loss in (
        preferences.pacs_loss,
        preferences.outcome_cross_entropy,
        preferences.success_pair_loss,
    ):
        value = loss(score, correct)
        close(loss(score, correct.astype(np.int32)), value)
        close(loss(score, correct.astype(np.float32)), value)


@pytest.mark.parametrize("success", [[0, 0, 0], [1, 1, 1]])
def test_without_a_pair_there_is_no_loss_and_no_gradient(success):
    value, slope = jax.value_and_grad(preferences.success_pair_loss)(
        jnp.array([1e4, -1e4, 0.0]), jnp.array(success)
    )
    assert value == 0.0
    close(slope, np.zeros(3))


def test_implicit_rewards_far_apart_are_finite():
    reward = jnp.array([1e4, -1e4, 0.0])
    success = jnp.array([0, 1, 0])
    for loss in (preferences.success_pair_loss, preferences.pacs_loss):
        value, slope = jax.value_and_grad(lambda x, loss=loss: jnp.sum(loss(x, success)))(reward)
        assert np.isfinite(value) and np.all(np.isfinite(slope))


def test_differential_information_is_uniform_where_nothing_was_learned():
    log_prob, ref_log_prob = log_law(2, 10, 6)
    same = preferences.differential_information(log_prob, log_prob)
    close(losses.categorical_entropy(same), np.full(10, math.log(6.0)), rtol=1e-6)
    law = preferences.differential_information(log_prob, ref_log_prob)
    close(jnp.exp(law).sum(axis=-1), np.ones(10), rtol=1e-6)
    # constants of either do not matter: they may be logits
    shifted = preferences.differential_information(log_prob + 3.0, ref_log_prob - 1.0)
    close(shifted, law, atol=1e-5)


def test_rejected_answers_make_preferences_what_dpo_takes_them_for():
    chosen, target, ref = log_law(3, 10, 6)
    rejected = preferences.rejected_log_prob(chosen, target, ref, beta=0.4)
    close(jnp.exp(rejected).sum(axis=-1), np.ones(10), rtol=1e-6)
    quality = chosen - rejected
    reward = 0.4 * (target - ref)
    close(quality[:, 1:] - quality[:, :1], reward[:, 1:] - reward[:, :1], atol=1e-5)

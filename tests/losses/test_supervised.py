"""Losses on demonstrations by hand, and what their papers say of them; values and gradients against
loops are in test_objectives_by_loop.py.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses import supervised

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# one-token rollouts


@pytest.mark.parametrize("miss_reward", [-0.1, 0.0, 1.0])
def test_the_expected_gradient_of_one_token_rollouts_is_that_of_dynamic_fine_tuning(miss_reward):
    logits, label = normal(3, 4), jnp.array([0, 3, 1])

    @jax.jit
    def expected_loss(logits):
        log_probs = jax.nn.log_softmax(logits)
        return supervised.one_token_rollout_expectation(
            log_probs, jnp.exp(log_probs), label, miss_reward=miss_reward
        ).sum()

    @jax.jit
    def scaled(logits):  # −(1 − β)·π(label), whose gradient is −(1 − β)·π·∇log π
        probs = jax.nn.softmax(logits)
        return -(1.0 - miss_reward) * jnp.take_along_axis(probs, label[:, None], axis=-1).sum()

    close(jax.grad(expected_loss)(logits), jax.grad(scaled)(logits), atol=1e-6)


def test_the_expectation_is_the_mean_over_all_draws():
    log_probs = jax.nn.log_softmax(normal(3))
    behaviour_probs, label = np.float32([0.2, 0.5, 0.3]), jnp.int32(1)
    draws = jnp.array(list(itertools.product(range(3), repeat=2)))
    weights = behaviour_probs[draws].prod(axis=-1)
    loss = supervised.one_token_rollout_loss(
        jnp.broadcast_to(log_probs, (9, 3)), jnp.full(9, label), draws, miss_reward=-0.2
    )
    expected = supervised.one_token_rollout_expectation(
        log_probs, behaviour_probs, label, miss_reward=-0.2
    )
    close(weights @ loss, expected, rtol=1e-5)


def test_the_expectation_by_hand_and_tokens_that_cannot_be_drawn():
    # −(.25·1·log ½ + .75·(−.1)·log ¼) = .25·log 2 − .15·log 2
    log_probs = jnp.array([-math.log(2.0), -math.log(4.0), -jnp.inf])
    behaviour_probs = jnp.array([0.25, 0.75, 0.0])
    loss = jax.jit(
        lambda x: supervised.one_token_rollout_expectation(
            x, behaviour_probs, jnp.int32(0), miss_reward=-0.1
        )
    )
    value, slope = jax.value_and_grad(loss)(log_probs)
    close(value, 0.1 * math.log(2.0), rtol=1e-5)
    close(slope, [-0.25, 0.075, 0.0], rtol=1e-6)


@pytest.mark.parametrize("samples", [(3, 6), (2, 3, 6), (3, 6, 1)])
def test_samples_that_do_not_fit_are_refused(samples):
    with pytest.raises(AssertionError):
        supervised.one_token_rollout_loss(
            jnp.zeros((4, 3, 5)), jnp.zeros((4, 3), int), jnp.zeros(samples, int), miss_reward=0.0
        )


# the unified surrogate and the gate


def test_the_denominator_makes_it_policy_gradient_ppo_or_probability():
    log_prob, old_log_prob, advantage = normal(3, 20)
    value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(supervised.unified_surrogate)))
    close(value_and_slope(log_prob, log_prob, advantage), (-advantage, -advantage))
    ppo = jax.value_and_grad(lambda *a: losses.ppo_clip_loss(*a, clip_eps=jnp.inf))
    expected = jax.jit(jax.vmap(ppo))(log_prob, old_log_prob, advantage)
    close(value_and_slope(log_prob, old_log_prob, advantage), expected, rtol=1e-5)
    probability = np.exp(log_prob)
    ones = np.ones(20, np.float32)
    close(value_and_slope(log_prob, 0.0 * ones, ones), (-probability, -probability), rtol=1e-6)


@pytest.mark.parametrize("log_prob", [-1e4, 1e4])
def test_the_surrogate_is_finite_far_from_its_denominator(log_prob):
    arguments = jnp.float32(log_prob), jnp.float32(0.0), jnp.float32(2.0)
    value, slope = jax.value_and_grad(supervised.unified_surrogate)(*arguments)
    assert np.isfinite(value)
    assert slope == 0.0


def test_the_gate_lets_nothing_of_the_other_loss_through_not_even_nan():
    sft_loss, rl_loss = jnp.array([2.0, jnp.nan, 0.7]), jnp.array([jnp.nan, -0.2, 0.4])
    successes = jnp.array([1, 2, 8])

    @jax.jit
    def total(sft_loss, rl_loss):
        loss = supervised.hybrid_loss(
            sft_loss, rl_loss, successes, gate=1.0, sft_coef=0.5, rl_coef=3.0
        )
        return jnp.sum(loss), loss

    slopes, loss = jax.grad(total, argnums=(0, 1), has_aux=True)(sft_loss, rl_loss)
    close(loss, [1.0, -0.6, 1.2], rtol=1e-6)
    close(slopes, [[0.5, 0.0, 0.0], [0.0, 3.0, 3.0]])


# implicit rewards


def divergence_loss(name):
    return jax.jit(lambda x: supervised.sft_divergence_loss(x, divergence=name))


@pytest.mark.parametrize(
    ("name", "curvature"),
    # of −φ at 0: ½ of x²/4's 2, 2/(1 + x)³, and (2e^−x)/(2 − e^−x)²
    [("total_variation", 0.0), ("pearson", 0.5), ("hellinger", 2.0), ("jensen_shannon", 2.0)],
)
def test_divergences_have_one_slope_at_the_reference_and_differ_in_curvature(name, curvature):
    slope = jax.grad(divergence_loss(name))
    close(slope(0.0), -1.0, rtol=1e-6)
    close(jax.grad(slope)(0.0), curvature, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "end", "value"),
    # −x/(1 + x) at −1 + 1e-3; −log(2 − 2·e^−1e-3)
    [("hellinger", -1.0, 999.0), ("jensen_shannon", -math.log(2.0), 6.215108)],
)
def test_below_the_domain_there_is_the_value_of_its_end_and_no_gradient(name, end, value):
    for x in (end, end - 50.0):
        close(jax.value_and_grad(divergence_loss(name))(x), (value, 0.0), rtol=2e-4)
    assert jax.grad(divergence_loss(name))(end + 0.01) < -10.0
    assert np.isfinite(divergence_loss(name)(1e4))


def test_total_variation_is_supervised_learning():
    log_prob, ref_log_prob = normal(2, 20)

    def loss(log_prob):
        reward = supervised.implicit_reward(log_prob, ref_log_prob, beta=0.3)
        return jnp.sum(supervised.sft_divergence_loss(reward, divergence="total_variation"))

    close(jax.grad(loss)(log_prob), np.full(20, -0.3), rtol=1e-6)


def test_an_unknown_divergence_is_refused():
    with pytest.raises(ValueError, match="divergence='kl': must be one of total_variation"):
        supervised.sft_divergence_loss(jnp.zeros(3), divergence="kl")

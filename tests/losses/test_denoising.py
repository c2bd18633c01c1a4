"""Denoising steps by hand, and what their papers say of them; values and gradients against loops
are in test_objectives_by_loop.py.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.losses import denoising

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_step_log_prob_by_hand_with_one_std_and_one_for_each_step():
    # Two steps of two dimensions: −½·(1 + 4)/σ² − 2·log σ − log 2π, and no distance.
    x, mean = jnp.array([[1.0, 3.0], [1.0, 1.0]]), jnp.array([[0.0, 1.0], [1.0, 1.0]])

    def expected(first, second):
        distance = np.array([-2.5 / first**2, 0.0])
        return distance - 2 * np.log([first, second]) - math.log(2 * math.pi)

    close(denoising.step_log_prob(x, mean, std=0.5), expected(0.5, 0.5), rtol=1e-6)
    stds = jnp.array([0.5, 2.0])
    close(denoising.step_log_prob(x, mean, std=stds), expected(0.5, 2.0), rtol=1e-6)
    batch = jnp.stack([x, x]), jnp.stack([mean, mean])
    close(denoising.step_log_prob(*batch, std=stds), [expected(0.5, 2.0)] * 2, rtol=1e-6)


@pytest.mark.parametrize("step_std", [0.05, 0.5, 5.0])
def test_the_regulated_log_ratio_is_the_noise_times_the_shift_whatever_the_step(step_std):
    noise, old_mean, shift = normal(3, 20, 6, 4)
    mean, x = old_mean + 0.1 * shift, old_mean + step_std * noise
    now = denoising.step_log_prob(x, mean, std=step_std)
    log_ratio = (now - denoising.step_log_prob(x, old_mean, std=step_std)) / 4
    shift_sq = jnp.mean(jnp.square(mean - old_mean), axis=-1)
    regulated = denoising.regulated_log_ratio(log_ratio, shift_sq, step_std=step_std)
    close(regulated, np.mean(noise * 0.1 * shift, axis=-1), rtol=1e-3, atol=1e-5)


def test_the_gradient_of_the_regulated_log_ratio_is_the_noise():
    noise, old_mean = normal(2, 4)
    x = old_mean + 0.3 * noise

    @jax.jit
    def regulated(mean):
        now = denoising.step_log_prob(x, mean, std=0.3)
        log_ratio = (now - denoising.step_log_prob(x, old_mean, std=0.3)) / 4
        shift_sq = jnp.mean(jnp.square(mean - old_mean))
        return denoising.regulated_log_ratio(log_ratio, shift_sq, step_std=0.3)

    for mean in (old_mean, old_mean + 1.0):
        close(jax.grad(regulated)(jnp.asarray(mean)), noise / 4, rtol=1e-4, atol=1e-6)


def test_step_weight_by_hand():
    dt = jnp.array([0.1, 0.25])
    close(denoising.step_weight(dt), [10.0, 4.0], rtol=1e-6)
    # 1 + .25·.5/1 = 1.125 and 1 + .25·.2/1.6 = 1.03125
    weight = denoising.step_weight(dt, jnp.array([0.5, 0.8]), eta=0.5)
    close(weight, [11.25, 4.125], rtol=1e-6)
    close(denoising.step_weight(dt, jnp.float32(0.5), eta=0.5), [11.25, 4.5], rtol=1e-6)


def test_the_initial_noise_has_the_mean_density_and_a_least_spread():
    noise, mean, std = jnp.array([1.0, 0.0]), jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0])
    # −(½ + ½·log 2π)/2 − (log 2 + ½·log 2π)/2
    expected = -0.25 - 0.5 * math.log(2.0) - 0.5 * math.log(2.0 * math.pi)
    close(denoising.initial_noise_log_prob(noise, mean, std), expected, rtol=1e-6)
    least = denoising.initial_noise_log_prob(mean, mean, jnp.full(2, 1e-4))
    value_and_slope = jax.jit(jax.value_and_grad(denoising.initial_noise_log_prob, argnums=2))
    for narrow in (0.0, -1.0):
        value, slope = value_and_slope(mean, mean, jnp.full(2, narrow))
        close(value, least)
        close(slope, np.zeros(2))


def test_the_prior_costs_nothing_at_the_standard_gaussian():
    value_and_slopes = jax.jit(jax.value_and_grad(denoising.noise_prior_penalty, argnums=(0, 1)))
    value, slopes = value_and_slopes(jnp.zeros(3), jnp.ones(3))
    assert value == 0.0
    close(slopes, np.zeros((2, 3)))
    # ((1 + 0) + (4 + ¼))/2
    close(denoising.noise_prior_penalty(jnp.array([1.0, 2.0]), jnp.array([1.0, 0.5])), 2.625)


def test_the_flow_loss_is_regularised_flow_matching_at_advantage_0_and_bounds_its_weight():
    error, ref_error = jnp.array([2.0, 2.0, 2.0]), jnp.array([1.0, 0.0, 0.0])
    loss = denoising.advantage_weighted_flow_loss(
        error,
        ref_error,
        jnp.array([0.0, 100.0, -100.0]),
        temperature=0.5,
        clip=1.0,
        reference_coef=0.3,
    )
    close(loss, [2.3, 2.0 * math.exp(2.0), 2.0 * math.exp(-2.0)], rtol=1e-6)


def test_composed_scores_of_one_and_of_equals():
    scores = normal(3, 5, 2)
    one = jnp.array([0.0, 1.0, 0.0])
    close(denoising.compose_scores(scores, one), scores[1])
    same = np.broadcast_to(scores[:1], scores.shape)
    close(denoising.compose_scores(same, jnp.array([0.2, 0.5, 0.3])), scores[0], rtol=1e-6)
    for weights in (jnp.ones(2), jnp.ones(4), jnp.ones((3, 5))):
        with pytest.raises(AssertionError):
            denoising.compose_scores(scores, weights)

"""Losses of generative models and of EXPO: what each is at its best, by hand; more numbers are in
tests/data/worked_numbers.json.
"""

import jax
import jax.numpy as jnp
import numpy as np

from onejit import losses
from onejit.losses import generative

X = jnp.array([[0.5, -0.2], [1.0, 0.0]])
NOISE = jnp.array([[1.0, 0.3], [-0.5, 2.0]])


def test_a_path_leads_from_the_sample_to_the_noise_at_its_velocity():
    start, velocity = generative.flow_path(X, NOISE, jnp.zeros(2))
    end, _ = generative.flow_path(X, NOISE, jnp.ones(2))
    np.testing.assert_array_equal(start, X)
    np.testing.assert_array_equal(end, NOISE)
    np.testing.assert_allclose(velocity, end - start)


def test_the_best_outputs_are_the_targets():
    """All losses are 0 there, and have no gradient."""
    sigma = jnp.array([0.5, 2.0])
    slopes = {
        "velocity": jax.value_and_grad(
            lambda v: jnp.sum(generative.flow_matching_loss(v, NOISE - X))
        )(NOISE - X),
        "noise": jax.value_and_grad(lambda e: jnp.sum(generative.ddpm_loss(e, NOISE)))(NOISE),
        "score": jax.value_and_grad(
            lambda s: jnp.sum(generative.score_matching_loss(s, NOISE, sigma))
        )(generative.noise_score(NOISE, sigma)),
        "clean": jax.value_and_grad(
            lambda d: jnp.sum(generative.edm_loss(d, X, sigma, sigma_data=0.5))
        )(X),
    }
    for name, (loss, slope) in slopes.items():
        np.testing.assert_allclose(loss, 0.0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(slope, 0.0, atol=1e-6, err_msg=name)


def test_edm_by_hand():
    """σ = σ_d = 2: c_skip = 4/8, c_out = 4/√8 = √2, weight 8/16 = ½. D = ½·x + √2·F."""
    sigma = jnp.array([2.0, 2.0])
    denoised = generative.edm_denoised(X, NOISE, sigma, sigma_data=2.0)
    np.testing.assert_allclose(denoised, 0.5 * X + 2.0**0.5 * NOISE, rtol=1e-6)
    # Squares 1 and 4, 9 and 0: means 2.5 and 4.5, and half of them.
    wrong = X + jnp.array([[1.0, 2.0], [-3.0, 0.0]])
    loss = generative.edm_loss(wrong, X, sigma, sigma_data=2.0)
    np.testing.assert_allclose(loss, [1.25, 2.25], rtol=1e-6)


def test_edm_gives_the_sample_where_there_is_no_noise_and_the_output_where_there_is_nothing_else():
    small, large = (
        generative.edm_denoised(X, NOISE, jnp.full(2, sigma), sigma_data=0.5)
        for sigma in (1e-6, 1e6)
    )
    np.testing.assert_allclose(small, X, atol=1e-5)
    np.testing.assert_allclose(large, 0.5 * NOISE, rtol=1e-5)


def test_an_edit_stays_within_the_bounds_of_actions_and_its_density_is_that_of_a_narrow_one():
    """0.9 + 0.5·0.8 is cut to 1, and −0.2 − 0.5·0.6 = −0.5; −1 − 2·log ½ = −1 + 1.386294."""
    edited, log_prob = losses.expo_edit(
        jnp.array([0.9, -0.2]), jnp.array([0.8, -0.6]), jnp.float32(-1.0), edit_scale=0.5
    )
    np.testing.assert_allclose(edited, [1.0, -0.5], rtol=1e-6)
    np.testing.assert_allclose(log_prob, 0.386294, rtol=1e-5)


def test_the_best_of_actions_is_by_the_smaller_critic():
    """The smaller values are 1, 2 and 0; the first critic alone would take the last."""
    actions = jnp.array([[0.1], [0.2], [0.3]])
    q = jnp.array([[1.0, 2.0, 9.0], [5.0, 4.0, 0.0]])
    action, value, place = losses.expo_choice(actions, q)
    np.testing.assert_allclose(action, [0.2])
    assert value == 2.0 and place == 1

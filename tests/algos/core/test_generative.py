"""Samplers by models that are exact for Gaussian data, mean m and standard deviation s, and the
network and time that they see.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.algos.core import edm, generative
from onejit.algos.core.networks import MLP

pytestmark = pytest.mark.slow

MEAN, STD = 0.5, 0.3


def velocity(x, t):
    """E[ε − a | x] of x = t·ε + (1 − t)·a."""
    t = t[..., None]
    var = t**2 + (1.0 - t) ** 2 * STD**2
    return -MEAN + (t - (1.0 - t) * STD**2) / var * (x - (1.0 - t) * MEAN)


def denoise(x, sigma):
    """E[a | x] of x = a + σ·ε."""
    var = sigma[..., None] ** 2
    return (var * MEAN + STD**2 * x) / (var + STD**2)


def moments_of(x):
    return np.mean(x), np.std(x)


def test_a_velocity_of_nothing_leaves_the_noise_as_it_is():
    noise = jax.random.normal(jax.random.key(0), (4, 2))
    found = generative.euler(lambda x, t: jnp.zeros_like(x), noise, 10)
    np.testing.assert_array_equal(found, noise)


def test_the_flow_of_a_gaussian_moves_and_scales():
    """z goes to m + s·z, the more exactly the more steps there are."""
    noise = jnp.array([[-2.0], [0.0], [1.5]])
    coarse, fine = (
        np.abs(generative.euler(velocity, noise, n) - (MEAN + STD * noise)).max() for n in (10, 400)
    )
    assert fine < 0.005 < coarse


@pytest.mark.parametrize("schedule", ["vp", "cosine", "linear"])
def test_what_is_left_of_a_sample_falls(schedule):
    kept = generative.alpha_bars(20, schedule)
    assert kept.shape == (20,) and (np.diff(kept) < 0.0).all() and 0.0 < kept[0] < 1.0
    assert schedule == "linear" or kept[-1] < 0.01


def test_schedules_by_hand():
    """vp after half of the time: e^(−0.05 − 4.95/4) = e^(−1.2875). Linear: β is 1e-4, then 0.02."""
    np.testing.assert_allclose(generative.alpha_bars(10)[4], np.exp(-1.2875), rtol=1e-5)
    linear = generative.alpha_bars(2, "linear")
    np.testing.assert_allclose(linear, [0.9999, 0.9999 * 0.98], rtol=1e-6)
    with pytest.raises(ValueError, match="schedule='sigmoid': must be"):
        generative.alpha_bars(10, "sigmoid")


def test_ddpm_of_a_gaussian_has_its_mean_and_spread():
    kept = generative.alpha_bars(200)

    def predict(x, t):
        share = jnp.asarray(kept)[jnp.round(t * 200).astype(jnp.int32) - 1][..., None]
        centre = x - jnp.sqrt(share) * MEAN
        return jnp.sqrt(1.0 - share) * centre / (share * STD**2 + 1.0 - share)

    noise_key, key = jax.random.split(jax.random.key(0))
    noise = jax.random.normal(noise_key, (4000, 1))
    found = jax.jit(lambda k: generative.ddpm_sample(predict, noise, k, kept))(key)
    np.testing.assert_allclose(moments_of(found), (MEAN, STD), atol=0.02)


def test_edm_of_a_gaussian_with_and_without_churn():
    """Without, noise z goes to m + s·(σ₀·z − m)/√(s² + σ₀²), and Heun's error is of second order: a
    quarter with twice the steps.
    """
    noise_key, key = jax.random.split(jax.random.key(0))
    noise = jax.random.normal(noise_key, (4000, 1))

    def run(steps, churn):
        sigma = edm.noise_levels(steps, low=0.002, high=80.0, rho=7.0)
        gamma = edm.churn(sigma, steps, amount=churn, low=0.05, high=50.0)
        each_key = jax.random.clone(key)
        return jax.jit(
            lambda: edm.sample(denoise, noise, each_key, sigma, gamma, noise_scale=1.0)
        )()

    expected = MEAN + STD * (80.0 * noise - MEAN) / np.hypot(STD, 80.0)
    coarse, fine = (np.abs(run(n, 0.0) - expected).max() for n in (24, 48))
    assert coarse < 0.05 and 3.0 < coarse / fine < 5.0
    churned = run(96, 10.0)
    assert np.abs(churned - expected).max() > 0.1
    np.testing.assert_allclose(moments_of(churned), (MEAN, STD), atol=0.02)


def test_a_guide_is_called_before_each_step_and_moves_the_sample():
    """A constant push of 0.1 in the last but one step alone, whose level is 0.4: it is then shrunk
    by the exact denoiser, but of its sign.
    """
    sigma = jnp.array([2.0, 0.4, 0.1, 0.0])
    noise = jnp.array([[0.3], [-1.0]])

    def run(guide):
        key = jax.random.key(0)
        return edm.sample(denoise, noise, key, sigma, jnp.zeros(4), guide=guide)

    def push(x, level, number):
        np.testing.assert_array_equal(jnp.shape(level), ())
        return x + jnp.where(number == 1, 0.1, 0.0)

    moved = run(push) - run(None)
    assert (moved > 0.0).all() and (moved < 0.1).all()
    np.testing.assert_array_equal(run(lambda x, level, number: x), run(None))


def test_guidance_without_a_gradient_moves_nothing():
    for normalise in (True, False):
        shift = edm.guidance_shift(jnp.zeros((2, 3)), 2.0, normalise=normalise)
        np.testing.assert_array_equal(shift, np.zeros((2, 3)))


def test_a_policy_guides_between_the_delay_and_the_last_step_by_a_gradient_of_length_one():
    """Weight 1 − 1/4 + 0·…, strength 2: 1.5·(3, −4)/5 = (0.9, −1.2) in step 1 of 4."""
    slope = {"slope": lambda x: jnp.array([[3.0, -4.0], [0.0, 0.0]])}
    guide = edm.policy_guide(**slope, num_steps=4, strength=2.0, cosine=0.0, delay=1)
    x, level = jnp.ones((2, 2)), jnp.float32(1.0)
    moved = [np.asarray(guide(x, level, jnp.int32(i)) - x) for i in range(4)]
    np.testing.assert_allclose(moved[1], [[0.9, -1.2], [0.0, 0.0]], rtol=1e-5)
    assert moved[2].any() and not moved[0].any() and not moved[3].any()


def test_guidance_raises_the_likelihood_and_none_leaves_the_sample():
    """A policy of N(1, 1) draws samples of N(0.5, 0.3²) up."""
    sigma = edm.noise_levels(12, low=0.002, high=10.0, rho=7.0)
    noise = jax.random.normal(jax.random.key(1), (200, 1))

    @jax.jit
    def run(strength):
        guide = edm.policy_guide(lambda x: 1.0 - x, 12, strength=strength, normalise=False)
        key = jax.random.key(0)
        return edm.sample(denoise, noise, key, sigma, jnp.zeros(13), guide=guide)

    means = [np.mean(run(strength)) for strength in (0.0, 0.1, 0.3)]
    np.testing.assert_allclose(means[0], MEAN, atol=0.05)
    assert means[0] + 0.02 < means[1] < means[2] - 0.02


def test_climbing_stays_within_the_bounds():
    """0.5 + 0.4 + 0.4 is cut to 1, and −3 + 0.4 to −1, from which one step is left."""
    found = generative.ascend(jnp.ones_like, jnp.array([0.5, -3.0]), step_size=0.4, num_steps=2)
    np.testing.assert_allclose(found, [1.0, -0.6], rtol=1e-6)


def test_the_time_s_code_and_a_field_of_observations_alone():
    """cos and sin of t and 2·t at t = ½."""
    code = generative.time_embedding(jnp.array([0.5]), 4)
    expected = [[np.cos(0.5), np.cos(1.0), np.sin(0.5), np.sin(1.0)]]
    np.testing.assert_allclose(code, expected, rtol=1e-6)
    field = generative.Field(MLP((8,)), 2)
    obs = jnp.ones((3, 5))
    params = field.init(jax.random.key(0), obs)
    np.testing.assert_array_equal(
        field.apply(params, obs), field.apply(params, obs, jnp.zeros((3, 2)), jnp.zeros(3))
    )

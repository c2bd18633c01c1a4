"""The ratio of two policies and the diagnostics of it, by hand and in the mean."""

import jax
import jax.numpy as jnp
import numpy as np

from onejit import losses

close = np.testing.assert_allclose
log = np.log


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_importance_ratio_is_the_exponential_with_a_tangent_above_10():
    log_ratio = np.array([-100.0, -1.0, 0.0, 3.0, 10.0, 12.0], np.float32)
    ratio = losses.importance_ratio(log_ratio, np.zeros_like(log_ratio))
    # e^10·(1 + 12 − 10) at 12
    close(
        ratio,
        [np.exp(-100.0), np.exp(-1.0), 1.0, np.exp(3.0), np.exp(10.0), 3 * np.exp(10.0)],
        rtol=1e-6,
        atol=1e-40,
    )


def test_approx_kl_by_hand():
    # r = 2: (2 − 1) − log 2;  r = ½: (½ − 1) + log 2;  r = 1: 0
    log_prob = jnp.log(jnp.array([0.5, 0.125, 0.25]))
    kl = losses.approx_kl(log_prob, jnp.full(3, log(0.25)))
    close(kl, [1.0 - log(2.0), log(2.0) - 0.5, 0.0], rtol=1e-6, atol=1e-7)


def test_approx_kl_is_never_negative_and_does_not_cancel():
    magnitudes = np.logspace(-12.0, 1.5, 100_001, dtype=np.float32)
    log_ratio = np.concatenate([-magnitudes, magnitudes])
    kl = losses.approx_kl(log_ratio, np.zeros_like(log_ratio))
    assert np.all(kl >= 0.0)
    # Against float64; an error of exp(x) − 1 instead of expm1(x) is 1e-3 of the value at x = 0.01.
    x = np.float64(log_ratio[np.abs(log_ratio) > 0.01])
    close(kl[np.abs(log_ratio) > 0.01], np.expm1(x) - x, rtol=1e-4)


def test_mean_of_approx_kl_is_the_divergence():
    logits_old, logits = normal(2, 4)
    classes = np.arange(4)
    old_log_prob, log_prob = (
        losses.categorical_log_prob(classes, np.tile(x, (4, 1))) for x in (logits_old, logits)
    )
    exact = losses.categorical_kl(logits_old, logits)
    # Over all four actions, weighted with the policy that draws them: exactly the divergence.
    estimate = losses.approx_kl(log_prob, old_log_prob)
    close(jnp.sum(jnp.exp(old_log_prob) * estimate), exact, rtol=1e-5)
    # Over samples: within four standard errors, and with less variance than −log r.
    action = jax.random.categorical(jax.random.key(0), logits_old, shape=(100_000,))
    samples = np.asarray(estimate)[action]
    assert abs(samples.mean() - exact) < 4.0 * samples.std() / np.sqrt(samples.size)
    assert samples.std() < np.std(np.asarray(old_log_prob - log_prob)[action])


def test_clip_fraction_by_hand():
    # |r − 1| > 0.2 on both sides; the losses are clipped exactly there
    log_prob = jnp.log(jnp.array([1.0, 1.19, 1.21, 3.0, 0.81, 0.79, 0.1]))
    fraction = losses.clip_fraction(log_prob, jnp.zeros(7), clip_eps=0.2)
    np.testing.assert_array_equal(fraction, [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    assert fraction.dtype == log_prob.dtype


def test_ratio_deviation_is_twice_the_total_variation_on_average():
    logits, old_logits = normal(2, 6)
    probs, old_probs = jax.nn.softmax(logits), jax.nn.softmax(old_logits)
    deviation = losses.ratio_deviation(jnp.log(probs), jnp.log(old_probs))
    close(jnp.sum(old_probs * deviation), jnp.sum(jnp.abs(probs - old_probs)), rtol=1e-5)

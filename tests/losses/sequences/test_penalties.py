"""What the papers say of the penalties. Their values and gradients are compared with those of
loops in test_surrogates.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses
from onejit.losses.sequences import penalties

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose


def test_estimates_of_the_divergence_have_its_mean_and_its_gradients():
    with jax.enable_x64(True):
        logits, ref_logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6)))
        ref = jax.nn.log_softmax(ref_logits)
        probs = jax.nn.softmax(logits)

        def divergence(p, q):
            return jnp.sum(jnp.exp(p) * (p - q))

        def mean(estimate):
            """Of the actions of π, exactly; the draw is not differentiated."""
            return lambda logits: jnp.sum(probs * estimate(jax.nn.log_softmax(logits), ref))

        kl = divergence(jax.nn.log_softmax(logits), ref)
        k1, k2, k3 = (
            jax.jit(jax.value_and_grad(mean(estimate)))(logits)
            for estimate in (penalties.kl_k1, penalties.kl_k2, penalties.kl_k3)
        )
        reverse, forward = (
            jax.grad(lambda logits, swap=swap: divergence(*swap(jax.nn.log_softmax(logits), ref)))(
                logits
            )
            for swap in (lambda p, q: (p, q), lambda p, q: (q, p))
        )
    close((k1[0], k3[0]), (kl, kl), rtol=1e-12)
    close(k1[1], np.zeros(6), atol=1e-12)  # k1 is no penalty
    close(k2[1], reverse, rtol=1e-9)
    close(k3[1], forward, rtol=1e-9)


def test_k2_and_k3_are_never_negative_and_k3_is_approx_kl_of_the_reference():
    log_prob, ref_log_prob = np.random.default_rng(1).normal(size=(2, 50)).astype(np.float32)
    assert np.all(penalties.kl_k2(log_prob, ref_log_prob) >= 0)
    k3 = penalties.kl_k3(log_prob, ref_log_prob)
    assert np.all(k3 >= 0)
    np.testing.assert_array_equal(k3, losses.approx_kl(ref_log_prob, log_prob))
    for estimate in (penalties.kl_k1, penalties.kl_k2, penalties.kl_k3):
        np.testing.assert_array_equal(estimate(log_prob, log_prob), 0.0)


@pytest.mark.parametrize(
    ("log_ratio", "slope"),
    # ρ − 1 in full below the cap; nothing at 1; the cap; no more than e^−20 − 1.
    [(-0.4, -0.329680), (0.0, 0.0), (1e-4, 1.00005e-4), (0.1, 0.105171), (0.3, 0.2), (-1e3, -1.0)],
)
def test_the_gradient_of_the_drift_is_that_of_k3_with_a_cap(log_ratio, slope):
    @jax.jit
    def drift_and_k3(x):
        drift = jax.value_and_grad(lambda x: penalties.policy_drift(x, cap=0.2))(x)
        return *drift, jax.grad(lambda x: losses.approx_kl(x, jnp.zeros_like(x)))(x)

    with jax.enable_x64(True):
        value, found, k3 = map(float, drift_and_k3(log_ratio))
    close(found, slope, rtol=1e-5)
    close(value, found * log_ratio, rtol=1e-12)
    if slope < 0.2:
        close(found, k3, rtol=1e-8)


def test_the_multiplier_rises_above_the_target_falls_below_it_and_stays_at_0():
    dual, value = jnp.array([1.0, 1.0, 0.0, 0.0]), jnp.array([0.5, 0.1, 0.1, 0.5])
    step = penalties.dual_step(dual, value, target=0.3, step_size=2.0)
    close(step, [1.4, 0.6, 0.0, 0.4], rtol=1e-6)


def test_a_multiplier_holds_the_variance_of_the_ratio_at_its_target():
    # One action of advantage 1: the loss is least at ρ − 1 = 1/(2·dual), so that dual goes to 2.5.
    dual = jnp.float32(0.5)
    for _ in range(200):
        dual = penalties.dual_step(dual, (0.5 / dual) ** 2, target=0.04, step_size=5.0)
    close(dual, 2.5, rtol=1e-3)


def test_the_edges_of_the_band_are_outside_of_it_and_it_has_no_gradient():
    entropy = jnp.array([0.5, 0.75, 1.0, 1.25, 1.5])
    bounds = {"low": 0.75, "high": 1.25, "penalty": 0.3}
    penalty = penalties.entropy_band_penalty(entropy, jnp.float32(1.0), **bounds)
    close(penalty, [0.3, 0.3, 0.0, 0.3, 0.3])
    # of a history for each
    history = jnp.array([0.5, 0.5, 0.5, 1.25, 1.25])
    penalty = penalties.entropy_band_penalty(entropy, history, **bounds)
    close(penalty, [0.0, 0.3, 0.3, 0.0, 0.0])
    slope = jax.grad(lambda x: jnp.sum(penalties.entropy_band_penalty(x, history)))(entropy)
    np.testing.assert_array_equal(slope, 0.0)
    with pytest.raises(AssertionError):
        penalties.entropy_band_penalty(entropy, history[:1])


def test_the_phase_weight_falls_and_jumps_at_one_half():
    progress = jnp.linspace(0.0, 1.0, 101)
    weight = penalties.entropy_phase_weight(progress)
    assert np.all(np.diff(weight) < 0)
    close(weight[49], 0.8 + 0.2 * np.exp(-0.98), rtol=1e-6)
    close(weight[50], 0.8 * np.exp(-1.5), rtol=1e-6)

"""Policies over a few choices against plain loops, and what they are the optimum of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit.losses import bandits

# Worked numbers and the contract of every loss are in `make test`.
pytestmark = pytest.mark.slow

close = np.testing.assert_allclose
# Compiled, because one program compiles faster than its operations one by one.
inverse_gap_weighting = jax.jit(bandits.inverse_gap_weighting)
ftrl_policy = jax.jit(bandits.ftrl_policy, static_argnames="regularizer")
REGULARIZERS = ("tsallis", "shannon", "log_barrier")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def inverse_gap_loop(scores, gamma):
    best = max(range(len(scores)), key=lambda a: scores[a])
    probs = [1 / (len(scores) + gamma * (scores[best] - score)) for score in scores]
    probs[best] = 1.0 - sum(probs[:best] + probs[best + 1 :])
    return probs


@pytest.mark.parametrize("gamma", [0.0, 0.5, 10.0, 1e4])
def test_inverse_gap_weighting_equals_a_plain_loop(gamma):
    scores = normal(6, 5)
    result = np.asarray(inverse_gap_weighting(scores, gamma=gamma))
    expected = [inverse_gap_loop(list(row), gamma) for row in np.float64(scores)]
    close(result, expected, rtol=1e-5)
    close(np.sum(result, axis=-1), np.ones(6), rtol=1e-6)
    assert np.all(np.max(result, axis=-1) >= 0.2 - 1e-6)


def test_inverse_gap_weighting_of_extremes():
    scores = jnp.array([1.0, 3.0, 3.0, 2.0])
    close(inverse_gap_weighting(scores, gamma=0.0), np.full(4, 0.25), rtol=1e-6)
    greedy = inverse_gap_weighting(scores, gamma=1e9)
    close(greedy, [0.0, 0.75, 0.25, 0.0], atol=1e-6)  # the other maximiser has no gap: 1/K
    close(inverse_gap_weighting(scores[:1], gamma=1.0), [1.0])


def test_value_steering_is_a_softmax_that_becomes_the_argmax():
    q = normal(6, 5)
    raw = np.exp(np.float64(q) / 0.5)
    result = bandits.value_steering(q, temperature=0.5)
    close(result, raw / np.sum(raw, axis=-1, keepdims=True), rtol=1e-5)
    best = q == np.max(q, axis=-1, keepdims=True)
    close(bandits.value_steering(1e6 * q, temperature=1e-30), best, atol=1e-6)


def ftrl_bisection(losses, eta, regularizer):
    """In float64, 200 bisections of x as the docstring has it."""
    if regularizer == "shannon":
        raw = np.exp(-eta * (losses - losses.min()))
        return raw / raw.sum()
    policy = {
        "tsallis": lambda x: 4.0 / (eta * (losses - x)) ** 2,
        "log_barrier": lambda x: 1.0 / (eta * (losses - x)),
    }[regularizer]
    low, high = losses.min() - 10.0 * len(losses) / eta, losses.min()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if policy(middle).sum() > 1 else (middle, high)
    return policy(low)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
@pytest.mark.parametrize("eta", [0.01, 0.5, 20.0])
def test_ftrl_policy_equals_a_plain_bisection(eta, regularizer):
    losses = 3.0 * normal(4, 6)
    result = ftrl_policy(losses, eta=eta, regularizer=regularizer)
    expected = [ftrl_bisection(row, eta, regularizer) for row in np.float64(losses)]
    close(result, expected, rtol=1e-5, atol=1e-7)
    close(jnp.sum(result, axis=-1), np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_ftrl_policy_minimises_its_objective(regularizer):
    losses, eta = np.array([1.0, 2.0, 4.0, 2.5]), 0.5
    # Σ −4√π, Σ π log π and Σ −log π have the derivatives −2/√π, log π + 1 and −1/π.
    potential = {
        "tsallis": lambda p: -4.0 * np.sqrt(p),
        "shannon": lambda p: p * np.log(p),
        "log_barrier": lambda p: -np.log(p),
    }[regularizer]
    best = np.float64(ftrl_policy(jnp.float32(losses), eta=eta, regularizer=regularizer))

    def objective(p):
        return np.sum(p * losses + potential(p) / eta)

    rng = np.random.default_rng(0)
    for step in (1e-2, 1e-1, 0.9):
        for other in rng.dirichlet(np.ones(4), size=50):
            assert objective((1 - step) * best + step * other) > objective(best)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_ftrl_policy_of_shifted_equal_and_far_losses(regularizer):
    losses = jnp.array([[1.0, 2.0, 4.0]])

    def policy(losses):
        return ftrl_policy(losses, eta=0.5, regularizer=regularizer)

    close(policy(losses + 256.0), policy(losses), rtol=1e-6)
    close(policy(jnp.full((2, 7), 3.0)), np.full((2, 7), 1 / 7), rtol=1e-6)
    close(policy(jnp.array([5.0])), [1.0])
    close(policy(jnp.array([0.0, 1e8])), [1.0, 0.0], atol=1e-6)


def test_another_regularizer_is_refused():
    with pytest.raises(ValueError, match="'entropy': must be tsallis, shannon or log_barrier"):
        bandits.ftrl_policy(jnp.zeros(3), eta=1.0, regularizer="entropy")

"""The losses of StaQ by hand, and the recursion that the stack stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from onejit import losses

close = np.testing.assert_allclose


def test_coefficients_by_hand():
    # η·β^i/(1 − β³) = 0.1·(1, 0.5, 0.25)/0.875, and the third entry is not there yet
    coefficients = losses.staq_coefficients(2, memory=3, eta=0.1, beta=0.5)
    close(coefficients, [0.1 / 0.875, 0.05 / 0.875, 0.0], rtol=1e-6)


@pytest.mark.parametrize("memory", [1, 5, 300])
def test_coefficients_of_a_full_stack_sum_to_one_over_the_entropy_weight(memory):
    lam, tau = 20.0, 0.577
    coefficients = losses.staq_coefficients(memory, memory=memory, eta=1 / (lam + tau), beta=lam / (lam + tau))
    close(coefficients.sum(), 1 / tau, rtol=1e-4)


def test_memory_of_one_is_the_softmax_of_the_newest_q():
    lam, tau = 20.0, 0.5
    q = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)
    logits = losses.staq_logits(q, losses.staq_coefficients(1, memory=1, eta=1 / (lam + tau), beta=lam / (lam + tau)))
    close(jax.nn.softmax(logits), jax.nn.softmax(q[0] / tau), rtol=1e-4)


def test_stacking_reproduces_the_recursion():
    rng = np.random.default_rng(0)
    memory, eta, beta = 4, 0.3, 0.8
    stack = np.zeros((memory, 2, 3))  # newest first
    logits = np.zeros((2, 3))
    for k in range(12):
        q = rng.normal(size=(2, 3))
        oldest, stack = stack[-1], np.concatenate([q[None], stack[:-1]])
        # ξ' = β·ξ + η·Q_k + η·β^M/(1 − β^M)·(Q_k − Q_{k−M}), with Q = 0 before the first
        logits = beta * logits + eta * q + eta * beta**memory / (1 - beta**memory) * (q - oldest)
        coefficients = losses.staq_coefficients(min(k + 1, memory), memory=memory, eta=eta, beta=beta)
        close(losses.staq_logits(stack, coefficients), logits, rtol=1e-4, atol=1e-5)


def test_unfilled_entries_have_no_effect():
    q_stack = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    coefficients = losses.staq_coefficients(2, memory=5, eta=0.1, beta=0.9)
    other = np.concatenate([q_stack[:2], np.full((3, 2, 3), 1e6, np.float32)])
    close(losses.staq_logits(other, coefficients), losses.staq_logits(q_stack, coefficients), rtol=1e-6)


def test_target_by_hand():
    # 2 + 0.9·(3 + 0.5·0.4), and no gradient
    arguments = [jnp.float32(x) for x in (2.0, 0.9, 3.0, 0.4)]
    value, slope = jax.value_and_grad(lambda *a: losses.staq_target(*a, entropy_coef=0.5), argnums=2)(*arguments)
    close((value, slope), (4.88, 0.0), rtol=1e-6)


@pytest.mark.parametrize("corrected", [True, False])
def test_with_exact_q_functions_a_short_memory_needs_the_weight_correction(corrected):
    """Without it the policy converges to the soft-optimal one for a long memory only; with it for any, here."""
    rng = np.random.default_rng(3)
    states, actions, gamma, lam, tau = 4, 3, 0.9, 2.0, 0.1
    transition = rng.dirichlet(np.full(states, 0.3), size=(states, actions))
    reward = rng.normal(size=(states, actions))
    eta, beta = 1 / (lam + tau), lam / (lam + tau)

    def softmax(logits):
        return scipy.special.softmax(logits, axis=-1)

    def exact_q(logits):
        # Q = r + γ·P·(π·Q + τ·H(π)), solved: the entropy of the first step is left out, as in staq_target.
        policy = softmax(logits)
        matrix = np.einsum("sat,tb->satb", transition, policy).reshape(states * actions, -1)
        entropy = scipy.stats.entropy(policy, axis=-1)
        constant = reward.ravel() + gamma * (transition @ (tau * entropy)).ravel()
        return np.linalg.solve(np.eye(states * actions) - gamma * matrix, constant).reshape(states, actions)

    soft_q = np.zeros((states, actions))
    for _ in range(1_000):  # soft value iteration: V = τ·log Σ exp(Q/τ)
        soft_q = reward + gamma * transition @ (tau * scipy.special.logsumexp(soft_q / tau, axis=1))
    best = softmax(soft_q / tau)

    def distance(memory, iterations=500):
        stack, logits, distances = np.zeros((memory, states, actions)), np.zeros((states, actions)), []
        for k in range(iterations):
            stack = np.concatenate([exact_q(logits)[None], stack[:-1]])
            coefficients = losses.staq_coefficients(min(k + 1, memory), memory=memory, eta=eta, beta=beta)
            scale = 1.0 if corrected else 1.0 - beta**memory
            logits = np.tensordot(np.asarray(coefficients, float) * scale, stack, axes=1)
            distances.append(np.abs(softmax(logits) - best).max())
        return max(distances[-50:])

    assert distance(memory=200) < 1e-3
    assert distance(memory=5) < 1e-3 if corrected else distance(memory=5) > 0.1

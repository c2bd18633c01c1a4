"""The losses of StaQ by hand, and the recursion that the stack stands for."""

import functools
from typing import NamedTuple

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
    coefficients = losses.staq_coefficients(
        memory, memory=memory, eta=1 / (lam + tau), beta=lam / (lam + tau)
    )
    close(coefficients.sum(), 1 / tau, rtol=1e-4)


@pytest.mark.parametrize("memory", [30, 300])
def test_coefficients_are_finite_where_powers_of_the_weight_are_not(memory):
    @jax.jit
    def compiled(tau):  # λ is a constant of the program: 20^30 is not finite in float32
        eta = 1.0 / (20.0 + tau)
        return losses.staq_coefficients(memory, memory=memory, eta=eta, beta=20.0 * eta)

    beta = 20.0 / 22.9
    expected = beta ** np.arange(memory) / 22.9 / (1 - beta**memory)
    close(compiled(jnp.float32(2.9)), expected, rtol=1e-4, atol=1e-12)


def test_without_a_previous_policy_only_the_newest_counts():
    close(losses.staq_coefficients(3, memory=3, eta=2.0, beta=0.0), [2.0, 0.0, 0.0])


def test_memory_of_one_is_the_softmax_of_the_newest_q():
    lam, tau = 20.0, 0.5
    q = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)
    logits = losses.staq_logits(
        q, losses.staq_coefficients(1, memory=1, eta=1 / (lam + tau), beta=lam / (lam + tau))
    )
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
        coefficients = losses.staq_coefficients(
            min(k + 1, memory), memory=memory, eta=eta, beta=beta
        )
        close(losses.staq_logits(stack, coefficients), logits, rtol=1e-4, atol=1e-5)


def test_unfilled_entries_have_no_effect():
    q_stack = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    coefficients = losses.staq_coefficients(2, memory=5, eta=0.1, beta=0.9)
    other = np.concatenate([q_stack[:2], np.full((3, 2, 3), 1e6, np.float32)])
    close(
        losses.staq_logits(other, coefficients),
        losses.staq_logits(q_stack, coefficients),
        rtol=1e-6,
    )


def test_target_by_hand():
    # 2 + 0.9·(3 + 0.5·0.4), and no gradient
    arguments = [jnp.float32(x) for x in (2.0, 0.9, 3.0, 0.4)]
    value, slope = jax.value_and_grad(
        lambda *a: losses.staq_target(*a, entropy_coef=0.5), argnums=2
    )(*arguments)
    close((value, slope), (4.88, 0.0), rtol=1e-6)


class Tabular(NamedTuple):
    """A Markov decision process whose Q-functions are solved for instead of learned."""

    transition: np.ndarray  # [states, actions, states]
    reward: np.ndarray  # [states, actions]
    gamma: float
    tau: float
    lam: float

    def exact_q(self, policy):
        # Q = r + γ·P·V with V = π·Q + τ·H(π): the entropy of the first step is left out, as in
        # staq_target.
        entropy = scipy.stats.entropy(policy, axis=-1)
        mean_reward = np.sum(policy * self.reward, axis=-1) + self.tau * entropy
        matrix = np.einsum("sa,sat->st", policy, self.transition)
        value = np.linalg.solve(np.eye(len(matrix)) - self.gamma * matrix, mean_reward)
        return self.reward + self.gamma * self.transition @ value

    def best(self, iterations):
        q = np.zeros_like(self.reward)
        for _ in range(iterations):  # soft value iteration: V = τ·log Σ exp(Q/τ)
            q = self.reward + self.gamma * self.transition @ (
                self.tau * scipy.special.logsumexp(q / self.tau, axis=1)
            )
        return scipy.special.softmax(q / self.tau, axis=-1)

    def staq(self, memory, *, corrected=True, iterations=500):
        """The policies of StaQ's iteration from the uniform one, `[iterations, states,
        actions]`.
        """
        eta, beta = 1 / (self.lam + self.tau), self.lam / (self.lam + self.tau)
        stack = np.zeros((memory, *self.reward.shape))
        policies = [np.full_like(self.reward, 1 / self.reward.shape[1])]
        weights = jax.jit(functools.partial(losses.staq_coefficients, memory=memory))
        for k in range(iterations):
            stack = np.concatenate([self.exact_q(policies[-1])[None], stack[:-1]])
            coefficients = weights(min(k + 1, memory), eta=eta, beta=beta)
            logits = np.tensordot(np.asarray(coefficients, float), stack, axes=1)
            policies.append(
                scipy.special.softmax(logits * (1.0 if corrected else 1.0 - beta**memory), axis=-1)
            )
        return np.array(policies[1:])


@pytest.mark.parametrize("corrected", [True, False])
def test_with_exact_q_functions_the_policy_becomes_the_soft_optimal_one(corrected):
    """With the weight correction and a memory of 5 as well; without it only with a long one."""
    rng = np.random.default_rng(3)
    transition = rng.dirichlet(np.full(4, 0.3), size=(4, 3))
    problem = Tabular(transition, rng.normal(size=(4, 3)), gamma=0.9, tau=0.1, lam=2.0)
    best = problem.best(1_000)

    def distance(memory):
        return np.abs(problem.staq(memory, corrected=corrected)[-50:] - best).max()

    assert distance(200) < 1e-3
    assert distance(5) < 1e-3 if corrected else distance(5) > 0.1


@pytest.mark.slow
def test_with_too_small_a_memory_the_policy_goes_round_in_a_circle():
    """A rare case, found by a search: two Q-functions, averaged, each time point to a policy that
    neither is of.
    """
    transition = np.zeros((6, 2, 6))
    for state, action, successors in (
        *((0, 0, {4: 1.0}), (0, 1, {1: 1.0}), (1, 0, {3: 1.0}), (1, 1, {0: 1.0}), (2, 0, {3: 1.0})),
        *(
            (2, 1, {1: 0.5, 5: 0.5}),
            (3, 0, {5: 1.0}),
            (3, 1, {2: 1.0}),
            (4, 0, {5: 1.0}),
            (4, 1, {3: 1.0}),
        ),
        *((5, 0, {0: 0.4, 3: 0.6}), (5, 1, {5: 1.0})),
    ):
        transition[state, action, list(successors)] = list(successors.values())
    reward = np.array(
        [[-1.3, 0.4], [-0.7, -1.2], [-1.1, -1.1], [-1.9, 0.5], [-0.9, 2.3], [-0.8, -0.3]]
    )
    problem = Tabular(transition, reward, gamma=0.99, tau=0.001, lam=0.019)  # β = 0.95
    best = problem.best(5_000)
    circle = problem.staq(2)[-100:]
    # No policy is the optimal one, nor the one before it; after some steps they come again.
    assert np.abs(circle - best).max(axis=(1, 2)).min() > 0.9
    assert np.abs(np.diff(circle, axis=0)).max(axis=(1, 2)).min() > 0.9
    assert any(np.abs(circle[period:] - circle[:-period]).max() < 1e-3 for period in range(2, 20))
    for memory in (3, 10, 100):
        close(problem.staq(memory)[-1], best, atol=1e-3)

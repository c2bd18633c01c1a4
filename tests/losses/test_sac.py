"""The losses of SAC by hand, and in what they are the optimum of."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

close = np.testing.assert_allclose


@pytest.mark.parametrize(
    ("discount", "alpha", "target"),
    [
        (0.9, 0.0, 10.0),  # 1 + 0.9·10: without temperature the target of Q-learning
        (0.9, 0.5, 11.35),  # 1 + 0.9·(10 + 0.5·3)
        (0.0, 0.5, 1.0),  # terminated: neither value nor entropy is bootstrapped
    ],
)
def test_sac_target_by_hand(discount, alpha, target):
    arguments = map(jnp.float32, (1.0, discount, 10.0, -3.0))
    close(losses.sac_target(*arguments, alpha=alpha), target, rtol=1e-6)


def test_what_is_constant_has_no_gradient():
    one = jnp.float32(1.0)
    assert jax.grad(lambda x: losses.sac_target(one, one, x, -x, alpha=x))(2.0) == 0.0
    assert jax.grad(lambda alpha: losses.sac_actor_loss(one, one, alpha=alpha))(2.0) == 0.0
    assert jax.grad(lambda x: losses.sac_temperature_loss(one, x, target_entropy=-1.0))(2.0) == 0.0


def test_the_best_categorical_policy_is_the_softmax_of_q_over_alpha():
    # Expectations over all actions as q and log_prob: the loss of discrete SAC.
    q = jnp.array([1.0, 3.0, 2.0])
    alpha = 0.7

    def loss(logits):
        policy = jax.nn.softmax(logits)
        return losses.sac_actor_loss(-losses.categorical_entropy(logits), policy @ q, alpha=alpha)

    close(jax.grad(loss)(q / alpha), np.zeros(3), atol=1e-6)
    # and there it is −α·logsumexp(q/α), the soft value
    close(loss(q / alpha), -alpha * np.log(np.sum(np.exp(q / alpha))), rtol=1e-6)
    assert loss(jnp.zeros(3)) > loss(q / alpha) + 0.1


def test_the_best_gaussian_policy_has_the_temperatures_variance():
    # Q = −½·a²/s²: the best Gaussian is N(0, α·s²), here with a deterministic quadrature for the
    # expectation.
    alpha, scale = 0.3, 2.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    nodes, weights = nodes.astype(np.float32), (weights / weights.sum()).astype(np.float32)

    def loss(parameters):
        mean, log_std = parameters
        action = mean + jnp.exp(log_std) * nodes
        log_prob = losses.gaussian_log_prob(action, jnp.full(20, mean), jnp.full(20, log_std))
        return weights @ losses.sac_actor_loss(
            log_prob, -0.5 * jnp.square(action / scale), alpha=alpha
        )

    best = jnp.array([0.0, 0.5 * np.log(alpha * scale**2)])
    close(jax.grad(loss)(best), [0.0, 0.0], atol=1e-5)


def test_temperature_rises_where_the_entropy_is_too_low():
    # −e^0.5·(log π + H): at log π = 3, H = −2 the entropy −3 is below −2, and the gradient −e^0.5·1
    # is negative.
    slope = jax.grad(
        lambda x: losses.sac_temperature_loss(x, jnp.float32(3.0), target_entropy=-2.0)
    )(0.5)
    close(slope, -np.exp(0.5), rtol=1e-6)
    assert (
        jax.grad(lambda x: losses.sac_temperature_loss(x, jnp.float32(1.0), target_entropy=-2.0))(
            0.5
        )
        > 0
    )


def test_actor_loss_with_the_densities_of_distrax():
    mean, log_std, noise = np.random.default_rng(0).normal(size=(3, 40, 2)).astype(np.float32)
    pre_tanh = mean + np.exp(log_std) * noise
    expected = distrax.Normal(mean, np.exp(log_std)).log_prob(pre_tanh)
    expected = np.sum(expected - distrax.Tanh().forward_log_det_jacobian(pre_tanh), axis=-1)
    log_prob = jnp.sum(losses.tanh_gaussian_log_prob(pre_tanh, mean, log_std), axis=-1)
    q = np.cos(pre_tanh).sum(-1)
    close(losses.sac_actor_loss(log_prob, q, alpha=0.2), 0.2 * expected - q, rtol=1e-4, atol=1e-4)

"""The target of one step and the error against it, by hand; what the papers' names stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onejit import losses

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("discount", "value", "target"),
    [
        (0.9, 10.0, 10.0),  # 1 + 0.9·10
        (0.0, 1e30, 1.0),  # terminated: nothing is bootstrapped
        (0.729, 10.0, 8.29),  # three steps of 0.9: 1 + 0.729·10
    ],
)
def test_bootstrapped_target_by_hand(discount, value, target):
    close(losses.bootstrapped_target(*map(jnp.float32, (1.0, discount, value))), target, rtol=1e-6)


def test_the_target_is_a_constant():
    slopes = jax.grad(losses.bootstrapped_target, argnums=(0, 1, 2))(1.0, 0.9, 2.0)
    assert slopes == (0.0, 0.0, 0.0)
    # d/dq (q − y)² = 2·(3 − 1), and nothing through y
    close(jax.grad(lambda q: losses.squared_td_loss(q, q - 2.0))(3.0), 4.0)


def test_squared_td_loss_is_twice_optax_l2_loss():
    q, target = normal(2, 50)
    close(losses.squared_td_loss(q, target), 2.0 * optax.l2_loss(q, target), rtol=1e-6)


def test_the_names_of_the_papers_are_these_functions():
    reward, discount, q1, q2, other = normal(5, 50)
    equal(losses.td3_critic_loss(q1, q2), losses.squared_td_loss(q1, q2))
    target = losses.bootstrapped_target
    equal(losses.td3_target(reward, discount, q1, q2), target(reward, discount, np.minimum(q1, q2)))
    alpha = np.float32(0.25)  # its products are exact
    equal(
        losses.sac_target(reward, discount, q1, other, alpha=alpha),
        target(reward, discount, q1 - alpha * other),
    )
    equal(
        losses.staq_target(reward, discount, q1, other, entropy_coef=alpha),
        target(reward, discount, q1 + alpha * other),
    )

"""The losses of TD3 by hand, and against rlax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from onejit import losses

close = np.testing.assert_allclose


def test_target_policy_noise_clips():
    close(
        losses.target_policy_noise(jnp.array([-0.9, -0.2, 0.0, 0.5, 3.0]), noise_clip=0.5),
        [-0.5, -0.2, 0, 0.5, 0.5],
    )


@pytest.mark.parametrize(
    ("discount", "q1", "q2", "target"),
    [
        (0.9, 10.0, 20.0, 10.0),  # 1 + 0.9·min(10, 20)
        (0.9, -10.0, -20.0, -17.0),  # 1 − 0.9·20
        (0.0, 1e30, 1e30, 1.0),  # terminated: nothing is bootstrapped
        (0.729, 10.0, 20.0, 8.29),  # three steps of 0.9: 1 + 0.729·10
    ],
)
def test_td3_target_by_hand(discount, q1, q2, target):
    close(losses.td3_target(*map(jnp.float32, (1.0, discount, q1, q2))), target, rtol=1e-6)


def test_the_target_is_a_constant():
    gradient = jax.grad(
        lambda q: losses.td3_target(jnp.float32(1.0), jnp.float32(0.9), q, q + 1.0)
    )(2.0)
    assert gradient == 0.0
    # d/dq (q − y)² = 2·(3 − 1), and nothing through y
    close(jax.grad(lambda q: losses.td3_critic_loss(q, q - 2.0))(3.0), 4.0)


def test_td3_critic_loss_is_twice_rlax_l2_loss():
    q, target = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    close(losses.td3_critic_loss(q, target), 2.0 * rlax.l2_loss(q, target), rtol=1e-6)


def test_td3_actor_loss_has_the_deterministic_policy_gradient_of_rlax():
    action = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)

    def q(action):
        return jnp.sum(jnp.sin(action) * jnp.arange(1.0, 4.0)[None], axis=-1)

    # rlax.dpg_loss: the gradient of its loss by the action is −∂Q/∂a
    slope = jax.grad(lambda a: jnp.sum(q(a)))(action)
    expected = jax.grad(lambda a: jnp.sum(jax.vmap(rlax.dpg_loss)(a, slope)))(action)
    close(jax.grad(lambda a: jnp.sum(losses.td3_actor_loss(q(a))))(action), expected, rtol=1e-5)

"""Continuous actions as a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import Box, Discretized


class TwoDials:
    """Shows the last action."""

    observation_space = Box(-10.0, 10.0, (2,))
    action_space = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, key, state, action):
        return action, envs.Step(action, jnp.float32(0.0), jnp.bool_(False), jnp.bool_(False), {})


def test_actions_are_the_digits_of_their_number():
    env = Discretized(TwoDials(), 3)
    assert env.action_space.n == 9
    # digit 0, 1, 2 stand for −1, 0, 1, which are −2, 0, 2 and 0, 0.5, 1; the last dimension is the
    # fastest
    expected = [[a, b] for a in (-2, 0, 2) for b in (0, 0.5, 1)]
    np.testing.assert_allclose(env.values(jnp.arange(9)), expected, atol=1e-6)
    _, step = env.step(jax.random.key(0), jnp.zeros(2), jnp.int32(5))
    np.testing.assert_allclose(step.obs, [0, 1], atol=1e-6)


@pytest.mark.slow
def test_a_discretised_environment_keeps_the_contract():
    env = Discretized(envs.make("brax/inverted_pendulum"), 2)
    assert env.action_space.n == 2
    envs.check(env)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Discretized(TwoDials(), 1), "bins=1: must be at least 2"),
        (lambda: Discretized(TwoDials(), 2.5), "bins=2.5: must be an integer"),
        (lambda: Discretized(TwoDials(), 10**6), "are too many"),
        (lambda: Discretized(envs.make("probe/action"), 2), "must be a Box"),
    ],
)
def test_what_cannot_be_cut_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()

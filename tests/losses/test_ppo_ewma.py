"""The limits in which the losses of PPO-EWMA are PPO's or nobody's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

close = np.testing.assert_allclose
SETTINGS = {"clip_eps": 0.2, "max_ratio": 100.0}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_around_the_policy_that_collected_it_is_ppo():
    log_prob, old, advantage = 0.3 * normal(3, 200)
    unbounded = {"clip_eps": 0.2, "max_ratio": jnp.inf}
    value, slope = jax.vmap(
        jax.value_and_grad(lambda x, o, a: losses.ppo_ewma_loss(x, o, o, a, **unbounded))
    )(log_prob, old, advantage)
    expected = jax.vmap(jax.value_and_grad(lambda *a: losses.ppo_clip_loss(*a, clip_eps=0.2)))(
        log_prob, old, advantage
    )
    close(value, expected[0], rtol=1e-5, atol=1e-6)
    close(slope, expected[1], rtol=1e-5, atol=1e-6)
    assert np.any(slope == 0.0)  # some are clipped


def test_around_the_trained_policy_nothing_is_clipped():
    """As with decay 0: value and gradient are those of −A·r, of which a tie of the two branches
    must lose nothing.
    """
    log_prob, old, advantage = normal(3, 200)
    value, slope = jax.vmap(
        jax.value_and_grad(lambda x, p, o, a: losses.ppo_ewma_loss(x, o, p, a, **SETTINGS))
    )(log_prob, log_prob, old, advantage)
    expected = -advantage * np.minimum(np.exp(log_prob - old), 100.0)
    close(value, expected, rtol=1e-5)
    close(slope, expected, rtol=1e-5)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, np.asarray), (1.0, np.mean)])
def test_the_average_is_the_last_or_the_mean_of_all(decay, expected):
    xs = normal(7)
    average, weight = jnp.asarray(xs[0]), jnp.float32(1.0)
    for x in xs[1:]:
        average, weight = losses.ewma(average, weight, x, decay=decay)
    close(average, expected(xs) if decay else xs[-1], rtol=1e-5)
    close(weight, 7.0 if decay else 1.0)

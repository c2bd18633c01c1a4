"""The losses of PPO-EWMA by hand, and the limits in which they are PPO's or nobody's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import losses

close = np.testing.assert_allclose
SETTINGS = {"clip_eps": 0.2, "max_ratio": 100.0}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("log_prob", "old", "proximal", "advantage", "loss"),
    [
        (-1.0, -1.2, -1.1, 1.0, -1.221403),  # not clipped: −e^0.2
        # l − p = 0.4 is clipped to log 1.2 = 0.182322: −e^(−1.4 + 0.182322 + 1.2) = −e^−0.017678
        (-1.0, -1.2, -1.4, 1.0, -0.982477),
        # a bad action, l − p = −0.4 clipped to log 0.8 = −0.223144: 2·e^(−1.823144 + 1.5)
        (-2.0, -1.5, -1.6, -2.0, 1.447740),
        # e^5.5 is bounded: m = −0.5 − log 100 = −5.105170, l − p clipped to 0.182322:
        # −0.5·e^(−0.717678 + 5.105170)
        (-0.5, -6.0, -0.9, 0.5, -40.219203),
    ],
)
def test_ppo_ewma_loss_by_hand(log_prob, old, proximal, advantage, loss):
    arrays = [jnp.float32(x) for x in (log_prob, old, proximal, advantage)]
    close(losses.ppo_ewma_loss(*arrays, **SETTINGS), loss, rtol=1e-5)


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


def test_the_average_by_hand():
    # W: 1, 1.889, 2.679321; averages (0.889·1 + 2)/1.889 = 1.529381, then
    # (0.889·1.889·1.529381 + 0)/2.679321 = 0.958572
    average, weight = jnp.float32(1.0), jnp.float32(1.0)
    for x, expected in ((2.0, (1.529381, 1.889)), (0.0, (0.958572, 2.679321))):
        average, weight = losses.ewma(average, weight, jnp.float32(x), decay=0.889)
        close((average, weight), expected, rtol=1e-5)


@pytest.mark.parametrize(("decay", "expected"), [(0.0, np.asarray), (1.0, np.mean)])
def test_the_average_is_the_last_or_the_mean_of_all(decay, expected):
    xs = normal(7)
    average, weight = jnp.asarray(xs[0]), jnp.float32(1.0)
    for x in xs[1:]:
        average, weight = losses.ewma(average, weight, x, decay=decay)
    close(average, expected(xs) if decay else xs[-1], rtol=1e-5)
    close(weight, 7.0 if decay else 1.0)

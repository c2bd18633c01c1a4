"""CDSA-lite: without steps nothing is corrected, a correction leads towards the data, and another
algorithm's actions can be corrected too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import bc, cdsa_lite
from onejit.algos.core.config import ConfigError
from onejit.envs.wrapper import Wrapper

pytestmark = pytest.mark.slow

ENV = envs.make("gymnax/Pendulum-v1")
SIZES = {"actor_hidden_sizes": (32,), "batch_size": 64, "learning_rate": 3e-3}
CONFIG = cdsa_lite.Config(**SIZES, num_updates=600, sigma=0.3)


@pytest.fixture(scope="module")
def learned():
    """On data whose actions are all near 0.5, of what a random policy met."""
    data = algos.dataset.record_random(ENV, jax.random.key(0), num_steps=400)
    noise = 0.05 * np.random.default_rng(0).normal(size=(len(data), 1))
    action = (0.5 + noise).astype(np.float32)
    data = data.replace(transitions=data.transitions._replace(action=action))
    algorithm = cdsa_lite.make(ENV, CONFIG, data=data)
    state, metrics = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
    assert metrics["charts/fault"] == 0.0
    return algorithm, state, jnp.asarray(data.transitions.obs[:50])


@pytest.fixture(scope="module")
def other():
    """A clone that has not learned yet, whose actions are all about 0."""
    data = algos.dataset.record_random(ENV, jax.random.key(0), num_steps=40)
    algorithm = bc.make(ENV, bc.Config(**SIZES), data=data)
    return algorithm, jax.jit(algorithm.init)(jax.random.key(1))


def changed(state, **changes):
    return state._replace(config=state.config.replace(**changes))


def test_without_steps_nothing_is_corrected(learned, other):
    _, state, obs = learned
    algorithm, bc_state = other
    none = changed(state, action_step=0.0, inverse_weight=0.0)
    mine = cdsa_lite.corrected(algorithm, none)
    expected = algorithm.act(bc_state, obs, jax.random.key(1), True)
    actual = mine.act(bc_state, obs, jax.random.key(1), True)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_steps_lead_towards_the_actions_of_the_data(learned, other):
    """The data's variance with the noise's is 0.05² + 0.3² = 0.0925: a step of 0.01 takes off
    0.01/0.0925 = 0.108 of the distance, ten of them 0.68. Torques are twice the unit action.
    """
    _, state, obs = learned
    algorithm, bc_state = other
    steps = changed(state, num_corrections=10, action_step=0.01, inverse_weight=0.0)
    before = np.asarray(algorithm.act(bc_state, obs, jax.random.key(1), True)) / 2.0
    after = cdsa_lite.corrected(algorithm, steps).act(bc_state, obs, jax.random.key(1), True)
    share = 1.0 - (np.asarray(after) / 2.0 - 0.5) / (before - 0.5)
    assert 0.5 < np.median(share) < 0.85


def test_the_observation_s_score_moves_actions_too(learned):
    algorithm, state, obs = learned
    still, moved = (
        algorithm.act(changed(state, obs_step=step, action_step=0.0), obs, jax.random.key(1), True)
        for step in (0.0, 0.1)
    )
    assert np.abs(still - moved).max() > 1e-4


def test_observations_are_vectors():
    env = Wrapper(ENV)
    env.observation_space = envs.Box(0.0, 1.0, (8, 8, 1))
    with pytest.raises(ConfigError, match=r"env.observation_space=\(8, 8, 1\): must be a vector"):
        CONFIG.validate(env)

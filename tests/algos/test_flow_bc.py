"""Cloning by a flow: it has both modes of data that have two, and what does not fit is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import flow_bc
from onejit.algos.core.config import ConfigError
from onejit.envs.wrapper import Wrapper

pytestmark = pytest.mark.slow

ENV = envs.make("probe/observation", continuous=True)
SIZES = {"actor_hidden_sizes": (32, 32), "batch_size": 64, "learning_rate": 3e-3}


def two_modes():
    """Actions of −0.8 and 0.8 in turns, whatever the observation is."""
    data = algos.dataset.record_random(ENV, jax.random.key(0), num_steps=200)
    action = np.where(np.arange(len(data)) % 2 == 0, 0.8, -0.8).astype(np.float32)[:, None]
    return data.replace(transitions=data.transitions._replace(action=action))


def test_both_modes_of_the_data_are_cloned():
    data = two_modes()
    algorithm = flow_bc.make(ENV, flow_bc.Config(**SIZES, num_updates=500), data=data)
    state, metrics = jax.jit(algorithm.step)(jax.jit(algorithm.init)(jax.random.key(0)))
    assert np.isfinite(metrics["losses/actor_loss"]) and metrics["charts/fault"] == 0.0
    obs = jnp.asarray(data.transitions.obs)
    action = np.asarray(jax.jit(algorithm.act, static_argnums=3)(state, obs, jax.random.key(1), 0))
    near = np.abs(np.abs(action) - 0.8) < 0.25
    assert near.mean() > 0.8
    assert 0.3 < (action > 0.0).mean() < 0.7


def test_observations_are_vectors():
    env = Wrapper(ENV)
    env.observation_space = envs.Box(0.0, 1.0, (8, 8, 1))
    with pytest.raises(ConfigError, match=r"env.observation_space=\(8, 8, 1\): must be a vector"):
        flow_bc.Config().validate(env)

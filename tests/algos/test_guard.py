"""The non-finite guard: nothing is spoilt, and the place is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import guard, ppo
from onejit.envs.base import Step

CONFIG = ppo.Config(
    num_envs=4, num_steps=8, num_minibatches=2, hidden_sizes=(8,), normalize_obs=True, normalize_reward=True
)


class Poisoned:
    """Counts its steps; after 11 of them the lane that started with the largest number turns bad for ever."""

    observation_space = envs.Box(-1e9, 1e9, (2,))
    action_space = envs.Discrete(2)

    def __init__(self, quantity, value, threshold):
        self.quantity, self.value, self.threshold = quantity, value, threshold

    def reset(self, key):
        mark = jax.random.uniform(key)
        return (mark, jnp.int32(0)), jnp.stack([mark, 0.0])

    def step(self, key, state, action):
        mark, time = state
        bad = (mark > self.threshold) & (time >= 11)
        reward = jnp.where(bad & (self.quantity == "reward"), self.value, 1.0)
        obs = jnp.stack([mark, time / 100.0])
        obs = jnp.where(bad & (self.quantity == "observation"), self.value, obs)
        return (mark, time + 1), Step(obs, reward, jnp.bool_(False), jnp.bool_(False), {})


def first_marks(seed):
    algorithm = ppo.make(Poisoned("none", 0.0, 2.0), CONFIG)
    return np.asarray(jax.jit(algorithm.init)(jax.random.key(seed)).env_state.env_state[0])


@pytest.mark.parametrize("quantity, value", [("observation", jnp.nan), ("observation", -jnp.inf), ("reward", jnp.inf)])
def test_a_bad_lane_spoils_nothing_and_is_named(quantity, value):
    marks = first_marks(0)
    threshold = float(np.sort(marks)[-2])
    algorithm = ppo.make(Poisoned(quantity, value, threshold), CONFIG)
    step = jax.jit(algorithm.step)
    state, _ = step(jax.jit(algorithm.init)(jax.random.key(0)))
    assert guard.describe(state.learner.fault) is None
    good = state.learner
    for _ in range(3):
        state, _ = step(state)
    # Eleven good steps: the twelfth is step 3 of the second rollout of 8.
    text = guard.describe(state.learner.fault)
    assert text == f"non-finite {quantity} in iteration 1, step 3 of the rollout, environment {marks.argmax()}"
    kept = (
        state.learner.params,
        state.learner.opt_state,
        state.learner.obs_statistics,
        state.learner.return_statistics,
    )
    was = (good.params, good.opt_state, good.obs_statistics, good.return_statistics)
    jax.tree.map(np.testing.assert_array_equal, kept, was)


def test_a_diverging_update_is_not_written():
    algorithm = ppo.make(envs.make("probe/action"), CONFIG.replace(learning_rate=1e38, max_grad_norm=1e30))
    start = jax.jit(algorithm.init)(jax.random.key(0))
    state, _ = jax.jit(algorithm.step)(start)
    assert guard.describe(state.learner.fault) in (
        "non-finite loss in iteration 0",
        "non-finite gradient, parameter or statistic in iteration 0",
    )
    jax.tree.map(np.testing.assert_array_equal, state.learner.params, start.learner.params)


def test_seeds_are_told_apart():
    faults = jnp.stack([guard.init(), jnp.array([2, 5, 1, 3])])
    assert guard.describe(faults) == "non-finite reward in iteration 5 of seed 1, step 1 of the rollout, environment 3"


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_all_finite(bad):
    tree = {"a": jnp.full(3, 3e38), "b": jnp.arange(4), "c": -jnp.full((2, 2), 3e38)}
    assert guard.all_finite(tree)
    assert not guard.all_finite({**tree, "c": tree["c"].at[1, 0].set(bad)})

"""Stored data in the replay of an off-policy algorithm, and in a part of its minibatches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import DatasetError, dataset, td3
from onejit.algos.core import parallel
from onejit.algos.core.config import ConfigError
from onejit.algos.off_policy import replay, stored
from onejit.algos.off_policy.actor_critic import Batch

ENV = envs.make("probe/observation", continuous=True)
SMALL = {
    "num_envs": 2,
    "batch_size": 8,
    "buffer_size": 100,
    "learning_starts": 16,
    "actor_hidden_sizes": (8,),
    "critic_hidden_sizes": (8,),
}


@pytest.fixture(scope="module")
def data():
    return dataset.record_random(ENV, jax.random.key(0), num_steps=21, num_envs=3)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_replay_begins_with_the_data_and_takes_no_random_actions(dtype, data):
    """21 transitions are 10 of each of two environments, and one that is left over. The probe's
    observations are 0 and 1, which bfloat16 has too.
    """
    config = td3.Config(**SMALL, normalize_obs=True, replay_dtype=dtype)
    algorithm = td3.make(ENV, config, data=data)
    assert algorithm.initial_steps == 0
    ring = (state := jax.jit(algorithm.init)(jax.random.key(0))).replay
    assert (int(ring.cursor), int(ring.size)) == (10, 10)
    steps = dataset.of_steps(replay.in_order(ring), ENV).transitions
    for mine, theirs in zip(jax.tree.leaves(steps), jax.tree.leaves(data.transitions), strict=True):
        if mine.dtype != bool:
            np.testing.assert_allclose(mine, theirs[:20], rtol=1e-6)
    np.testing.assert_array_equal(steps.truncated | steps.terminated, np.ones(20, bool))
    mean = state.learner.obs_statistics.mean
    np.testing.assert_allclose(mean, data.transitions.obs[:20].mean(axis=0), rtol=1e-5)


def test_devices_begin_with_the_records_of_their_own_environments(data):
    """The replay of two devices with an environment each is that of one with two."""
    config = td3.Config(**SMALL, normalize_obs=True)
    algorithm = td3.make(ENV, config, data=data)
    whole = jax.jit(algorithm.init)(jax.random.key(0))
    each = jax.vmap(algorithm.init, axis_name=parallel.AXIS)
    parts = jax.jit(each)(jax.random.split(jax.random.key(0), 2))
    assert parts.replay.rows.reward.shape == (2, 50, 1)
    both = jax.tree.map(lambda x: jnp.concatenate(list(x), axis=1), parts.replay.rows)
    jax.tree.map(np.testing.assert_array_equal, both, whole.replay.rows)
    np.testing.assert_array_equal(parts.replay.size, [10, 10])
    close = partial(np.testing.assert_allclose, rtol=1e-5)
    for device in range(2):
        found = jax.tree.map(lambda x, i=device: x[i], parts.learner.obs_statistics)
        jax.tree.map(close, found, whole.learner.obs_statistics)


def test_devices_share_the_stored_part_of_a_minibatch_evenly(data):
    """0.3·20 = 6 cannot be cut into four: 6 // 4 = 1 for each would be 4, and not 6, of 20."""
    config = td3.Config(**SMALL | {"num_envs": 4, "batch_size": 20})
    keys = jax.random.split(jax.random.key(0), 4)

    def begin(share):
        algorithm = td3.make(ENV, config, data=data, data_share=share)
        return jax.eval_shape(jax.vmap(algorithm.init, axis_name=parallel.AXIS), keys)

    with pytest.raises(ConfigError, match="data_share·batch_size=6: must be a multiple of the 4"):
        begin(0.3)
    begin(0.2)


def test_of_a_ring_what_is_read_back_is_in_order():
    """Five rows written into three places: 2, 3, 4 are left, oldest first."""
    ring = replay.init(jnp.zeros(1), 3)
    for number in range(5):
        ring = replay.add(ring, jnp.full(1, float(number)))
    np.testing.assert_array_equal(replay.in_order(ring)[:, 0], [2.0, 3.0, 4.0])


def test_minibatches_are_joined_along_their_samples():
    one, other = (Batch(*[jnp.full((2, n), x)] * 5) for n, x in ((3, 0.0), (1, 1.0)))
    both = stored.join(one._replace(weight=jnp.full((2, 3), 0.5)), other)
    np.testing.assert_array_equal(both.reward, [[0, 0, 0, 1]] * 2)
    np.testing.assert_array_equal(both.weight, [[0.5, 0.5, 0.5, 1]] * 2)
    assert isinstance(stored.join(one, other).weight, tuple)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_data_teach_before_the_environment_does(share, data, jit_to_learn, assert_resume_is_exact):
    """With 5 steps taken, what is known of the probe is from 2000 stored transitions."""
    data = dataset.record_random(ENV, jax.random.key(0), num_steps=2_000)
    changes = {"num_updates": 100, "policy_delay": 2, "learning_rate": 1e-2, "buffer_size": 4_000}
    config = td3.Config(**SMALL | changes | {"batch_size": 64})
    algorithm = td3.make(ENV, config, data=data, data_share=share)
    evaluate = algos.evaluator(algorithm, num_episodes=64)

    def run(key):
        return algos.train(algorithm, key, num_iterations=5, log_every=5, evaluate=evaluate)[1]

    assert jit_to_learn(run)(jax.random.key(0))["eval/episodic_return"][-1] > 0.7
    assert_resume_is_exact(algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step), 1)


def test_what_does_not_go_together_is_refused(data):
    def make(share=0.0, data=data, **changes):
        return td3.make(ENV, td3.Config(**SMALL | changes), data=data, data_share=share)

    with pytest.raises(ConfigError, match="data_share=0.5: must be 0 without data"):
        make(0.5, data=None)
    with pytest.raises(ConfigError, match="data_share=1.0: must be at least 0 and below 1"):
        make(1.0)
    with pytest.raises(ConfigError, match="data_share=0.01: must leave both parts"):
        make(0.01)
    with pytest.raises(ConfigError, match="buffer_size=4: must be at least the data's 21"):
        make(buffer_size=4)
    with pytest.raises(ConfigError, match='memory=gru: must be "none"'):
        make(memory="gru", sequence_length=4)
    with pytest.raises(DatasetError, match="data=7: must be a Dataset"):
        make(data=7)
    with pytest.raises(DatasetError, match="there are 21 transitions, and a window needs 30"):
        make(0.5, n_step=30)


def test_schedules_of_a_replay_that_begins_with_data_begin_at_0(data):
    """100 steps of which none is taken by `init`: 4 iterations of 2 steps are 0.08 of them, where
    16 random ones beside would make it 0.24. And 2 steps are enough for a run.
    """
    config = td3.Config(**SMALL | {"policy_delay": 1}, total_steps=100, anneal_lr=True)
    algorithm = td3.make(ENV, config, data=data)
    given = jax.eval_shape(algorithm.init, jax.random.key(0), config)  # as it was written
    assert given.config.learning_starts == algorithm.config.learning_starts == 0
    assert float(algorithm.config.done(4)) == pytest.approx(0.08)
    assert float(td3.make(ENV, config, data=data, data_share=0.5).config.done(4)) == pytest.approx(
        0.24
    )
    assert td3.make(ENV, config.replace(total_steps=2), data=data).iterations(2) == 1
    for options in ({}, {"data": data, "data_share": 0.5}):
        with pytest.raises(ConfigError, match="learning_starts=0: must be at least 1, unless"):
            td3.make(ENV, config.replace(learning_starts=0), **options)

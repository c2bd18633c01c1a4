"""Evaluation counts the first episode of each environment, once and whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo
from onejit.envs.probes import Probe, Table

# State 0 leads to 1, 1 ends the episode; both pay 1. From state 2 the episode ends at once and pays
# 5.
TABLE = Table(
    reward=((1, 1), (1, 1), (5, 5)),
    next_state=((1, 1), (1, 1), (2, 2)),
    terminated=((False, False), (True, True), (True, True)),
    start=(0.5, 0.0, 0.5),
)


def zeros(obs, key):
    del key
    return jnp.zeros(obs.shape[0], jnp.int32)


def test_returns_and_lengths_by_hand():
    episodes = jax.jit(lambda key: algos.evaluate(Probe(TABLE), zeros, key, num_episodes=64))(
        jax.random.key(0)
    )
    assert set(zip(episodes.returns.tolist(), episodes.lengths.tolist(), strict=True)) == {
        (2.0, 2),
        (5.0, 1),
    }
    assert episodes.finished.all()


def test_an_endless_episode_stops_at_max_steps_and_says_so():
    endless = Table(
        reward=((1, 1),),
        next_state=((0, 0),),
        terminated=((False, False),),
        start=(1,),
        time_limit=10**9,
    )
    episodes = algos.evaluate(Probe(endless), zeros, jax.random.key(0), num_episodes=3, max_steps=7)
    np.testing.assert_array_equal(episodes.returns, 7.0)
    assert not episodes.finished.any()


def test_evaluation_does_not_change_training():
    algorithm = ppo.make(
        envs.make("probe/action"), ppo.Config(num_envs=4, num_steps=4, hidden_sizes=(4,))
    )
    key = jax.random.key(0)
    evaluate = algos.evaluator(algorithm, num_episodes=4)
    with_evaluation, history = jax.jit(
        lambda k: algos.train(algorithm, k, num_iterations=4, log_every=2, evaluate=evaluate)
    )(key)
    without, _ = jax.jit(lambda k: algos.train(algorithm, k, num_iterations=4))(
        jax.random.clone(key)
    )
    for a, b in zip(
        jax.tree.leaves(with_evaluation.learner), jax.tree.leaves(without.learner), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert history["eval/episodic_return"].shape == (2,)


def test_no_episodes_are_refused():
    algorithm = ppo.make(envs.make("probe/action"))
    with pytest.raises(ValueError, match="num_episodes=0"):
        algos.evaluator(algorithm, num_episodes=0)

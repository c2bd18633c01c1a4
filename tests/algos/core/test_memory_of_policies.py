"""A policy that remembers: a toy with a counter as its memory goes through collection, evaluation,
recording, resume and vmap, in both loops.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo, td3
from onejit.algos.core.collect import Policy
from onejit.algos.core.evaluation import evaluate, player
from onejit.algos.host.recording import record_episode
from onejit.algos.off_policy import loop as off_policy_loop
from onejit.algos.on_policy import loop as on_policy_loop


class Clock:
    """Pays what the action says, which the policy takes from its memory; three steps long."""

    observation_space = envs.Box(0.0, 10.0, (1,))
    action_space = envs.Box(-1.0, 1.0, (1,))

    def reset(self, key):
        del key
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action):
        del key
        time = state + 1
        obs = time.astype(jnp.float32)[None]
        return time, envs.Step(obs, action[0], time == 3, jnp.bool_(False), {})


def counting(env, networks):
    """Acts by a counter: 0.1, 0.2, 0.3 in the steps of an episode. The counter starts with 1."""
    del env, networks

    def act(params, count, obs):
        del params, obs
        return 0.1 * count[:, None], count + 1.0

    def explore(params, count, obs, key):
        del key
        action, after = act(params, count, obs)
        return action, jnp.zeros_like(count), after

    def memory(key, num_envs, config):
        del key, config
        return jnp.ones(num_envs)

    return Policy(explore, act, memory)


SIZES = {"num_envs": 2, "total_steps": 1000}
PPO = ppo.Config(**SIZES, num_steps=7, num_minibatches=1, hidden_sizes=(4,))
TD3 = td3.Config(
    **SIZES,
    learning_starts=2,
    batch_size=4,
    buffer_size=64,
    actor_hidden_sizes=(4,),
    critic_hidden_sizes=(4,),
)
ALGORITHMS = {
    "on_policy": on_policy_loop.maker(ppo.Config, ppo.update, make_policy=counting)(Clock(), PPO),
    "off_policy": off_policy_loop.maker(
        td3.Config, td3.make_networks, td3.init_learner, td3.update, counting
    )(Clock(), TD3),
}


@pytest.fixture(scope="module", params=ALGORITHMS)
def made(request):
    algorithm = ALGORITHMS[request.param]
    return algorithm, jax.jit(algorithm.init), jax.jit(algorithm.step)


def test_collection_carries_the_memory_and_begins_anew_with_each_episode():
    algorithm = ALGORITHMS["on_policy"]
    state = jax.jit(algorithm.init)(jax.random.key(0))
    np.testing.assert_array_equal(state.collection.memory, [1.0, 1.0])
    step = jax.jit(algorithm.step)
    state, metrics = step(state)
    # Seven steps are 0.1, 0.2, 0.3 | 0.1, 0.2, 0.3 | 0.1: two episodes that pay 0.6, and the
    # memory is before its second step.
    np.testing.assert_allclose(metrics["charts/episodic_return"], 0.6, rtol=1e-6)
    assert metrics["charts/episodes"] == 4.0
    np.testing.assert_array_equal(state.collection.memory, [2.0, 2.0])
    state, metrics = step(state)
    np.testing.assert_allclose(metrics["charts/episodic_return"], 0.6, rtol=1e-6)
    np.testing.assert_array_equal(state.collection.memory, [3.0, 3.0])


def test_the_replay_holds_what_the_memory_did():
    algorithm = ALGORITHMS["off_policy"]
    state = jax.jit(algorithm.init)(jax.random.key(0))
    step = jax.jit(algorithm.step)
    for _ in range(4):
        state, _ = step(state)
    action = np.asarray(state.replay.rows.action)[..., 0]
    size = int(state.replay.size)
    # After a step of the prefill at random, with which the counter does not count; a step is two.
    expected = [0.1, 0.2, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3]
    assert size == 9
    np.testing.assert_allclose(action[1:size], np.stack([expected, expected], axis=1), rtol=1e-6)


def test_evaluation_recording_and_act_carry_the_memory(made):
    algorithm, init, _ = made
    state = init(jax.random.key(0))
    act, memory = player(algorithm, state, deterministic=True)
    episodes = evaluate(algorithm.env, act, jax.random.key(1), num_episodes=3, memory=memory)
    np.testing.assert_allclose(episodes.returns, [0.6, 0.6, 0.6], rtol=1e-6)
    scores = algos.evaluator(algorithm, num_episodes=2)(state, jax.random.key(2))
    np.testing.assert_allclose(scores["eval/episodic_return"], 0.6, rtol=1e-6)
    assert len(record_episode(algorithm.env, act, jax.random.key(3), memory=memory)) == 4
    # Without a memory each observation is the first of an episode.
    obs = jnp.zeros((5, 2, 1))
    action = algorithm.act(state, obs, jax.random.key(4), True)
    np.testing.assert_allclose(action, jnp.full((5, 2, 1), 0.1), rtol=1e-6)
    remembered = jnp.arange(10.0).reshape(5, 2)
    action, after = algorithm.act(state, obs, jax.random.key(5), False, remembered)
    np.testing.assert_allclose(action[..., 0], 0.1 * remembered, rtol=1e-6)
    np.testing.assert_array_equal(after, remembered + 1.0)


def test_resume_and_vmap_carry_the_memory(made, assert_resume_is_exact):
    algorithm, init, step = made
    assert_resume_is_exact(algorithm, init, step, 2)
    many = jax.jit(jax.vmap(algorithm.init))(jax.random.split(jax.random.key(3), 3))
    many, _ = jax.jit(jax.vmap(algorithm.step))(many)
    one, _ = step(init(jax.random.key(3)))
    np.testing.assert_array_equal(many.collection.memory, [one.collection.memory] * 3)

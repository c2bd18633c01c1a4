"""A sampler of one's own: proportional prioritised replay (Schaul et al. 2016, arXiv 1511.05952),
in twenty lines, and what the loop gives it and takes from it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from onejit import envs
from onejit.algos import sac
from onejit.algos.off_policy import replay


def prioritised(alpha=0.6, beta=0.4, epsilon=1e-3):
    def init(ring):
        return jnp.ones(ring.rows.reward.shape)  # `[capacity, N]`

    def add(priority, rows):
        return priority.at[rows].set(jnp.max(priority))

    def sample(priority, ring, key, shape, window):
        assert window == 1
        written = (jnp.arange(len(priority)) < ring.size)[:, None]
        weights = jnp.where(written, priority**alpha, 0.0).ravel()
        total = jnp.cumsum(weights)
        drawn = jnp.searchsorted(total, total[-1] * jax.random.uniform(key, shape))
        row, env = drawn // priority.shape[1], drawn % priority.shape[1]
        weight = (jnp.sum(written) * priority.shape[1] * weights[drawn] / total[-1]) ** -beta
        return row[None], env, weight / jnp.max(weight)

    def update(priority, row, env, td_error):
        return priority.at[row, env].set(td_error + epsilon)

    return replay.Sampler(init, add, sample, update)


CONFIG = sac.Config(
    num_envs=4,
    num_updates=2,
    policy_delay=2,
    batch_size=8,
    learning_starts=64,
    buffer_size=200,  # 50 rows, which are written over after 34 steps
    total_steps=4000,
    actor_hidden_sizes=(8,),
    critic_hidden_sizes=(8,),
)
ENV = envs.make("probe/observation")


def test_places_are_drawn_by_priority_and_weighted_by_its_inverse():
    sampler = prioritised(alpha=1.0, beta=1.0)
    rows = sac.Transition(*(jnp.zeros((3, 2)) for _ in range(6)))
    ring = replay.Replay(rows, cursor=jnp.int32(2), size=jnp.int32(2))
    priority = jnp.array([[1.0, 2.0], [0.0, 5.0], [100.0, 100.0]])  # the last row is not written
    row, env, weight = sampler.sample(priority, ring, jax.random.key(0), (8000,), 1)
    counts = np.zeros((3, 2))
    np.add.at(counts, (np.asarray(row[0]), np.asarray(env)), 1)
    np.testing.assert_allclose(counts / 8000, [[1 / 8, 2 / 8], [0, 5 / 8], [0, 0]], atol=0.02)
    # 1/(4·p/8) over its maximum, that of the rarest: 1, 1/2 and 1/5.
    places = np.array([[1.0, 0.5], [np.nan, 0.2]])
    np.testing.assert_allclose(weight, places[np.asarray(row[0]), np.asarray(env)], rtol=1e-5)


def test_the_loop_hands_out_td_errors_and_takes_weights():
    algorithm = sac.make(ENV, CONFIG, sampler=prioritised())
    state = jax.jit(algorithm.init)(jax.random.key(0))
    step = jax.jit(algorithm.step)
    np.testing.assert_array_equal(state.sampler, 1.0)
    after, metrics = step(state)
    assert metrics["charts/fault"] == 0 and "td_error" not in metrics
    changed = np.argwhere(np.asarray(after.sampler) != 1.0)
    assert 1 <= len(changed) <= 16  # of two minibatches of 8
    assert changed[:, 0].max() <= 16  # 16 rows of the prefill and one more are written
    for _ in range(60):
        after, metrics = step(after)
    assert metrics["charts/fault"] == 0
    assert (np.asarray(after.sampler) != 1.0).mean() > 0.5  # new rows have the largest priority
    assert np.isfinite(after.sampler).all()


def test_td_errors_are_the_distances_from_the_target_and_weights_scale_the_loss():
    networks = sac.make_networks(ENV, CONFIG)
    init = partial(sac.init_learner, env=ENV, networks=networks, config=CONFIG)
    learner = jax.jit(init)(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (2, 8, *ENV.observation_space.shape))
    # With a discount of 0 the target is the reward.
    reward = jnp.arange(16.0).reshape(2, 8)
    batch = sac.Batch(obs, jnp.zeros((2, 8), jnp.int32), reward, jnp.zeros((2, 8)), obs)

    @jax.jit
    def updated(batch):
        return sac.update(learner, batch, jax.random.key(2), networks=networks, config=CONFIG)

    _, metrics = updated(batch)
    q = jax.vmap(lambda each: networks.critic.apply(each, obs[0]))(learner.params["critic"])
    errors = np.abs(np.asarray(q)[..., 0] - np.asarray(reward[0])).mean(axis=0)
    np.testing.assert_allclose(metrics["td_error"][0], errors, rtol=1e-5)
    ones, _ = updated(batch._replace(weight=jnp.ones((2, 8))))
    same, _ = updated(batch)
    jax.tree.map(np.testing.assert_array_equal, ones.params["critic"], same.params["critic"])
    # A weight of 0 leaves a sample out: what it says does not matter.
    some = (jnp.arange(16) % 2).astype(jnp.float32).reshape(2, 8)
    left_out, _ = updated(batch._replace(weight=some))
    other, _ = updated(batch._replace(weight=some, reward=jnp.where(some > 0, reward, 1e3)))
    jax.tree.map(np.testing.assert_array_equal, left_out.params, other.params)

"""HNPG: without offline rows it is TRPO, the two losses of its critic are added, and it resumes
exactly; and the lock.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import dataset, hnpg, trpo
from onejit.algos.core import guard
from onejit.algos.core.config import ConfigError
from onejit.envs.lock import Lock

pytestmark = pytest.mark.slow

SIZES = {"num_envs": 8, "num_steps": 3, "hidden_sizes": (8,)}
LOCK = envs.make("probe/lock", steps=3)


class Blind(nn.Module):
    """A critic that does not look at the action."""

    value: nn.Module

    def __call__(self, obs, action=None):
        return self.value(obs)


def test_without_offline_rows_and_with_a_critic_blind_to_actions_it_is_trpo():
    """Its loss has no factor ½, and the mean over actions is of equal numbers."""
    same = SIZES | {"num_minibatches": 1, "gae_lambda": 0.97, "normalize_advantage": False}
    config = trpo.Config(**same, vf_coef=1.0)
    networks = trpo.make_networks(LOCK, config)
    blind = networks._replace(value=Blind(networks.value))
    pairs = (
        (trpo.make, config, networks),
        (hnpg.make, hnpg.Config(**same, vf_coef=0.5), blind),
    )
    starts, ends = [], []
    for make, config, networks in pairs:
        algorithm = make(LOCK, config, networks)
        state = jax.jit(algorithm.init)(jax.random.key(0))
        params = state.learner.params
        if starts:  # its module begins elsewhere
            params = params | {"value": {"params": {"value": starts[0]["value"]["params"]}}}
        starts.append(params)
        state = state._replace(learner=state.learner._replace(params=params))
        params = jax.jit(algorithm.step)(state)[0].learner.params
        ends.append((params["policy"], jax.tree.leaves(params["value"])))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *ends)
    assert (
        np.abs(starts[0]["policy"]["params"]["log_std"] - ends[0][0]["params"]["log_std"]).max() > 0
    )


def test_without_offline_rows_it_solves_the_probes(jit_to_learn):
    """The right actions where they differ and are visited, as in on_policy/test_loop.py; that of
    "truncation" is wrong where the true successor is not bootstrapped from.
    """
    env = envs.make("probe/all", continuous=True)
    sizes = {"num_envs": 32, "num_steps": 16, "hidden_sizes": (16,), "total_steps": 150 * 512}
    config = hnpg.Config(**sizes, gamma=0.9, learning_rate=3e-3, max_grad_norm=10.0)
    algorithm = hnpg.make(env, config)
    state, _ = jit_to_learn(lambda key: algos.train(algorithm, key, num_iterations=150))(
        jax.random.key(0)
    )
    observations = jnp.eye(env.observation_space.shape[0])
    action = algorithm.act(state, observations, jax.random.key(1), True)[:, 0] > 0
    best = env.solve(gamma=0.9)[1]
    visited = {"action": 1, "delay": 1, "observation": 2, "truncation": 1, "termination": 1}
    for probe, num_states in visited.items():
        first = env.first_state[probe]
        places = np.arange(first, first + num_states)
        np.testing.assert_array_equal(action[places], best[places], err_msg=probe)


@pytest.fixture(scope="module")
def hybrid():
    config = hnpg.Config(**SIZES, num_minibatches=2, offline_batch=16, normalize_obs=True)
    return hnpg.make(LOCK, config)


def test_offline_rows_have_own_actions_for_the_policy_and_the_datas_for_the_critic(hybrid):
    config = hybrid.config
    networks = hnpg.make_networks(LOCK, config)
    state = jax.jit(hybrid.init)(jax.random.key(0))
    data = LOCK.demonstrations(jax.random.key(1), 10)
    batch = hnpg.Transition(
        **jax.tree.map(lambda x: x[:24].reshape(3, 8, *x.shape[1:]), data)._asdict(),
        log_prob=jnp.zeros((3, 8)),
    )

    @jax.jit
    def estimate(learner):
        return hnpg.estimate(learner, batch, networks, config, key=jax.random.key(2), rows=data)[0]

    rows = estimate(state.learner)
    online = jax.tree.map(lambda x: x[:24], rows)
    offline = jax.tree.map(lambda x: x[24:], rows)
    np.testing.assert_array_equal(online.action, online.taken)
    assert np.all(np.abs(offline.taken) == 1.0)  # demonstrations are of the corners
    assert not np.any(np.abs(offline.action) == 1.0)
    # (24 + 16)/24 and (24 + 16)/16
    np.testing.assert_allclose(online.weight, 40 / 24, rtol=1e-6)
    np.testing.assert_allclose(offline.weight, 40 / 16, rtol=1e-6)
    loss, _ = jax.jit(partial(hnpg.critic_loss, networks=networks, config=config))(
        state.learner.params, rows, jax.random.key(3)
    )
    q = networks.value.apply(state.learner.params["value"], rows.obs, rows.taken)
    error = np.square(np.asarray(q - rows.target))
    np.testing.assert_allclose(loss, 0.5 * (error[:24].mean() + error[24:].mean()), rtol=1e-5)


def test_resume_is_exact(hybrid, assert_resume_is_exact):
    assert_resume_is_exact(hybrid, jax.jit(hybrid.init), jax.jit(hybrid.step), 2)


def test_the_whole_training_lowers_for_tpu_and_cuda(hybrid):
    run = jax.jit(lambda key: algos.train(hybrid, key, num_iterations=2))
    lowered = run.trace(jax.random.key(0)).lower(lowering_platforms=("tpu", "cuda"))
    assert "stablehlo.while" in lowered.as_text()


def test_seeds_side_by_side_equal_single_runs(hybrid):
    def run(key):
        return algos.train(hybrid, key, num_iterations=2)[0].learner.params

    keys = jax.random.split(jax.random.key(0), 2)
    many = jax.jit(jax.vmap(run))(keys)
    one = jax.jit(run)(jax.random.clone(keys)[1])
    second = jax.tree.map(lambda x: x[1], many)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), second, one)


def test_the_lock_by_its_rules():
    """The right actions all the way pay 1; the first wrong one pays 0.1 every other time, and then
    nothing does.
    """
    lock = Lock(steps=3)

    @jax.jit
    @jax.vmap
    def play(key, wrong_at):
        reset_key, *keys = jax.random.split(key, 4)
        state, _ = lock.reset(reset_key)
        rewards = []
        for time, key in enumerate(keys):
            right = lock._right[state.time, state.latent]
            choice = jnp.where(time == wrong_at, (right + 1) % 10, right)
            action = 2.0 * jax.nn.one_hot(choice, 10) - 1.0
            state, step = lock.step(key, state, action)
            rewards.append(step.reward)
        return jnp.stack(rewards), step.terminated

    keys = jax.random.split(jax.random.key(0), 200)
    rewards, over = play(keys, jnp.full(200, 3))
    np.testing.assert_array_equal(rewards, np.tile([0.0, 0.0, 1.0], (200, 1)))
    assert np.all(over)
    rewards, _ = play(jax.random.clone(keys), jnp.full(200, 1))
    assert np.all(rewards[:, [0, 2]] == 0.0)
    assert 0.35 < np.mean(rewards[:, 1] == np.float32(0.1)) < 0.65
    envs.check(lock, num_steps=10)


def test_a_demonstration_is_right_but_once_in_an_episode():
    """(1 − 1/3·9/10)³ = 0.343 of the episodes are paid 1."""
    rows = jax.jit(LOCK.demonstrations, static_argnums=1)(jax.random.key(0), 1000)
    assert rows.obs.shape == (3000, 8)
    np.testing.assert_allclose(np.mean(np.asarray(rows.reward) == 1.0) * 3, 0.343, atol=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "gru"},
        {"policy": "tanh_gaussian"},
        {"shared_torso": True},
        {"normalize_reward": True},
        {"vf_clip_eps": 0.2},
        {"offline_batch": 1},
    ],
)
def test_what_does_not_go_together_is_refused(wrong):
    with pytest.raises(ConfigError, match="num_minibatches" if "offline" in str(wrong) else "must"):
        hnpg.make(LOCK, hnpg.Config(**SIZES, **wrong))


def test_offline_rows_without_data_are_refused():
    config = hnpg.Config(**SIZES, offline_batch=8)
    with pytest.raises(ConfigError, match="the environment has no demonstrations"):
        hnpg.make(envs.make("gymnax/Pendulum-v1"), config)


def test_data_of_ones_own_are_learned_from_and_checked():
    data = dataset.record_random(LOCK, jax.random.key(0), num_steps=64, num_envs=4)
    config = hnpg.Config(**SIZES, offline_batch=8)
    algorithm = hnpg.make(LOCK, config, data=data)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    after, _ = jax.jit(algorithm.step)(state)
    assert guard.describe(after.learner.fault) is None
    with pytest.raises(ConfigError, match="offline_batch=0: must be above 0 to learn from data"):
        hnpg.make(LOCK, config.replace(offline_batch=0), data=data)
    with pytest.raises(algos.DatasetError):
        hnpg.make(envs.make("gymnax/Pendulum-v1"), config, data=data)


@pytest.mark.parametrize("huge", [{"offline_batch": 2**31 - 8}, {"action_samples": 10**9}])
def test_what_cannot_fit_is_refused(huge):
    with pytest.raises(ConfigError, match=f"{next(iter(huge))}=.*GiB, the device has"):
        hnpg.make(LOCK, hnpg.Config(**SIZES | {"num_minibatches": 1} | huge))

"""The devices' axis, by `vmap(axis_name=)` on one device: shares, reductions, and how an update and
a collection on four shares are those of the whole.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import (
    avg,
    fixpo,
    harpg,
    hnpg,
    npg_igt,
    pathwise,
    ppo,
    rebrac,
    sac,
    staq,
    td3,
    td3_bc,
    tokens,
)
from onejit.algos.actor_only import trajectories
from onejit.algos.core import collect, guard, parallel
from onejit.algos.core.config import ConfigError
from onejit.algos.core.distribution import ALIKE, of_each_device, state_specs
from onejit.envs.base import Step

D = 4
AXIS = parallel.AXIS


def on_devices(function, **axes):
    return jax.vmap(function, axis_name=AXIS, axis_size=D, **axes)


def shares(tree, axis):
    """The parts of four devices, along a new first axis."""
    return jax.tree.map(lambda x: jnp.stack(jnp.split(x, D, axis)), tree)


def whole(tree, axis):
    """The devices' parts, put together."""
    return jax.tree.map(lambda x: jnp.concatenate(list(x), axis), tree)


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-6), a, b)


def test_without_the_axis_nothing_is_shared_and_nothing_is_done():
    x, key = jnp.arange(4.0), jax.random.key(0)
    assert (parallel.size(), parallel.share(7)) == (1, 7)
    for function in (parallel.mean, parallel.total, parallel.largest, parallel.gathered):
        assert function(x) is x
    for function in (parallel.own, parallel.same, parallel.own_key):
        assert function(key) is key
    assert parallel.place(x, 3) is x


def test_the_reductions_by_hand():
    each = jnp.array([[1.0, 3.0], [5.0, 7.0], [0.0, 2.0], [2.0, 4.0]])
    mean, var = on_devices(parallel.moments)(each)
    # Means 2, 6, 1, 3 and variances 1: the mean is 3, the variance 1 + (1 + 9 + 4 + 0)/4 = 4.5.
    assert (mean.tolist(), var.tolist()) == ([3.0] * D, [4.5] * D)
    counts = {"x": each[:, 0], "n": jnp.full(D, 7)}
    found = on_devices(parallel.mean)(counts)
    assert (found["x"].tolist(), found["n"].tolist()) == ([2.0] * D, [7] * D)
    assert on_devices(parallel.largest)(each[:, 1]).tolist() == [7.0] * D
    assert on_devices(parallel.total)(each[:, 1]).tolist() == [16.0] * D
    assert on_devices(parallel.gathered)(each)[2].tolist() == each.ravel().tolist()
    assert on_devices(parallel.own, in_axes=None)(jnp.arange(8)).tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    assert on_devices(lambda i: parallel.place(i, 2))(jnp.array([0, 1, 0, 1])).tolist() == [
        0,
        3,
        4,
        7,
    ]


def test_the_first_device_decides_and_keys_differ():
    tree = {"flag": jnp.array([True, False, False, False]), "x": jnp.array([2.5, 1.0, jnp.nan, 0])}
    keys = jax.random.split(jax.random.key(0), D)
    found = on_devices(parallel.same)(tree | {"key": keys})
    assert found["flag"].tolist() == [True] * D and found["flag"].dtype == bool
    assert found["x"].tolist() == [2.5] * D
    data = jax.random.key_data(found["key"])
    np.testing.assert_array_equal(data, np.tile(jax.random.key_data(keys)[0], (D, 1)))
    own = on_devices(parallel.own_key, in_axes=None)(jax.random.key(1))
    assert len({tuple(x) for x in jax.random.key_data(own).tolist()}) == D


def test_all_devices_know_of_the_first_fault():
    found = jnp.array([[0, -1, -1, -1], [2, 3, 0, 4], [1, 3, 7, 12], [1, 3, 7, 10]], jnp.int32)
    # An observation (1) comes before a reward (2), and of the same step the smaller environment.
    assert on_devices(guard.agreed)(found).tolist() == [[1, 3, 7, 10]] * D
    none = jnp.tile(guard.init(), (D, 1))
    assert on_devices(guard.agreed)(none).tolist() == none.tolist()


@pytest.mark.parametrize(
    "config, message",
    [
        (ppo.Config(num_envs=6), "num_envs=6: must be a multiple of the 4 devices, such as 4 or 8"),
        (ppo.Config(num_envs=2), "num_envs=2: must be a multiple of the 4 devices, such as 4"),
        (
            ppo.Config(num_envs=4, num_steps=10, num_minibatches=4),
            "num_minibatches=4: must divide the 10 transitions of each device, such as 2 or 5",
        ),
        (
            fixpo.Config(num_envs=4, num_steps=9, num_minibatches=1),
            "fixup_minibatches=2: must divide the 9 transitions of each device, such as 1 or 3",
        ),
        (
            ppo.Config(num_envs=8, num_minibatches=4, memory="gru"),
            "num_minibatches=4: must divide the 2 environments of each device, such as 2",
        ),
        (sac.Config(num_envs=4, batch_size=250), "batch_size=250: .* such as 248 or 252"),
        (
            sac.Config(num_envs=4, batch_size=96, sequence_length=16, memory="gru"),
            "batch_size=96: must be a multiple of 64, for 4 devices, such as 64 or 128",
        ),
        (tokens.Config(num_prompts=30), "num_prompts=30: .* such as 28 or 32"),
        (
            hnpg.Config(num_envs=4, num_minibatches=1, offline_batch=9),
            "offline_batch=9: .* such as 8 or 12",
        ),
        (harpg.Config(num_envs=6), "num_envs=6: .* such as 4 or 8"),
    ],
)
def test_what_does_not_divide_is_refused_with_what_would(config, message):
    config.require_shares(1)
    with pytest.raises(ConfigError, match=message):
        config.require_shares(D)


def test_a_bank_must_divide_too():
    config = ppo.Config(num_envs=6, num_steps=4, reset="bank")
    config.require_shares(2)
    with pytest.raises(ConfigError, match="reset=bank: must be full: 3 devices cannot share"):
        config.require_shares(3)


SMALL = {"num_envs": 8, "hidden_sizes": (8,)}
ROLLOUT = ppo.Config(
    **SMALL,
    num_steps=5,
    num_minibatches=1,
    update_epochs=3,
    normalize_obs=True,
    normalize_reward=True,
    learning_rate=1e-2,
    total_steps=1000,
)


def test_an_update_of_ppo_on_four_shares_is_that_on_the_whole():
    env = envs.make("gymnax/CartPole-v1")
    networks = ppo.make_networks(env, ROLLOUT)
    key = jax.random.split(jax.random.key(0), 6)
    learner = ppo.init_learner(key[0], env=env, networks=networks, config=ROLLOUT)
    learner = learner._replace(discounted_return=jnp.arange(8.0), iteration=jnp.int32(3))
    obs = jax.random.normal(key[1], (6, 8, 4))
    batch = ppo.Transition(
        obs=obs[:-1],
        action=jax.random.randint(key[2], (5, 8), 0, 2, jnp.int32),
        reward=jax.random.normal(key[3], (5, 8)),
        terminated=jax.random.bernoulli(key[4], 0.2, (5, 8)),
        truncated=jnp.zeros((5, 8), bool),
        next_obs=obs[1:],
        log_prob=jnp.full((5, 8), -0.7),
    )
    update = partial(ppo.update, networks=networks, config=ROLLOUT)
    expected, metrics = jax.jit(update)(learner, batch, key[5])

    def share(learner, discounted_return, batch, key):
        return update(learner._replace(discounted_return=discounted_return), batch, key)

    given = shares(batch._replace(memory=()), 1)
    own = shares(learner.discounted_return, 0)
    run = jax.jit(on_devices(share, in_axes=(None, 0, 0, 0)))
    keys = jax.random.split(jax.random.key(1), D)
    found, found_metrics = run(learner, own, given, keys)
    returns = whole(found.discounted_return, 0)
    for device in range(D):
        each = jax.tree.map(lambda x, d=device: x[d], found)
        close(each._replace(discounted_return=returns), expected)
    moved = jax.tree.leaves(jax.tree.map(lambda x, y: abs(x - y).max(), expected, learner)[0])
    assert max(moved) > 5e-3  # by much more than rounding
    for name in ("losses/policy_loss", "losses/approx_kl", "losses/grad_norm"):
        close(found_metrics[name][2], metrics[name])


def test_trajectories_of_other_devices_are_among_the_others():
    reward = jnp.array([1.0, 2.0, 3.0, 6.0]).reshape(D, 1, 1)
    mask = jnp.array([True, True, True, False]).reshape(D, 1, 1)
    weights = partial(trajectories.score_weights, gamma=1.0)
    found = jax.jit(on_devices(weights))(reward, mask)
    # Less the mean of the other two that count: 1 − 2.5, 2 − 2, 3 − 1.5, and 0 for the last.
    assert found.ravel().tolist() == [-1.5, 0.0, 1.5, 0.0]


TRAJECTORIES = {"num_envs": 8, "horizon": 6, "hidden_sizes": (8,)}


def trajectories_of(key):
    """A batch of eight, some of which end early, with actions of any policy."""
    key = jax.random.split(key, 4)
    obs = jax.random.normal(key[0], (7, 8, 4))
    return ppo.Transition(
        obs=obs[:-1],
        action=jax.random.randint(key[1], (6, 8), 0, 2, jnp.int32),
        reward=jax.random.normal(key[2], (6, 8)),
        terminated=jax.random.bernoulli(key[3], 0.2, (6, 8)),
        truncated=jnp.zeros((6, 8), bool),
        next_obs=obs[1:],
        log_prob=jnp.full((6, 8), -0.7),
        memory=(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("module", [npg_igt, harpg])
def test_an_update_on_trajectories_of_four_devices_is_that_on_all(module):
    env = envs.make("gymnax/CartPole-v1")
    config = module.Config(**TRAJECTORIES)
    networks = module.make_networks(env, config)
    key = jax.random.split(jax.random.key(0), 3)
    learner = module.init_learner(key[0], env=env, networks=networks, config=config)
    before = jax.tree.map(lambda x: x - 0.1, learner.params)
    learner = learner._replace(previous=before, iteration=jnp.int32(2))
    num_batches = 2 if module is harpg else 1
    batches = [trajectories_of(k) for k in key[1 : 1 + num_batches]]
    share = (jnp.float32(0.3),) if module is harpg else ()

    def update(*batches):
        return module.update(learner, *batches, *share, networks=networks, config=config)

    expected, metrics = jax.jit(update)(*batches)
    found, found_metrics = jax.jit(on_devices(update))(*(shares(each, 1) for each in batches))
    for device in range(D):
        close(jax.tree.map(lambda x, d=device: x[d], found), expected)
    for name, value in metrics.items():
        close(found_metrics[name], jnp.full(D, value))
    assert metrics["losses/grad_norm"] > 0.1


@pytest.mark.slow
def test_a_pathwise_update_on_four_shares_is_that_on_all():
    env = envs.make("gymnax/Pendulum-v1")  # which draws nothing but where an episode starts
    algorithm = pathwise.make(env, pathwise.Config(**TRAJECTORIES))
    state = jax.jit(algorithm.init)(jax.random.key(0))
    key = jax.random.clone(state.key)
    expected, metrics = jax.jit(algorithm.step)(state._replace(key=key))
    specs = state_specs(algorithm, D)
    axes = jax.tree.map(lambda spec: None if spec == ALIKE else 0, specs)
    given = jax.tree.map(lambda x, spec: x if spec == ALIKE else shares(x, 0), state, specs)
    found, found_metrics = jax.jit(on_devices(algorithm.step, in_axes=(axes,)))(given)
    for device in range(D):
        close(jax.tree.map(lambda x, d=device: x[d], found.learner), expected.learner)
    close(whole(found.collection.obs, 0), expected.collection.obs)
    close(found_metrics["losses/grad_norm"], jnp.full(D, metrics["losses/grad_norm"]))


@pytest.mark.slow
def test_an_update_of_hnpg_on_four_shares_is_that_on_the_whole():
    env = envs.make("gymnax/Pendulum-v1")
    config = hnpg.Config(
        **SMALL, num_steps=5, num_minibatches=1, offline_batch=8, action_samples=2, update_epochs=2
    )
    networks = hnpg.make_networks(env, config)
    # Nothing is drawn: actions are the mode, and there is one offline row.
    head = networks.head
    networks = networks._replace(head=head._replace(sample=lambda key, d: head.mode(d)))
    key = jax.random.split(jax.random.key(0), 4)
    learner = hnpg.init_learner(key[0], env=env, networks=networks, config=config)
    obs = jax.random.normal(key[1], (6, 8, 3))
    action = jax.random.uniform(key[2], (5, 8, 1), minval=-1.0)
    policy = networks.policy.apply(learner.params["policy"], obs[:-1])
    batch = hnpg.Transition(
        obs=obs[:-1],
        action=action,
        reward=jax.random.normal(key[3], (5, 8)),
        terminated=jnp.zeros((5, 8), bool),
        truncated=jnp.zeros((5, 8), bool),
        next_obs=obs[1:],
        log_prob=head.log_prob(action, policy),
        memory=(),
    )
    row = jax.tree.map(lambda x: x[:1, 0], batch)
    update = partial(hnpg.update, networks=networks, config=config, rows=row)
    expected, metrics = jax.jit(update)(learner, batch, jax.random.key(1))

    def share(discounted_return, batch, key):
        return update(learner._replace(discounted_return=discounted_return), batch, key)

    keys = jax.random.split(jax.random.key(2), D)
    own = shares(learner.discounted_return, 0)
    found, _ = jax.jit(on_devices(share))(own, shares(batch, 1), keys)
    for device in range(D):
        each = jax.tree.map(lambda x, d=device: x[d], found)
        close(each.params, expected.params)
    assert metrics["losses/steps_taken"] == 1


OFF_POLICY = td3.Config(
    num_envs=4,
    batch_size=8,
    learning_starts=8,
    buffer_size=80,
    actor_hidden_sizes=(8,),
    critic_hidden_sizes=(8,),
    policy_noise=0.0,
    normalize_obs=True,
    learning_rate=1e-2,
)


@pytest.mark.slow
def test_an_update_of_td3_on_four_shares_is_that_on_the_whole():
    env = envs.make("gymnax/Pendulum-v1")
    networks = td3.make_networks(env, OFF_POLICY)
    key = jax.random.split(jax.random.key(0), 5)
    learner = td3.init_learner(key[0], env=env, networks=networks, config=OFF_POLICY)
    batch = td3.Batch(
        obs=jax.random.normal(key[1], (4, 8, 3)),
        action=jax.random.uniform(key[2], (4, 8, 1), minval=-1.0),
        reward=jax.random.normal(key[3], (4, 8)),
        discount=jnp.full((4, 8), 0.9),
        next_obs=jax.random.normal(key[4], (4, 8, 3)),
    )
    update = partial(td3.update, networks=networks, config=OFF_POLICY)
    expected, metrics = jax.jit(update)(learner, batch, jax.random.key(1))
    run = jax.jit(on_devices(update, in_axes=(None, 0, 0)))
    found, found_metrics = run(learner, shares(batch, 1), jax.random.split(jax.random.key(2), D))
    for device in range(D):
        close(jax.tree.map(lambda x, d=device: x[d], found), expected)
    close(whole(found_metrics["td_error"], 1), metrics["td_error"])


@pytest.mark.slow
@pytest.mark.parametrize("module", [td3_bc, rebrac])
def test_the_weight_of_q_beside_the_data_is_that_of_the_whole_batch(module):
    env = envs.make("gymnax/Pendulum-v1")
    sizes = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,), "batch_size": 8}
    config = module.Config(**sizes, policy_noise=0.0, learning_rate=1e-2)
    networks = module.make_networks(env, config)
    key = jax.random.split(jax.random.key(0), 5)
    learner = module.init_learner(key[0], env=env, networks=networks, config=config)
    batch = module.Batch(
        # Far from alike: a device's own mean of |Q| is another than the whole's.
        obs=jax.random.normal(key[1], (4, 8, 3)) * jnp.arange(8.0)[None, :, None],
        action=jax.random.uniform(key[2], (4, 8, 1), minval=-1.0),
        reward=jax.random.normal(key[3], (4, 8)),
        discount=jnp.full((4, 8), 0.9),
        next_obs=jax.random.normal(key[4], (4, 8, 3)),
        next_action=jnp.zeros((4, 8, 1)),
    )
    update = partial(module.update, networks=networks, config=config)
    expected, metrics = jax.jit(update)(learner, batch, jax.random.key(1))
    run = jax.jit(on_devices(update, in_axes=(None, 0, 0)))
    found, found_metrics = run(learner, shares(batch, 1), jax.random.split(jax.random.key(2), D))
    for device in range(D):
        close(jax.tree.map(lambda x, d=device: x[d], found), expected)
    close(jnp.mean(found_metrics["losses/actor_loss"]), metrics["losses/actor_loss"])


class Line:
    """Counts its steps; where `bad` is set it is not a number from the tenth step on."""

    observation_space = envs.Box(-1e6, 1e6, (2,))
    action_space = envs.Discrete(2)

    def reset(self, key):
        mark = jax.random.uniform(key)
        return (mark, jnp.int32(0), jnp.bool_(False)), jnp.stack([mark, 0.0])

    def step(self, key, state, action):
        mark, time, bad = state
        time = time + 1
        obs = jnp.stack([mark, jnp.where(bad & (time > 9), jnp.nan, time / 100.0)])
        return (mark, time, bad), Step(obs, jnp.float32(1.0), jnp.bool_(False), time >= 40, {})


@pytest.mark.slow
@pytest.mark.parametrize("module", [sac, staq])
def test_a_number_that_is_none_on_one_device_stops_all(module):
    config = {"num_envs": 16, "batch_size": 16, "buffer_size": 1600, "learning_starts": 64}
    if module is sac:
        config |= {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,)}
    else:
        config |= {"num_steps": 1, "hidden_sizes": (8,), "memory": 4}
    algorithm = module.make(Line(), module.Config(**config))
    each = of_each_device(algorithm, state_specs(algorithm, D))
    state = jax.jit(on_devices(each.init, in_axes=None))(jax.random.key(0))
    env_state = state.collection.env_state
    mark, time, bad = env_state.env_state
    env_state = env_state._replace(env_state=(mark, time, bad.at[2, 1].set(True)))
    state = state._replace(collection=state.collection._replace(env_state=env_state))
    step = jax.jit(on_devices(each.step))
    for _ in range(8):
        before = state
        state, metrics = step(state)
        if metrics["charts/fault"][0]:
            break
    # Four steps of the prefill and five others are good; environment 1 of device 2 is 4·2 + 1.
    assert state.learner.fault.tolist() == [[1, 5, 0, 9]] * D
    assert metrics["charts/fault"].tolist() == [1.0] * D
    jax.tree.map(np.testing.assert_array_equal, state.learner.params, before.learner.params)
    assert jnp.isfinite(state.replay.rows.next_obs).all()


@pytest.mark.slow
def test_deterministic_environments_go_the_same_ways_on_four_shares():
    env = envs.make("gymnax/Pendulum-v1")
    config = OFF_POLICY.replace(num_envs=8)
    collector = collect.make_collector(env, collect.no_memory, lambda action: action)
    carry = jax.jit(collector.reset)(jax.random.key(0), config)

    def run(carry, key):
        def explore(memory, obs, key):
            return jnp.sin(3.0 * obs[:, :1]), (), memory

        carry, _, steps, _ = collector.collect(explore, config, carry, key, 20)
        return carry.obs, steps.obs, steps.reward

    expected = jax.jit(run)(carry, jax.random.key(1))
    keys = jax.random.split(jax.random.key(2), D)
    given = carry._replace(env_state=carry.env_state._replace(bank_cursor=()))
    given = shares(given, 0)
    cursor = jnp.zeros(D, jnp.int32)
    given = given._replace(env_state=given.env_state._replace(bank_cursor=cursor))
    obs, *steps = jax.jit(on_devices(run))(given, keys)
    close((whole(obs, 0), *whole(steps, 1)), expected)


def test_what_has_an_axis_of_environments_is_found():
    algorithm = ppo.make(envs.make("gymnax/CartPole-v1"), ROLLOUT.replace(reset="bank"))
    specs = state_specs(algorithm, 2)
    assert {str(spec) for spec in jax.tree.leaves(specs.learner.params)} == {str(ALIKE)}
    assert specs.key == specs.config.gamma == specs.learner.obs_statistics.mean == ALIKE
    envs_first = jax.sharding.PartitionSpec(AXIS)
    assert specs.learner.discounted_return == specs.collection.obs == envs_first
    assert jax.tree.leaves(specs.collection.env_state.bank)[0] == envs_first
    algorithm = td3.make(envs.make("gymnax/Pendulum-v1"), OFF_POLICY)
    specs = state_specs(algorithm, 2)
    assert specs.replay.rows.obs == jax.sharding.PartitionSpec(None, AXIS)
    assert specs.replay.cursor == specs.learner.fault == ALIKE


def test_one_device_is_always_enough_and_for_a_stream_there_is_no_more():
    avg.Config().require_shares(1)
    with pytest.raises(ConfigError, match="num_devices=2: must be 1: no run of this algorithm"):
        avg.Config().require_shares(2)


def test_a_mesh_of_one_device_leaves_nothing_in_the_program():
    algorithm = ppo.make(envs.make("probe/observation"), ppo.Config(**SMALL, num_steps=4))
    evaluate = algos.evaluator(algorithm, num_episodes=3)
    given = {"num_iterations": 2, "evaluate": evaluate}

    def text(**options):
        run = jax.jit(lambda key: algos.train(algorithm, key, **given, **options))
        return run.lower(jax.random.key(0)).as_text()

    mesh = algos.make_mesh(1)
    plain = text()
    assert text(mesh=mesh) == plain
    assert not {"all_reduce", "all_gather"} & set(plain.replace('"', ".").split("."))
    assert algos.distribute(algorithm, mesh) is algorithm


class Counter(NamedTuple):
    key: Any
    seen: Any


def test_metrics_are_those_of_all_episodes_and_steps_have_keys_of_their_own():
    episodes = jnp.array([1.0, 0.0, 3.0, 0.0])
    returns = jnp.array([10.0, jnp.nan, 2.0, jnp.nan])

    def step(state):
        device = jax.lax.axis_index(AXIS)
        metrics = {"charts/episodes": episodes[device], "charts/episodic_return": returns[device]}
        metrics |= {"losses/loss": device.astype(jnp.float32)}
        return state._replace(seen=jax.random.key_data(state.key)), metrics

    algorithm = algos.Algorithm(None, step, None, None, None, None, 1)
    each = of_each_device(algorithm, None)
    key = jax.random.key(0)
    run = on_devices(lambda: each.step(Counter(key, ())))
    state, metrics = run()
    # (1·10 + 3·2)/4 = 4; the loss is (0 + 1 + 2 + 3)/4.
    assert metrics["charts/episodes"].tolist() == [4.0] * D
    assert metrics["charts/episodic_return"].tolist() == [4.0] * D
    assert metrics["losses/loss"].tolist() == [1.5] * D
    assert len({tuple(x) for x in state.seen.tolist()}) == D
    assert len({tuple(x) for x in jax.random.key_data(state.key).tolist()}) == 1


def test_more_devices_than_there_are_are_refused():
    needed = jax.device_count() + 1
    with pytest.raises(ConfigError, match=f"num_devices={needed}: must be at most .* JAX_NUM_CPU"):
        algos.make_mesh(needed)
    with pytest.raises(ConfigError, match="population=0: must be at least 1"):
        algos.make_mesh(1, population=0)


def test_what_is_no_mesh_for_an_algorithm_is_refused():
    algorithm = ppo.make(envs.make("probe/observation"), ppo.Config(**SMALL, num_steps=4))
    auto, explicit = jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit
    for name, kind in {"devices": auto, AXIS: explicit}.items():
        mesh = jax.make_mesh((1,), (name,), axis_types=(kind,))
        with pytest.raises(ConfigError, match=f"mesh=a mesh with {name} .*: must have Auto axes"):
            algos.distribute(algorithm, mesh)
    with pytest.raises(ConfigError, match="algorithm=a distributed one: must be as make"):
        state_specs(algorithm._replace(shardings=()), 2)

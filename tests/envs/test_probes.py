"""Probes: their answers by hand, and that the mistakes they are made for give other answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import probes

GAMMA = 0.9
NO_TABLES = ("recall", "mask", "gamble", "lock")
TABLES = {name: probes.make(name).table for name in probes.names() if name not in NO_TABLES}


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [
        ("value", [1], {}),
        ("action", [1], {0: 1}),
        ("delay", [0.9, 0, 1], {0: 1}),
        ("observation", [1, 1], {0: 0, 1: 1}),
        ("truncation", [9, 10], {0: 1}),  # 1/(1 - 0.9) = 10, one step later: 9, better than 6
        ("termination", [3, 10, 0], {0: 1}),
        ("all", [1, 1, 0.9, 0, 1, 1, 1, 9, 10, 3, 10, 0], {1: 1, 2: 1, 5: 0, 6: 1, 7: 1, 9: 1}),
    ],
)
def test_solve_gives_the_values_by_hand(name, values, best):
    solved, best_action = probes.make(name).solve(GAMMA)
    np.testing.assert_allclose(solved, values, atol=1e-9)
    assert {state: best_action[state] for state in best} == best


def test_every_probe_is_solved_here():
    assert probes.names() == [
        "value",
        "action",
        "delay",
        "observation",
        "truncation",
        "termination",
        "all",
        "recall",
        "mask",
        "gamble",
        "lock",
    ]


def test_all_says_where_each_probe_begins():
    first_state = probes.make("all").first_state
    assert first_state == {
        "value": 0,
        "action": 1,
        "delay": 2,
        "observation": 5,
        "truncation": 7,
        "termination": 9,
    }


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    "name", [name for name in probes.names() if name not in ("mask", "gamble", "lock")]
)
def test_probes_keep_the_contract(name, continuous):
    env = envs.make(f"probe/{name}", continuous=continuous)
    envs.check(env)
    assert isinstance(env.action_space, envs.Box if continuous else envs.Discrete)


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize(
    "name",
    [name if name == "all" else pytest.param(name, marks=pytest.mark.slow) for name in TABLES],
)
def test_steps_are_those_of_the_table(name, continuous):
    env = probes.make(name, continuous=continuous)
    table = TABLES[name]
    num_states, num_actions = np.shape(table.reward)
    states, actions = (
        each.ravel() for each in np.indices((num_states, num_actions), dtype=np.int32)
    )
    before = probes.ProbeState(
        jnp.asarray(states), jnp.full(states.shape, table.time_limit - 2, jnp.int32)
    )
    if continuous:
        # The sign chooses, not the size.
        actions = (0.2 * actions[:, None] - 0.1).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), states.size)
    after, step = jax.vmap(env.step)(keys, before, actions)
    np.testing.assert_array_equal(after.state, np.ravel(table.next_state))
    np.testing.assert_array_equal(step.obs, np.eye(num_states)[np.ravel(table.next_state)])
    np.testing.assert_array_equal(step.reward, np.ravel(table.reward))
    np.testing.assert_array_equal(step.terminated, np.ravel(table.terminated))
    assert not step.truncated.any()
    _, last = jax.vmap(env.step)(keys, before._replace(time=after.time), actions)
    assert last.truncated.all()


@pytest.mark.parametrize("name", TABLES)
def test_episodes_start_with_the_probabilities_of_the_table(name):
    env = probes.make(name)
    state, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(obs.mean(0), TABLES[name].start, atol=0.05)
    np.testing.assert_array_equal(obs.argmax(1), state.state)


def best_action_in_state_0(name, gamma, bootstrap):
    """Q-learning's fixed point where `bootstrap(table, values)` `[S, A]` is what follows the
    reward.
    """
    table = TABLES[name]
    values = np.zeros(len(table.start))
    for _ in range(2000):
        q = np.array(table.reward) + gamma * bootstrap(table, values)
        values = q.max(axis=1)
    return q[0].argmax()


def right(table, values):
    return (1 - np.array(table.terminated)) * values[np.array(table.next_state)]


def truncation_is_termination(table, values):
    return (table.time_limit > 1) * right(table, values)


def reset_observation_follows_truncation(table, values):
    assert table.time_limit == 1
    return (1 - np.array(table.terminated)) * np.dot(table.start, values)


def nothing_ends(table, values):
    return values[np.array(table.next_state)]


@pytest.mark.parametrize(
    ("name", "mistake", "gammas"),
    [
        # The ranges are those that the module's docstring promises.
        ("truncation", truncation_is_termination, (0.86, 0.9, 0.92)),
        ("truncation", reset_observation_follows_truncation, (0.86, 0.9, 0.92)),
        ("termination", nothing_ends, (0.5, 0.9, 0.99)),
    ],
)
def test_the_mistake_takes_the_wrong_action(name, mistake, gammas):
    for gamma in gammas:
        assert (
            best_action_in_state_0(name, gamma, right) == probes.make(name).solve(gamma)[1][0] == 1
        )
        assert best_action_in_state_0(name, gamma, mistake) == 0


def test_every_step_of_the_two_bootstrap_probes_ends_an_episode():
    for name in ("truncation", "termination"):
        env = envs.VectorEnv(probes.make(name), num_envs=64)
        state, _ = env.reset(jax.random.key(0))
        _, step = env.step(jax.random.key(1), state, jnp.arange(64, dtype=jnp.int32) % 2)
        assert (step.truncated if name == "truncation" else step.terminated).all()
        assert step.truncated.any() == (name == "truncation")


def test_tables_of_ones_own():
    table = probes.Table(
        reward=((0, 1, 2),), next_state=((0, 0, 0),), terminated=((True, True, True),), start=(1,)
    )
    env = probes.Probe(table)
    envs.check(env)
    assert env.action_space == envs.Discrete(3)
    np.testing.assert_array_equal(env.solve(GAMMA)[0], [2.0])
    with pytest.raises(ValueError, match="continuous=True needs two actions, the table has 3"):
        probes.Probe(table, continuous=True)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("told", [0, 1])
def test_recall_tells_first_and_pays_later(steps, told):
    env = envs.make("probe/recall", steps=steps)
    step = jax.jit(env.step)
    key = next(
        key
        for key in map(jax.random.key, range(20))
        if env.reset(jax.random.clone(key))[0].told == told
    )
    state, obs = env.reset(key)
    np.testing.assert_array_equal(obs, [2.0 * told - 1.0, 0.0])
    for t in range(steps):
        state, result = step(jax.random.key(0), state, jnp.int32(told))
        np.testing.assert_array_equal(result.obs, [0.0, float(t == steps - 1)])
        assert result.reward == 0.0 and not result.terminated
    for action in (0, 1):
        _, result = step(jax.random.key(0), state, jnp.int32(action))
        assert result.terminated and not result.truncated
        assert result.reward == float(action == told)


def test_recall_refuses_what_is_no_number_of_steps():
    with pytest.raises(ValueError, match="steps=0: must be at least 1"):
        envs.make("probe/recall", steps=0)
    with pytest.raises(ValueError, match="probe/value has no option 'steps'"):
        envs.make("probe/value", steps=2)


def test_the_largest_action_that_is_allowed_pays_and_what_is_not_is_an_error():
    env = envs.make("probe/mask")
    envs.check(env)
    state, obs = env.reset(jax.random.key(0))
    mask = jnp.array([True, False, True, False, False])
    actions = jnp.arange(5, dtype=jnp.int32)
    step = jax.vmap(lambda action: env.step(jax.random.key(0), state._replace(mask=mask), action))
    np.testing.assert_array_equal(step(actions)[1].reward, [0.0, -10000.0, 1.0, -10000.0, -10000.0])
    masks = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 200))[1]["action_mask"]
    assert masks.any(axis=1).all() and not masks.all(axis=1).all()
    with pytest.raises(ValueError, match="probe/mask has no option 'continuous'; it has none"):
        envs.make("probe/mask", continuous=True)

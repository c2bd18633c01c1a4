"""What off-policy collection keeps out: numbers that are not finite, and parameters that diverge,
are named where they are met and never reach the replay, the statistics or the learner.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import td3
from onejit.algos.core import guard, normalize
from onejit.algos.off_policy import collection
from onejit.envs.base import Step


class Poisoned:
    """Counts its steps; some lanes turn bad for ever after a while.

    How is in its state, where `poisoned` puts it: no program need be compiled for each way.
    """

    observation_space = envs.Box(-1e38, 1e38, (2,))
    action_space = envs.Box(-1.0, 1.0, (1,))

    def __init__(self, first=0.0):
        self.first = first

    def reset(self, key):
        mark = jax.random.uniform(key)
        zero = jnp.float32(0.0)
        poison = {"observation": zero, "reward": zero, "reset": jnp.bool_(False)}
        return (mark, jnp.int32(0), poison), jnp.stack([mark, jnp.float32(self.first)])

    def step(self, key, state, action):
        mark, time, poison = state
        bad = (mark > 0.5) & (time >= 7)
        reward = jnp.where(bad, 1.0 + poison["reward"], 1.0)
        obs = jnp.stack([mark, time / 100.0]) + jnp.where(bad, poison["observation"], 0.0)
        return (mark, time + 1, poison), Step(
            obs, reward, bad & poison["reset"], jnp.bool_(False), {}
        )


POISONED = td3.Config(
    gamma=0.9,
    learning_rate=1e-3,
    tau=0.05,
    normalize_obs=True,
    num_envs=8,
    num_updates=2,
    policy_delay=2,
    batch_size=128,
    learning_starts=8 * 5,
    buffer_size=8 * 64,
    total_steps=100_000,
    actor_hidden_sizes=(16,),
    critic_hidden_sizes=(32, 32),
)


@pytest.fixture(scope="module")
def programs():
    return jax.jit(td3.make(Poisoned(), POISONED).init), jax.jit(
        td3.make(Poisoned(jnp.nan), POISONED).step
    )


def poisoned(state, quantity, value):
    """The state with the lanes above ½ turning bad at their eighth step, and these lanes."""
    mark, time, poison = state.collection.env_state.env_state
    poison = poison | {quantity: jnp.full_like(poison[quantity], value)}
    env_state = state.collection.env_state._replace(env_state=(mark, time, poison))
    bad = np.asarray(mark) > 0.5
    assert 0 < bad.sum() < 8
    return state._replace(collection=state.collection._replace(env_state=env_state)), bad


@pytest.mark.parametrize(
    "quantity, value, named",
    [
        ("observation", 1e20, "statistics of the observations"),  # finite, but its square is not
        ("reset", True, "reset observation"),
    ],
)
def test_a_fault_belongs_to_the_iteration_that_it_happens_in(programs, quantity, value, named):
    init, step = programs
    state, bad = poisoned(init(jax.random.key(0)), quantity, value)  # steps 0 to 4
    for _ in range(2):
        state, metrics = step(state)
    good = state.learner
    assert guard.describe(good.fault) is None
    assert metrics["charts/fault"] == 0
    # Step 7 gives the observation, which is acted on, and goes into the statistics, in step 8.
    while quantity == "observation" and int(state.learner.iteration) < 3:
        state, _ = step(state)
        assert guard.describe(state.learner.fault) is None
        good = state.learner
    iteration = int(state.learner.iteration)
    state, metrics = step(state)
    place = "" if "statistics" in named else f", step 0 of the rollout, environment {bad.argmax()}"
    assert (
        guard.describe(state.learner.fault) == f"non-finite {named} in iteration {iteration}{place}"
    )
    assert guard.describe(metrics["charts/fault"]) == f"non-finite {named}"
    for name in ("params", "targets", "opt_state", "obs_statistics"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(state.learner, name), getattr(good, name)
        )


def test_a_nan_in_the_first_observations_is_a_fault_of_init():
    state = jax.jit(td3.make(Poisoned(jnp.nan), POISONED).init)(jax.random.key(0))
    assert (
        guard.describe(state.learner.fault)
        == "non-finite reset observation in iteration 0, environment 0"
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.obs_statistics))


def test_diverged_parameters_are_a_fault():
    config = POISONED.replace(learning_rate=1e10, policy_delay=1)
    networks = td3.make_networks(Poisoned(), config)
    init = partial(td3.init_learner, env=Poisoned(), networks=networks, config=config)
    learner = jax.jit(init)(jax.random.key(0))
    obs, ones = jnp.ones((1, 8, 2)), jnp.ones((1, 8))
    batch = td3.Batch(obs, ones[..., None], ones, ones, obs)
    update = jax.jit(partial(td3.update, networks=networks, config=config))
    after, _ = update(learner, batch, jax.random.key(1))
    assert guard.describe(after.fault) == "diverged: a parameter beyond 1e6 in iteration 0"
    jax.tree.map(np.testing.assert_array_equal, after.params, learner.params)


def test_statistics_of_the_prefill_are_those_of_all_its_observations(programs):
    """The replay holds them, each once, in its first rows."""
    state = programs[0](jax.random.key(1))
    obs = np.asarray(state.replay.rows.obs[:5], np.float64)
    statistics = state.learner.obs_statistics
    assert statistics.count == obs[..., 0].size
    np.testing.assert_allclose(statistics.mean, obs.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(statistics.var, obs.var((0, 1)), rtol=1e-5)


def test_the_prefill_keeps_no_rows_beside_the_replay():
    class Wide(Poisoned):
        observation_space = envs.Box(-1.0, 1.0, (1000,))

        def reset(self, key):
            return jnp.int32(0), jax.random.uniform(key, (1000,))

        def step(self, key, state, action):
            return state + 1, Step(
                jax.random.uniform(key, (1000,)), jnp.float32(1), state < 0, state < 0, {}
            )

    def temporaries(rows):
        config = POISONED.replace(learning_starts=8 * rows)
        start = collection.make_replay_collector(Wide(), config).start
        statistics = normalize.of_space(Wide.observation_space)
        compiled = (
            jax.jit(lambda key: start(key, config, statistics)).lower(jax.random.key(0)).compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    # 200 rows of 8 environments' observations and successors are 12.8 MB.
    assert temporaries(300) - temporaries(100) < 0.1e6


@pytest.mark.parametrize("quantity, value", [("observation", jnp.nan), ("reward", jnp.inf)])
def test_a_bad_transition_is_never_written_and_spoils_nothing(programs, quantity, value):
    init, step = programs
    state, bad = poisoned(init(jax.random.key(0)), quantity, value)  # steps 0 to 4
    for _ in range(2):
        state, _ = step(state)
    good = state.learner
    assert guard.describe(good.fault) is None
    for _ in range(3):
        state, _ = step(state)
    # Two good steps after the prefill: the third iteration is number 2, and has one step.
    expected = (
        f"non-finite {quantity} in iteration 2, step 0 of the rollout, environment {bad.argmax()}"
    )
    assert guard.describe(state.learner.fault) == expected
    for name in ("params", "targets", "opt_state", "obs_statistics"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(state.learner, name), getattr(good, name)
        )
    rows = jax.tree.map(lambda x: x[: int(state.replay.size)], state.replay.rows)
    assert state.replay.size == 10
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows))
    # The last good transition stands again, flagged, in the bad lanes; the others go on.
    np.testing.assert_allclose(rows.obs[7:, bad], np.repeat(rows.obs[6:7, bad], 3, axis=0))
    assert rows.truncated[6:, bad].all()
    assert not rows.truncated[:, ~bad].any()
    assert not rows.truncated[:6].any()
    np.testing.assert_allclose(
        rows.obs[7:, ~bad, 1], np.array([[0.06], [0.07], [0.08]]) * np.ones((1, (~bad).sum()))
    )

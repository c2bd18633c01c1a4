"""The non-finite guard: nothing is spoilt, and the place is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos, envs
from onejit.algos import ppo
from onejit.algos.core import guard
from onejit.envs.base import Step

CONFIG = ppo.Config(
    num_envs=4,
    num_steps=8,
    num_minibatches=2,
    hidden_sizes=(8,),
    normalize_obs=True,
    normalize_reward=True,
)


class Poisoned:
    """Counts its steps; after 11 of them the lane that started with the largest number turns bad
    for ever.

    How is in its state, where `poisoned` puts it: no program need be compiled for each way.
    """

    observation_space = envs.Box(-1e38, 1e38, (2,))
    action_space = envs.Discrete(2)

    def reset(self, key):
        mark = jax.random.uniform(key)
        poison = {
            "observation": jnp.float32(0.0),
            "reward": jnp.float32(0.0),
            "threshold": jnp.float32(2.0),
        }
        return (mark, jnp.int32(0), poison), jnp.stack([mark, 0.0])

    def step(self, key, state, action):
        mark, time, poison = state
        bad = (mark > poison["threshold"]) & (time >= 11)
        reward = jnp.where(bad, 1.0 + poison["reward"], 1.0)
        obs = jnp.stack([mark, time / 100.0]) + jnp.where(bad, poison["observation"], 0.0)
        return (mark, time + 1, poison), Step(obs, reward, jnp.bool_(False), jnp.bool_(False), {})


@pytest.fixture(scope="module")
def programs():
    algorithm = ppo.make(Poisoned(), CONFIG)
    return jax.jit(algorithm.init), jax.jit(algorithm.step)


def poisoned(state, quantity, value):
    """The state with the lane of the largest mark turning bad at its twelfth step; and that
    lane.
    """
    mark, time, poison = state.collection.env_state.env_state
    threshold = jnp.full_like(mark, np.sort(mark)[-2])
    poison = poison | {quantity: jnp.full_like(mark, value), "threshold": threshold}
    env_state = state.collection.env_state._replace(env_state=(mark, time, poison))
    collection = state.collection._replace(env_state=env_state)
    return state._replace(collection=collection), int(np.argmax(mark))


@pytest.mark.parametrize(
    "quantity, value, named",
    [
        ("observation", jnp.nan, "observation"),
        ("observation", -jnp.inf, "observation"),
        ("reward", jnp.inf, "reward"),
        ("observation", 1e20, "statistics of the observations"),  # finite, but its square is not
        ("reward", 1e20, "statistics of the returns"),
    ],
)
def test_a_bad_lane_spoils_nothing_and_is_named(programs, quantity, value, named):
    init, step = programs
    state, lane = poisoned(init(jax.random.key(0)), quantity, value)
    state, metrics = step(state)
    assert guard.describe(state.learner.fault) is None
    assert metrics["charts/fault"] == 0
    good = state.learner
    for _ in range(3):
        state, metrics = step(state)
    # Eleven good steps: the twelfth is step 3 of the second rollout of 8.
    place = "" if "statistics" in named else f", step 3 of the rollout, environment {lane}"
    assert guard.describe(state.learner.fault) == f"non-finite {named} in iteration 1{place}"
    assert algos.describe_fault(metrics["charts/fault"]) == f"non-finite {named}"
    for name in ("params", "opt_state", "obs_statistics", "return_statistics", "discounted_return"):
        jax.tree.map(
            np.testing.assert_array_equal, getattr(state.learner, name), getattr(good, name)
        )


def test_all_seeds_of_a_training_say_in_their_history_when_it_froze():
    algorithm = ppo.make(Short(jnp.inf), CONFIG.replace(num_envs=2, num_steps=4))
    keys = jax.random.split(jax.random.key(0), 2)
    history = jax.jit(jax.vmap(lambda key: algos.train(algorithm, key, num_iterations=3)[1]))(keys)
    np.testing.assert_array_equal(
        history["charts/fault"], np.full((2, 3), guard.QUANTITIES.index("reset observation"))
    )
    assert (
        algos.describe_fault(history["charts/fault"])
        == "non-finite reset observation, first at [0, 0]"
    )


class Short:
    """Episodes of four steps, each starting with an observation of its own."""

    observation_space = envs.Box(-1.0, 1.0, (2,))
    action_space = envs.Discrete(2)

    def __init__(self, first):
        self.first = first

    def reset(self, key):
        return jnp.int32(0), jnp.stack([jnp.float32(self.first), 0.0])

    def step(self, key, state, action):
        done = state == 3
        return state + 1, Step(jnp.zeros(2), jnp.float32(1.0), done, jnp.bool_(False), {})


def test_a_nan_in_a_reset_observation_is_a_fault_where_it_happens(assert_bitwise_equal):
    """At the start of a run, and at the end of the rollout whose next observation it is."""
    config = CONFIG.replace(num_steps=4, normalize_obs=False, normalize_reward=False)
    good, bad = (ppo.make(Short(first), config) for first in (0.0, jnp.nan))
    start = jax.jit(bad.init)(jax.random.key(0))
    assert (
        guard.describe(start.learner.fault)
        == "non-finite reset observation in iteration 0, environment 0"
    )
    start = jax.jit(good.init)(jax.random.key(0))
    assert guard.describe(start.learner.fault) is None
    state, _ = jax.jit(bad.step)(start)
    expected = "non-finite reset observation in iteration 0, step 3 of the rollout, environment 0"
    assert guard.describe(state.learner.fault) == expected
    assert_bitwise_equal(state.learner.params, start.learner.params)


@pytest.mark.parametrize(
    "learning_rate, named", [(1e10, "diverged: a parameter beyond 1e6"), (1e38, "non-finite loss")]
)
def test_a_diverging_update_is_not_written(programs, learning_rate, named):
    init, step = programs
    start = init(jax.random.key(0))
    start = start._replace(config=start.config.replace(learning_rate=jnp.float32(learning_rate)))
    state, _ = step(start)
    assert guard.describe(state.learner.fault) == f"{named} in iteration 0"
    jax.tree.map(np.testing.assert_array_equal, state.learner.params, start.learner.params)


def test_seeds_are_told_apart():
    faults = jnp.stack([guard.init(), jnp.array([2, 5, 1, 3])])
    assert (
        guard.describe(faults)
        == "non-finite reward in iteration 5 of seed 1, step 1 of the rollout, environment 3"
    )


@pytest.mark.parametrize(
    "codes, words",
    [
        (0.0, None),
        (2.0, "non-finite reward"),
        (jnp.float32(6), "diverged: a parameter beyond 1e6"),
        (np.zeros((3, 4)), None),
        (np.array([0.0, 1.0, 1.0, 1.0]), "non-finite observation, first at [1]"),
        ([[0, 0, 0], [0, 0, 2]], "non-finite reward, first at [1, 2]"),
    ],
)
def test_codes_are_put_into_words(codes, words):
    assert algos.describe_fault(codes) == words


LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize("name", guard.QUANTITIES[7:-2])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_an_update_writes_is_checked_and_named(name, bad):
    tree = {"a": jnp.full(3, 1e6), "b": jnp.arange(4), "c": -jnp.full((2, 2), 1e6)}
    good = dict.fromkeys(guard.QUANTITIES[7:-2], tree)
    assert guard.describe(guard.in_update(good, jnp.int32(7))) is None
    found = guard.in_update(good | {name: {**tree, "c": tree["c"].at[1, 0].set(bad)}}, jnp.int32(7))
    assert guard.describe(found) == f"non-finite {name} in iteration 7"


def test_only_parameters_are_bounded():
    tree = {"a": jnp.full(3, LARGEST), "c": -jnp.full((2, 2), LARGEST)}
    written = dict.fromkeys(guard.QUANTITIES[7:-2], tree)
    assert (
        guard.describe(guard.in_update(written | {"parameter": jnp.float32(1e6)}, jnp.int32(7)))
        is None
    )
    found = guard.in_update(written | {"parameter": jnp.array([0.0, -1.01e6])}, jnp.int32(7))
    assert guard.describe(found) == "diverged: a parameter beyond 1e6 in iteration 7"

"""`train` and `advance` on an algorithm that only counts: rows, averages and iterations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import algos
from onejit.algos.core import guard
from onejit.algos.core.training import advance

# Episodes that end in each iteration, and their mean return.
EPISODES = jnp.array([0.0, 3.0, 1.0, 0.0, 2.0, 0.0, 4.0])
FAULTS = jnp.array([0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0])
RETURNS = jnp.array([jnp.nan, 10.0, 50.0, jnp.nan, 20.0, jnp.nan, 1.0])


def step(state):
    metrics = {
        "charts/episodes": EPISODES[state],
        "charts/episodic_return": RETURNS[state],
        "losses/value_loss": state.astype(jnp.float32),
        "charts/fault": FAULTS[state],
    }
    return state + 1, metrics


COUNTER = algos.Algorithm(
    init=lambda key, config=None: jnp.int32(0),
    step=step,
    act=None,
    memory=None,
    env=None,
    config=None,
    steps_per_iteration=1,
)


def test_one_row_per_iteration_with_nan_where_no_episode_ended():
    state, history = jax.jit(lambda key: algos.train(COUNTER, key, num_iterations=7))(
        jax.random.key(0)
    )
    assert state == 7
    np.testing.assert_array_equal(history["charts/episodic_return"], RETURNS)
    np.testing.assert_array_equal(history["charts/episodes"], EPISODES)
    np.testing.assert_array_equal(history["losses/value_loss"], np.arange(7))


def test_rows_are_weighted_by_episodes_and_the_rest_is_run_too():
    state, history = jax.jit(lambda key: algos.train(COUNTER, key, num_iterations=7, log_every=3))(
        jax.random.key(0)
    )
    assert state == 7
    np.testing.assert_array_equal(history["charts/episodes"], [4, 2])
    # (3·10 + 1·50)/4 = 20; 2·20/2 = 20
    np.testing.assert_allclose(history["charts/episodic_return"], [20.0, 20.0])
    # (0 + 1 + 2)/3 = 1, (3 + 4 + 5)/3 = 4
    np.testing.assert_allclose(history["losses/value_loss"], [1.0, 4.0])


def test_evaluation_joins_the_history_with_the_same_key_each_time():
    def evaluate(state, key):
        return {"eval/state": state, "eval/draw": jax.random.uniform(key)}

    history = jax.jit(
        lambda key: algos.train(COUNTER, key, num_iterations=6, log_every=2, evaluate=evaluate)
    )(jax.random.key(0))[1]
    np.testing.assert_array_equal(history["eval/state"], [2, 4, 6])
    assert len(set(history["eval/draw"].tolist())) == 1


def test_one_program_advances_by_any_number_of_iterations():
    program = jax.jit(lambda state, n: advance(COUNTER, state, n))
    state, metrics = program(jnp.int32(0), jnp.int32(2))
    assert metrics["charts/episodic_return"] == 10.0
    state, metrics = program(state, jnp.int32(1))
    assert metrics["charts/episodic_return"] == 50.0
    state, metrics = program(state, jnp.int32(1))
    assert np.isnan(metrics["charts/episodic_return"])
    assert program._cache_size() == 1


def test_the_fault_of_a_row_is_its_code_and_no_average():
    history = jax.jit(lambda key: algos.train(COUNTER, key, num_iterations=6, log_every=3))(
        jax.random.key(0)
    )[1]
    np.testing.assert_array_equal(history["charts/fault"], [0, 5])
    assert (
        algos.describe_fault(history["charts/fault"])
        == f"non-finite {guard.QUANTITIES[5]}, first at [1]"
    )


@pytest.mark.parametrize("log_every", [0, 5])
def test_a_log_every_that_gives_no_row_is_refused(log_every):
    with pytest.raises(ValueError, match=f"log_every={log_every}"):
        algos.train(COUNTER, jax.random.key(0), num_iterations=4, log_every=log_every)


@pytest.mark.parametrize(
    "key, options, message",
    [
        (0, {}, "key=0: must be one typed key"),
        (jax.random.PRNGKey(0), {}, "must be one typed key"),
        (jax.random.split(jax.random.key(0), 3), {}, "must be one typed key.*vmap over several"),
        (jax.random.key(0), {"num_iterations": 1.5}, "num_iterations=1.5: must be an integer"),
        (jax.random.key(0), {"num_iterations": None}, "num_iterations=None: must be an integer"),
        (jax.random.key(0), {"evaluate": 5}, "evaluate=5: must be a function"),
    ],
)
def test_what_no_run_can_be_made_of_is_refused(key, options, message):
    with pytest.raises(ValueError, match=message):
        algos.train(COUNTER, key, **{"num_iterations": 4, **options})

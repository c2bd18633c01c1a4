"""An average of the parameters as the policy to evaluate: what it is, that training does not see
it, and that it is saved.
"""

import io
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from onejit import algos, envs
from onejit.algos import npg_igt, pathwise, ppo, staq, td3, tokens
from onejit.algos.core import averaging
from onejit.algos.core.config import ConfigError
from onejit.algos.host import checkpoint, runner
from onejit.algos.host.programs import Settings

pytestmark = pytest.mark.slow

CONFIG = ppo.Config(
    num_envs=4,
    num_steps=8,
    num_minibatches=2,
    hidden_sizes=(8,),
    learning_rate=0.01,
    normalize_obs=True,
    total_steps=320,
)
PLAIN = ppo.make(envs.make("probe/observation", continuous=True), CONFIG)
DECAYED, MEAN = (algos.averaged(PLAIN, decay) for decay in (0.5, 1.0))
OBS = jnp.eye(PLAIN.env.observation_space.shape[0])


@pytest.fixture(scope="module")
def steps():
    """The States of four iterations, of the algorithm and of both averages."""
    runs = []
    for algorithm in (PLAIN, DECAYED, MEAN):
        step = jax.jit(algorithm.step)
        states = [jax.jit(algorithm.init)(jax.random.key(0))]
        for _ in range(4):
            states.append(step(states[-1])[0])
        runs.append(states)
    return runs


def test_what_is_learned_is_the_same(steps):
    """To rounding: of a larger program XLA makes other kernels."""
    plain, *others = steps
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    for states in others:
        for name in ("params", "opt_state", "obs_statistics"):
            parts = (getattr(each[-1].learner, name) for each in (states, plain))
            jax.tree.map(close, *parts)


def test_the_average_is_that_of_all_parameters_with_their_weights(steps):
    """1/16, 1/8, 1/4, ½ and 1, over their sum 31/16; or the same for all."""
    plain, decayed, mean = steps
    passed = jax.tree.map(lambda *x: np.stack(x), *(state.learner.params for state in plain))
    for state, weights in ((decayed[-1], 0.5 ** np.arange(4, -1, -1)), (mean[-1], np.ones(5))):
        np.testing.assert_allclose(state.average.weight, weights.sum())
        jax.tree.map(
            lambda x, found, w=weights: np.testing.assert_allclose(
                found, np.average(x, axis=0, weights=w), rtol=1e-5, atol=1e-6
            ),
            passed,
            state.average.params,
        )


def test_it_acts_with_the_average_and_the_statistics_of_the_moment(steps):
    plain, decayed, _ = steps
    state = decayed[-1]
    averages = state.learner._replace(params=state.average.params)
    expected = PLAIN.act(plain[-1]._replace(learner=averages), OBS, jax.random.key(1), True)
    found = DECAYED.act(state, OBS, jax.random.key(1), deterministic=True)
    np.testing.assert_array_equal(found, expected)
    last = PLAIN.act(plain[-1], OBS, jax.random.key(1), True)
    assert np.abs(found - last).max() > 1e-4


def test_a_counter_is_the_last_one():
    average = averaging.start({"x": jnp.float32(1.0), "n": jnp.int32(1)})
    average = averaging.move(average, {"x": jnp.float32(3.0), "n": jnp.int32(2)}, 1.0)
    assert average.params == {"x": 2.0, "n": 2}


def test_without_a_decay_it_is_the_algorithm_itself():
    assert algos.averaged(PLAIN, 0.0) is PLAIN
    assert jax.eval_shape(PLAIN.init, jax.random.key(0)).average == ()


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_out_of_bounds_is_refused(decay):
    with pytest.raises(ConfigError, match="ema_decay=.*: must be between 0 and 1"):
        algos.averaged(PLAIN, decay)


def test_staqs_policy_is_not_made_of_its_parameters():
    algorithm = staq.make(envs.make("probe/delay"))
    with pytest.raises(ConfigError, match="not made of the parameters that are learned"):
        algos.averaged(algorithm, 0.5)


def test_after_a_fault_the_average_stays_too(assert_bitwise_equal, steps):
    state = steps[1][2]
    learner = state.learner._replace(fault=jnp.array([1, 0, 0, 0], jnp.int32))
    after, _ = jax.jit(DECAYED.step)(state._replace(learner=learner, key=jax.random.key(9)))
    assert_bitwise_equal(after.average, state.average)


OTHERS = {
    "td3": lambda: td3.make(envs.make("probe/delay", continuous=True)),
    "tokens": lambda: tokens.make(envs.make("tokens/brackets", depth=2)),
    "npg_igt": lambda: npg_igt.make(envs.make("probe/delay")),
    "pathwise": lambda: pathwise.make(envs.make("inventory/store")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_loops_carry_it(name):
    """By shape: a State with an average has the same form after a step, and is evaluated."""
    algorithm = algos.averaged(OTHERS[name](), 0.9)
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert jax.tree.structure(state.average.params) == jax.tree.structure(state.learner.params)
    after, _ = jax.eval_shape(algorithm.step, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    jax.eval_shape(algos.evaluator(algorithm), state, jax.random.key(1))


def test_a_run_resumes_exactly_and_its_checkpoints_say_what_was_evaluated(
    tmp_path, assert_bitwise_equal
):
    def run(folder, iterations, algorithm=DECAYED, resume=False):
        settings = Settings(folder=folder, title="", num_logs=4, num_evals=2, eval_episodes=2)
        console = Console(file=io.StringIO())
        runner.run(algorithm, settings, total_iterations=iterations, resume=resume, console=console)
        path = checkpoint.checkpoints(folder / "checkpoints")[-1]
        return path, checkpoint.restore(path, jax.eval_shape(algorithm.init, jax.random.key(0)))

    _, whole = run(tmp_path / "whole", 4)
    run(tmp_path / "cut", 2)
    path, resumed = run(tmp_path / "cut", 4, resume=True)
    assert_bitwise_equal(resumed, whole)
    assert checkpoint.read_metadata(path)["evaluated"] == "average"
    path, _ = run(tmp_path / "plain", 1, PLAIN)
    assert checkpoint.read_metadata(path)["evaluated"] == "params"

"""The Brax adapter: types of every robot, time limits, terminations, engines and their options."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.envs import VectorEnv

pytestmark = pytest.mark.filterwarnings("ignore:Accessing `:DeprecationWarning:brax")

SIZES = {  # observation and action
    "ant": (27, 8),
    "fast": (2, 1),
    "halfcheetah": (17, 6),
    "hopper": (11, 3),
    "humanoid": (244, 17),
    "humanoidstandup": (244, 17),
    "inverted_double_pendulum": (8, 1),
    "inverted_pendulum": (4, 1),
    "pusher": (23, 7),
    "reacher": (11, 2),
    "walker2d": (17, 6),
}


# The tracing of robots takes many seconds, and the wrapper is one for all.
SHORT = ("fast", "hopper")


def types(tree):
    """Structure, shapes, dtypes and weak types of a pytree, to be compared."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]


def test_all_of_brax_is_offered():
    assert envs.env_ids("brax") == sorted(f"brax/{name}" for name in [*SIZES, "swimmer"])


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "spring") for name in SHORT),
        *(
            pytest.param(name, "spring", marks=pytest.mark.slow)
            for name in SIZES
            if name not in SHORT
        ),
        *(
            pytest.param("hopper", backend, marks=pytest.mark.slow)
            for backend in ("positional", "generalized", "mjx")
        ),
    ],
)
def test_types_are_strong_and_stay_equal(name, backend):
    env = envs.make(f"brax/{name}", backend=backend)
    assert (env.observation_space.shape, env.action_space.shape) == tuple(
        (size,) for size in SIZES[name]
    )
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct(env.action_space.shape, env.action_space.dtype)
    next_state, step = jax.eval_shape(env.step, key, state, action)
    assert types((state, obs)) == types((next_state, step.obs))
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((next_state, step)))
    assert (obs.shape, obs.dtype) == (env.observation_space.shape, jnp.float32)
    assert (step.reward.shape, step.reward.dtype) == ((), jnp.float32)
    assert (step.terminated.shape, step.terminated.dtype) == ((), jnp.bool_)
    assert (step.truncated.shape, step.truncated.dtype) == ((), jnp.bool_)


def test_actions_are_in_the_unit_box():
    space = envs.make("brax/fast").action_space
    np.testing.assert_array_equal([space.low, space.high], [[-1.0], [1.0]])


def test_the_contract_is_kept():
    envs.check(envs.make("brax/fast"), num_steps=5)
    dicts = envs.make("brax/fast", obs_mode="dict_state", asymmetric_obs=True)
    assert {name: space.shape for name, space in dicts.observation_space.items()} == {
        "state": (2,),
        "privileged_state": (4,),
    }
    envs.check(dicts, num_steps=5)


def test_the_time_limit_truncates_and_keeps_the_final_observation():
    # Brax's `fast`: velocity grows by 0.02 a step, position by 0.02 times velocity; the position is
    # the reward.
    env = VectorEnv(envs.make("brax/fast", episode_length=5), num_envs=2)
    step = jax.jit(env.step)
    state, _ = env.reset(jax.random.key(0))
    for t, key in enumerate(jax.random.split(jax.random.key(1), 7)):
        state, result = step(key, state, jnp.ones((2, 1)))
        steps = t % 5 + 1
        position = 0.02 * 0.02 * steps * (steps + 1) / 2
        np.testing.assert_allclose(result.next_obs, [[position, 0.02 * steps]] * 2, rtol=1e-5)
        np.testing.assert_allclose(result.reward, [position] * 2, rtol=1e-5)
        np.testing.assert_array_equal(result.truncated, [steps == 5] * 2)
        np.testing.assert_array_equal(result.episode_length, [steps] * 2)
        np.testing.assert_array_equal(
            result.obs, np.zeros((2, 2)) if steps == 5 else result.next_obs
        )
        assert not result.terminated.any()
    assert step._cache_size() == 1


def test_inverted_pendulum_falls_or_is_cut():
    # Copy 0 pushes to one side and falls within ten steps; copy 1 stands still, until the time is
    # over.
    env = VectorEnv(envs.make("brax/inverted_pendulum", episode_length=10), num_envs=2)
    step = jax.jit(env.step)
    state, obs = jax.jit(env.reset)(jax.random.key(0))
    action = jnp.array([[1.0], [0.0]])
    states, results = [], []
    for key in jax.random.split(jax.random.key(1), 10):
        states.append(state)
        state, result = step(key, state, action)
        results.append(jax.device_get(result))
    fall = [bool(result.terminated[0]) for result in results].index(True)
    assert 2 < fall < 9
    # Brax ends the episode where |angle| > 0.2; the final observation shows it, the one to act on
    # does not.
    angles = np.array([np.abs(result.next_obs[0, 1]) for result in results])
    assert angles[:fall].max() <= 0.2 < angles[fall]
    assert np.abs(results[fall].obs[0]).max() <= 0.01  # the noise of a reset
    assert results[fall].episode_return[0] == results[fall].episode_length[0] == fall + 1
    assert not any(result.terminated[1] for result in results)
    assert [bool(result.truncated[1]) for result in results] == [False] * 9 + [True]
    assert (results[-1].obs[1] != results[-1].next_obs[1]).any()

    # The final observation is where the physics led to, the same as from that state in mid-episode.
    robot, _ = states[-1].env_state
    robots = jax.tree.map(lambda leaf: jnp.stack([leaf[1], leaf[1]]), robot)
    both = states[-1].env_state._replace(state=robots, time=jnp.array([3, 9], jnp.int32))
    _, result = step(jax.random.key(2), states[-1]._replace(env_state=both), jnp.zeros((2, 1)))
    assert result.truncated.tolist() == [False, True]
    np.testing.assert_allclose(result.next_obs, [results[-1].next_obs[1]] * 2, rtol=1e-4, atol=1e-6)

    # A fall in the last step of the time limit is a fall.
    late = states[fall].env_state._replace(time=jnp.array([9, 9], jnp.int32))
    _, result = step(jax.random.key(3), states[fall]._replace(env_state=late), action)
    assert (result.terminated.tolist(), result.truncated.tolist()) == ([True, False], [False, True])
    assert step._cache_size() == 1


@pytest.mark.slow
def test_step_leaves_the_state_that_it_is_given():
    env = envs.make("brax/halfcheetah")

    def run(key):
        state, _ = env.reset(key)
        before = dict(state.state.metrics)
        _, step = env.step(key, state, jnp.zeros(6))
        assert all(state.state.metrics[name] is before[name] for name in before)
        assert all(step.info[name] is not before[name] for name in before)
        return step.obs

    jax.eval_shape(run, jax.random.key(0))


@pytest.mark.slow
def test_options_of_the_solver_reach_mjx():
    def iterations(**options):
        solver = envs.make("brax/inverted_pendulum", backend="mjx", **options)._env.sys.opt
        return solver.iterations, solver.ls_iterations

    default = iterations()
    assert default not in ((3, 8), (default[0], 8))
    assert iterations(ls_iterations=8) == (default[0], 8)
    assert iterations(ls_iterations=8, solver_iterations=3) == (3, 8)


@pytest.mark.parametrize(
    ("env_id", "options", "words"),
    [
        ("brax/swimmer", {}, "brax/swimmer is not offered: Brax 0.14 calls jax.numpy.clip"),
        (
            "brax/ant",
            {"backend": "bullet"},
            "backend='bullet': must be one of spring, generalized, ",
        ),
        ("brax/ant", {"episode_length": 0}, "episode_length=0: must be at least 1"),
        ("brax/ant", {"ls_iterations": 8}, "need backend='mjx', brax/ant has backend='spring'"),
        (
            "brax/ant",
            {"solver_iterations": 4, "backend": "positional"},
            "brax/ant has backend='positional'",
        ),
        ("brax/fast", {"ls_iterations": 8, "backend": "mjx"}, "brax/fast has no physics engine"),
        (
            "brax/reacher",
            {"wheels": 4},
            "brax/reacher has no option 'wheels'; it has backend, episode_length",
        ),
        (
            "brax/fast",
            {"asymmetric_obs": True},
            "asymmetric_obs=True: must fit .* requires dictionary observations",
        ),
    ],
)
def test_what_does_not_work_is_refused_in_words(env_id, options, words):
    with pytest.raises(ValueError, match=words):
        envs.make(env_id, **options)


def test_options_reach_brax():
    env = envs.make("brax/inverted_pendulum", backend="generalized")
    assert env._env.backend == "generalized"
    assert (
        envs.make("brax/hopper", terminate_when_unhealthy=False)._env._terminate_when_unhealthy
        is False
    )


def test_an_environment_that_nothing_ends_is_cut_all_the_same():
    env = envs.make("brax/hopper", terminate_when_unhealthy=False)
    state, _ = jax.eval_shape(env.reset, jax.random.key(0))
    _, step = jax.eval_shape(env.step, jax.random.key(0), state, jnp.zeros(3))
    assert (step.terminated.dtype, step.truncated.dtype) == (jnp.bool_, jnp.bool_)

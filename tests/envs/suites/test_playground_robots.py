"""A humanoid of MuJoCo Playground's, whose model comes from an installed package (extra `robots`):
observations for actor and critic, final observations, commands and phases, physics of its own.

`scripts/evidence/compare_playground.py` compares all of them with Playground's own steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.envs.mujoco.menagerie import MissingModelError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def robot():
    """The one with the fewest joints."""
    name = "playground/BerkeleyHumanoidJoystickFlatTerrain"
    try:
        return envs.make(name, randomize=True, episode_length=3)
    except MissingModelError as error:
        pytest.skip(str(error))


def test_the_actor_sees_the_state_and_the_critic_what_is_privileged(robot):
    sizes = {name: space.shape for name, space in robot.observation_space.items()}
    assert sizes == {"state": (52,), "privileged_state": (114,)}
    networks = ppo.make_networks(robot, ppo.Config(hidden_sizes=(8,)))
    obs = {name: jnp.zeros(shape) for name, shape in sizes.items()}
    for module, size in ((networks.policy, 52), (networks.value, 114)):
        shapes = jax.eval_shape(module.init, jax.random.key(0), obs)
        assert (size, 8) in [leaf.shape for leaf in jax.tree.leaves(shapes)]


def test_an_episode_ends_with_its_own_observation_and_the_next_begins_anew(robot):
    env = envs.VectorEnv(robot, num_envs=2)
    step = jax.jit(env.step)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    infos, physics, steps = [state.env_state.state.info], [state.env_state.physics], []
    for t in range(4):
        state, result = step(jax.random.key(t + 1), state, jnp.full((2, 12), 0.1 * t))
        infos.append(state.env_state.state.info)
        physics.append(state.env_state.physics)
        steps.append(result)
    assert step._cache_size() == 1
    assert [bool(jnp.all(each.truncated)) for each in steps] == [False, False, True, False]
    for each in steps:
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(each.next_obs))
    # What the third step led to is not what the fourth acts on.
    for name in ("state", "privileged_state"):
        apart = jnp.abs(steps[2].next_obs[name] - steps[2].obs[name]).max(axis=1)
        assert jnp.all(apart > 0.1)
        np.testing.assert_array_equal(steps[1].next_obs[name], steps[1].obs[name])
    # Commands, the speed of the gait and the physics stay within an episode, and no longer.
    for name in ("command", "phase_dt"):
        values = np.stack([each[name] for each in infos])
        np.testing.assert_array_equal(values[0], values[2])
        np.testing.assert_array_equal(values[3], values[4])
        assert np.all(np.any(values[2] != values[3], axis=-1))
    drawn = [np.concatenate([np.ravel(leaf[0]) for leaf in each]) for each in physics]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[3], drawn[4])
    assert np.any(drawn[2] != drawn[3])
    # The phase of the gait goes on with its step, and starts where it starts.
    assert [each["step"].tolist() for each in infos] == [[n, n] for n in (0, 1, 2, 0, 1)]
    moved = (infos[1]["phase"] - infos[0]["phase"] - infos[0]["phase_dt"]) / (2 * np.pi)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-5)
    np.testing.assert_allclose(infos[3]["phase"], infos[0]["phase"], atol=1e-6)

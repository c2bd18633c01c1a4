"""Data sets on the disk, and those of Minari, by a stub of its documented interface."""

import json
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from onejit import envs
from onejit.algos import Dataset, DatasetError
from onejit.algos.core.collect import Transition
from onejit.algos.host import dataset_files

STATE = envs.Box(-np.inf, 4.0, (2,))
SPACES = {"state": STATE, "privileged_state": envs.Box(0.0, 1.0, (1,), normalize=False)}
CHOICES = envs.Discrete(3)


def some():
    rng = np.random.default_rng(0)
    obs = {name: rng.random((5, *space.shape), np.float32) for name, space in SPACES.items()}
    following = jax.tree.map(lambda x: np.roll(x, -1, axis=0), obs)
    flags = np.array([False, False, True, False, True])
    transitions = Transition(
        obs, rng.integers(3, size=5), np.ones(5, np.float32), flags & False, flags, following
    )
    return Dataset(
        transitions=transitions,
        observation_space=SPACES,
        action_space=CHOICES,
        env_id="mine/Dict",
        env_options={"limit": float("inf"), "sizes": (1, 2)},
        source="drawn",
        random_score=-1.5,
    )


def test_a_round_trip_changes_nothing(tmp_path, assert_bitwise_equal):
    data = some()
    path = dataset_files.save(tmp_path / "folder" / "data", data)
    assert path == tmp_path / "folder" / "data.npz" and list(path.parent.iterdir()) == [path]
    again = dataset_files.load(path)
    assert_bitwise_equal(again.transitions, data.transitions)
    again.check(SimpleNamespace(observation_space=SPACES, action_space=CHOICES))
    assert again.observation_space["privileged_state"].normalize is False
    for name in ("env_id", "env_options", "source", "random_score", "expert_score", "checksum"):
        assert getattr(again, name) == getattr(data, name)
    with np.load(path, allow_pickle=False) as file:  # any program can read it
        assert json.loads(str(file["manifest"]))["env_id"] == "mine/Dict"


def damaged(path, name, value):
    with np.load(path) as file:
        arrays = dict(file) | {name: value}
    np.savez(path, **arrays)


def test_damage_is_found(tmp_path):
    path = dataset_files.save(tmp_path / "data.npz", some())
    whole = path.read_bytes()
    damaged(path, "reward", np.zeros(5, np.float32))
    with pytest.raises(DatasetError, match="its checksum does not agree"):
        dataset_files.load(path)
    damaged(path, "manifest", np.array("{}"))
    with pytest.raises(DatasetError, match="is no data set, or damaged"):
        dataset_files.load(path)
    damaged(path, "reward", np.array([None] * 5, object))
    with pytest.raises(DatasetError, match="is no data set, or damaged"):  # pickle is not read
        dataset_files.load(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match="is no data set, or damaged"):
        dataset_files.load(path)
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset_files.load(tmp_path / "none.npz")
    with pytest.raises(DatasetError, match="cannot be written"):
        dataset_files.save(path / "below.npz", some())


def episode(length, **ends):
    """As minari.EpisodeData: one observation more than actions."""
    flags = {name: np.zeros(length, bool) for name in ("terminations", "truncations")}
    for name in ends:
        flags[name][-1] = True
    observations = np.arange(length + 1, dtype=np.float64)[:, None]
    actions = np.full((length, 1), 2.0)
    return SimpleNamespace(
        observations=observations, actions=actions, rewards=np.ones(length), **flags
    )


class Env:
    observation_space = envs.Box(-9.0, 9.0, (1,))
    action_space = envs.Box(-4.0, 4.0, (1,))
    reset = step = None


def test_episodes_of_minari(monkeypatch):
    """Three episodes: one cut by its time limit, one that terminates, one that breaks off."""
    episodes = [episode(2, truncations=True), episode(3, terminations=True), episode(1)]
    stub = SimpleNamespace(
        load_dataset=lambda name: SimpleNamespace(iterate_episodes=lambda: iter(episodes))
    )
    monkeypatch.setitem(sys.modules, "minari", stub)
    data = dataset_files.from_minari("mine/test-v0", Env, expert_score=3.0)
    data.check(Env)
    steps = data.transitions
    np.testing.assert_array_equal(steps.obs[:, 0], [0, 1, 0, 1, 2, 0])
    np.testing.assert_array_equal(steps.next_obs[:, 0], [1, 2, 1, 2, 3, 1])
    np.testing.assert_array_equal(steps.action, np.full((6, 1), 0.5))  # 2 of a bound of 4
    np.testing.assert_array_equal(steps.truncated, np.array([0, 1, 0, 0, 0, 1], bool))
    np.testing.assert_array_equal(steps.terminated, np.array([0, 0, 0, 0, 1, 0], bool))
    assert steps.reward.dtype == np.float32 and data.source == "Minari's mine/test-v0"
    episodes[0].observations = {"observation": episodes[0].observations}
    with pytest.raises(DatasetError, match="observations are dict, and must be arrays"):
        dataset_files.from_minari("mine/test-v0", Env)


def test_without_minari_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ModuleNotFoundError, match=r"onejit\[minari\]"):
        dataset_files.from_minari("mine/test-v0", Env)

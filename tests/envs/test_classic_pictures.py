"""Pictures of classic control, from real episodes: every state has its own, and things are where
the state says.
"""

import sys

import jax
import numpy as np
import pytest
from PIL import Image, ImageColor

from onejit import envs
from onejit.algos.host import recording
from onejit.envs import classic_pictures

ORANGE = ImageColor.getrgb("#d9772b")  # pole, pendulum, second link, car


def middle_of_what_is_orange(picture):
    """(column, row) in pixels from the middle of the picture, rows upwards."""
    rows, columns = np.nonzero(np.all(np.asarray(picture.convert("RGB")) == ORANGE, axis=-1))
    return columns.mean() - picture.width / 2, picture.height / 2 - rows.mean()


@pytest.mark.parametrize(
    "name",
    [
        name if name == "CartPole-v1" else pytest.param(name, marks=pytest.mark.slow)
        for name in classic_pictures.NAMES
    ],
)
def test_an_episode_is_drawn_with_what_is_always_installed(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)  # as if it were not installed
    env = envs.make(f"gymnax/{name}")
    states = recording.record_episode(
        env, lambda obs, key: env.action_space.sample(key), jax.random.key(0), max_steps=4
    )
    files, problems = recording.save_recording(tmp_path, env, states)
    assert (files, problems) == ([tmp_path / "episode.gif"], [])
    with Image.open(files[0]) as gif:
        assert gif.n_frames == 5
        first = np.asarray(gif.convert("RGB"))
        gif.seek(4)
        moved = np.any(np.asarray(gif.convert("RGB")) != first, axis=-1)
    assert np.any(moved[60:])  # more than the words in the corner
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20  # soft edges


def drawn(name, **changes):
    env = envs.make(f"gymnax/{name}")
    state = jax.tree.map(lambda _: np.float32(0.0), jax.eval_shape(env.reset, jax.random.key(0))[0])
    state = state.replace(**{field: np.float32(value) for field, value in changes.items()})
    [picture] = classic_pictures.draw(name, env._params, [state])
    return middle_of_what_is_orange(picture)


def test_a_pole_that_leans_to_the_right_is_drawn_so():
    (left, _), (right, _) = drawn("CartPole-v1", theta=-0.2), drawn("CartPole-v1", theta=0.2)
    assert left < -5 and right > 5


def test_a_pendulum_stands_at_angle_zero_and_turns_counterclockwise():
    (column, top), (side, _) = drawn("Pendulum-v1"), drawn("Pendulum-v1", theta=np.pi / 2)
    assert abs(column) < 2 and top > 40 and side < -40


def test_an_acrobot_hangs_at_angles_zero_and_its_second_angle_is_relative():
    (column, hanging), (_, up) = drawn("Acrobot-v1"), drawn("Acrobot-v1", joint_angle1=np.pi)
    assert abs(column) < 2 and hanging < -80 and up > 80
    _, folded = drawn("Acrobot-v1", joint_angle1=np.pi, joint_angle2=np.pi)
    assert 0 < folded < 60


def test_a_car_is_on_its_hill():
    (valley, low), (hill, high) = (
        drawn("MountainCar-v0", position=-np.pi / 6),
        drawn("MountainCar-v0", position=0.5),
    )
    assert valley < hill and low < -80 and high > 60


def test_far_outside_of_the_picture_nothing_breaks():
    env = envs.make("gymnax/CartPole-v1")
    state = jax.tree.map(
        lambda _: np.float32(1e30), jax.eval_shape(env.reset, jax.random.key(0))[0]
    )
    classic_pictures.draw("CartPole-v1", env._params, [state])

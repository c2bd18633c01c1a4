"""Drawing an episode: a robot in a wrapper, and pictures that stand still."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from onejit import envs
from onejit.algos.host import recording
from onejit.envs.mujoco.renderer import RenderError
from onejit.envs.observations import NoisyObservations, NoisyState


def test_a_robot_in_a_wrapper_is_drawn(tmp_path):
    env = NoisyObservations(envs.make("mjx/InvertedPendulum-v5"), 0.1)
    states = [
        NoisyState(env.env.state(np.full(2, 0.1 * i), np.zeros(2)), (), 0.0) for i in range(5)
    ]
    files, problems = recording.save_recording(tmp_path, env, states)
    assert files[0] == tmp_path / "episode.html"
    # A machine without OpenGL says so.
    assert len(files) == 2 or "not all could be drawn" in problems[0]


@pytest.mark.parametrize(("piece", "max_steps", "length"), [(100, 30, 9), (4, 30, 9), (4, 6, 6)])
def test_an_episode_is_recorded_from_its_first_state_to_its_last(
    piece, max_steps, length, monkeypatch
):
    monkeypatch.setattr(recording, "_STEPS_AT_ONCE", piece)
    env = envs.make("gymnax/Catch-bsuite")
    states = recording.record_episode(
        env, lambda obs, key: jnp.int32(1), jax.random.key(0), max_steps=max_steps
    )
    assert [int(state.ball_y) for state in states] == list(range(length + 1))


@pytest.mark.slow
def test_a_game_is_drawn_with_gymnax_own_pictures(tmp_path):
    env = envs.make("gymnax/Catch-bsuite")
    state, _ = jax.device_get(env.reset(jax.random.key(0)))
    states = [state.replace(ball_y=np.int32(row)) for row in range(3)]
    assert recording.save_recording(tmp_path, env, states) == ([tmp_path / "episode.gif"], [])
    with Image.open(tmp_path / "episode.gif") as picture:
        assert picture.n_frames == 3


def test_without_its_packages_an_mp4_is_refused_before_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(recording.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        RenderError, match=r"needs the package imageio: pip install 'onejit\[video\]'"
    ):
        recording.gif_to_mp4(tmp_path / "not there.gif")


def test_pictures_that_stand_still_are_shown_as_long(tmp_path):
    colours = [0, 0, 0, 90, 180, 180, 40]
    pictures = [Image.new("L", (8, 8), colour) for colour in colours]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    frames, rate = recording.read_gif(tmp_path / "a.gif")
    assert rate == 25.0
    np.testing.assert_array_equal(frames[:, 0, 0, 0], colours)

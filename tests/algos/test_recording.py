"""Drawing an episode: a robot in a wrapper, and pictures that stand still."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from onejit import envs
from onejit.algos import recording
from onejit.envs.observations import NoisyObservations, NoisyState


def test_a_robot_in_a_wrapper_is_drawn(tmp_path):
    env = NoisyObservations(envs.make("mjx/InvertedPendulum-v5"), 0.1)
    states = [NoisyState(env.env.state(np.full(2, 0.1 * i), np.zeros(2)), (), 0.0) for i in range(5)]
    files, problems = recording.save_recording(tmp_path, env, states)
    assert files[0] == tmp_path / "episode.html"
    # A machine without OpenGL says so.
    assert len(files) == 2 or "not all could be drawn" in problems[0]


def test_an_episode_is_recorded_from_its_first_state_to_its_last():
    env = envs.make("gymnax/Catch-bsuite")
    states = recording.record_episode(env, lambda obs, key: jnp.int32(1), jax.random.key(0), max_steps=30)
    assert [int(state.ball_y) for state in states] == list(range(10))


def test_pictures_that_stand_still_are_shown_as_long(tmp_path):
    colours = [0, 0, 0, 90, 180, 180, 40]
    pictures = [Image.new("L", (8, 8), colour) for colour in colours]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    frames, rate = recording.read_gif(tmp_path / "a.gif")
    assert rate == 25.0
    np.testing.assert_array_equal(frames[:, 0, 0, 0], colours)

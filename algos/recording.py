"""One episode of a trained policy, as an interactive page and as a GIF."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np

from ..envs import Environment
from ..envs.mujoco_page import render_html
from ..envs.mujoco_renderer import RenderError, render_gif


def record_episode(
    env: Environment, act: Callable[[Any, chex.PRNGKey], chex.Array], key: chex.PRNGKey, *, max_steps: int = 1000
) -> list[Any]:
    """The environment's states in one episode, on the host, from the first to the last.

    Args:
      env: a single environment.
      act: (obs, key) -> action, without leading axes.
      key: a typed key.
      max_steps: steps after which it stops in any case.
    """
    reset_key, run_key = jax.random.split(key)

    @jax.jit
    def run(reset_key, run_key):
        env_state, obs = env.reset(reset_key)

        def step(carry, key):
            env_state, obs = carry
            action_key, step_key = jax.random.split(key)
            following, result = env.step(step_key, env_state, act(obs, action_key))
            return (following, result.obs), (env_state, result.terminated | result.truncated)

        return jax.lax.scan(step, (env_state, obs), jax.random.split(run_key, max_steps))[1]

    states, done = jax.device_get(run(reset_key, run_key))
    length = int(np.argmax(done)) + 1 if np.any(done) else max_steps
    return [jax.tree.map(lambda x, t=t: x[t], states) for t in range(length)]


def save_recording(folder: Path, env: Environment, states: list[Any]) -> tuple[list[Path], list[str]]:
    """Writes what can be drawn of an episode: `episode.html` for robots, and `episode.gif`.

    Args:
      folder: the run folder.
      env: the environment; one that cannot be drawn gives nothing.
      states: as `record_episode` returns them.

    Returns:
      (the files written, one sentence for each that could not be).
    """
    files, problems = [], []
    page, picture = folder / "episode.html", folder / "episode.gif"
    try:
        if getattr(env, "mj_model", None) is not None:
            qpos = np.stack([np.asarray(env.qpos(state)) for state in states])
            page.write_text(render_html(env.mj_model, qpos, env.step_seconds))
            files.append(page)
            render_gif(picture, env.mj_model, qpos, env.step_seconds)
            files.append(picture)
        elif hasattr(env, "render_gif"):
            env.render_gif(states, picture)
            files.append(picture)
    except RenderError as error:
        problems.append(f"no GIF, this machine could not render ({error})")
    return files, problems


def gif_to_mp4(path: Path) -> Path:
    """Writes a GIF's pictures as an MP4 beside it.

    Raises:
      RenderError: imageio's ffmpeg is missing.
    """
    from PIL import Image, ImageSequence

    video = path.with_suffix(".mp4")
    with Image.open(path) as pictures:
        seconds = pictures.info["duration"] / 1000.0
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(pictures)]
    try:
        import imageio.v3 as imageio

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that ffmpeg is started beside threads
            imageio.imwrite(video, np.stack(frames), fps=1.0 / seconds, macro_block_size=2)
    except (ImportError, OSError) as error:
        raise RenderError(f"an MP4 needs ffmpeg: pip install 'onejit[video]' ({error})") from error
    return video

"""One episode of a trained policy, as an interactive page and as a GIF."""

import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np

from ...envs import Environment
from ...envs.contract import Contracted
from ...envs.mujoco.page import render_html
from ...envs.mujoco.renderer import RenderError, render_gif
from ..core.evaluation import Act, Memory, remembering

_STEPS_AT_ONCE = 100


def record_episode(
    env: Environment,
    act: Act,
    key: chex.PRNGKey,
    *,
    max_steps: int = 1000,
    memory: Memory | None = None,
) -> list[Any]:
    """The environment's states in one episode, on the host, from the first to the last.

    Args:
      env: a single environment.
      act: (obs, key) -> action, without leading axes.
      key: a typed key.
      max_steps: steps after which it stops in any case.
      memory: as in `evaluate`: (key, 1) -> what the policy remembers at the start; its only
        environment's is what `act` then takes and returns.

    Raises:
      ContractError: the environment breaks the contract.
    """
    env = Contracted(env)
    act, memory = remembering(act, memory)
    reset_key, run_key, memory_key = jax.random.split(key, 3)

    def step(carry, key):
        env_state, obs, remembered = carry
        action_key, step_key = jax.random.split(key)
        action, remembered = act(obs, action_key, remembered)
        following, result = env.step(step_key, env_state, action)
        done = result.terminated | result.truncated
        return (following, result.obs, remembered), (following, done)

    # In pieces, so that no more is computed and kept on the device than an episode of this length
    # needs.
    piece = min(max_steps, _STEPS_AT_ONCE)
    run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys))
    remembered = jax.tree.map(lambda x: x[0], memory(memory_key, 1))
    carry = *jax.jit(env.reset)(reset_key), remembered
    states = [jax.device_get(carry[0])]
    for keys in jax.random.split(run_key, (math.ceil(max_steps / piece), piece)):
        carry, visited = run(carry, keys)
        visited, done = jax.device_get(visited)
        length = int(np.argmax(done)) + 1 if np.any(done) else piece
        states += [jax.tree.map(lambda x, t=t: x[t], visited) for t in range(length)]
        if np.any(done):
            break
    return states[: max_steps + 1]


def save_recording(
    folder: Path, env: Environment, states: list[Any]
) -> tuple[list[Path], list[str]]:
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
            page.write_text(render_html(env.mj_model, qpos, env.step_seconds), encoding="utf-8")
            files.append(page)
            render_gif(picture, env.mj_model, qpos, env.step_seconds)
            files.append(picture)
        elif hasattr(env, "render_gif"):
            env.render_gif(states, picture)
            files.append(picture)
    except (RenderError, OSError) as error:
        problems.append(f"not all could be drawn: {error}")
    return files, problems


def read_gif(path: Path) -> tuple[np.ndarray, float]:
    """Pictures at equal distances, `[T, height, width, 3]`, and how many there are in a second."""
    from PIL import Image, ImageSequence

    with Image.open(path) as pictures:
        shown = [
            (each.info["duration"], np.asarray(each.convert("RGB")))
            for each in ImageSequence.Iterator(pictures)
        ]
    # Pictures that were alike became one that is shown for longer.
    shortest = min(duration for duration, _ in shown)
    return np.stack(
        [each for duration, each in shown for _ in range(round(duration / shortest))]
    ), 1000.0 / shortest


def gif_to_mp4(path: Path) -> Path:
    """Writes a GIF's pictures as an MP4 beside it.

    Raises:
      RenderError: imageio or its ffmpeg is missing, or the file cannot be written.
    """
    missing = [
        name for name in ("imageio", "imageio_ffmpeg") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise RenderError(f"an MP4 needs the package {missing[0]}: pip install 'onejit[video]'")
    import imageio.v3 as imageio

    video = path.with_suffix(".mp4")
    frames, rate = read_gif(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that ffmpeg is started beside threads
            imageio.imwrite(video, frames, fps=rate, macro_block_size=2)
    except (OSError, RuntimeError) as error:
        raise RenderError(f"{video} cannot be written: {error}") from error
    return video

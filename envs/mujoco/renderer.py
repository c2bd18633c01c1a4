"""Draws a trajectory of a MuJoCo model into a GIF, in a process of its own.

`render_gif` starts this file as a program, because MuJoCo chooses how to reach OpenGL when it is
first imported, and because a driver that crashes must not take a training run with it.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_FRAMES_PER_SECOND = 25
_MAX_SECONDS = 12.0  # beyond that a GIF grows to many megabytes


class RenderError(RuntimeError):
    """This machine could not draw; the message is the last line of what it said."""


def render_gif(
    path: Path,
    model: Any,
    qpos: np.ndarray,
    step_seconds: float,
    *,
    height: int = 240,
    width: int = 320,
) -> None:
    """Writes a GIF that plays in real time: at most 25 pictures a second, of the first 12 seconds.

    Args:
      path: where to write.
      model: a `mujoco.MjModel`.
      qpos: generalised positions of the trajectory, `[T, nq]`.
      step_seconds: simulated seconds between two of them.
      height: of the picture, in pixels.
      width: of the picture, in pixels.

    Raises:
      RenderError: OpenGL does not work here. Without a screen it needs EGL (on Debian: libegl1 and
        libegl-mesa0).
    """
    import mujoco

    stride = max(1, round(1.0 / (_FRAMES_PER_SECOND * step_seconds)))
    environment = dict(os.environ)
    if not environment.get("DISPLAY") and sys.platform == "linux":
        environment.setdefault("MUJOCO_GL", "egl")
    with tempfile.TemporaryDirectory() as folder:
        model_path, qpos_path = Path(folder, "model.mjb"), Path(folder, "qpos.npy")
        mujoco.mj_saveModel(model, str(model_path))
        length = math.ceil(_MAX_SECONDS / step_seconds)
        np.save(qpos_path, np.asarray(qpos)[:length:stride].astype(np.float64))
        arguments = [model_path, qpos_path, path, 1000.0 * stride * step_seconds, height, width]
        result = subprocess.run(
            [sys.executable, "-P", __file__, *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        said = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise RenderError(said[-1])


def _camera(model: Any) -> int | str:
    """The model's own tracking camera if it has one, else the free camera."""
    names = [model.camera(i).name for i in range(model.ncam)]
    return next((name for name in names if "track" in name), -1)


def _main(arguments: Mapping[str, str]) -> None:
    import mujoco
    from PIL import Image

    model = mujoco.MjModel.from_binary_path(arguments["model"])
    data = mujoco.MjData(model)
    frames = []
    with mujoco.Renderer(model, int(arguments["height"]), int(arguments["width"])) as renderer:
        for qpos in np.load(arguments["qpos"]):
            data.qpos[:] = qpos
            mujoco.mj_forward(model, data)
            renderer.update_scene(data, camera=_camera(model))
            frames.append(Image.fromarray(renderer.render()))
    frames[0].save(
        arguments["path"],
        save_all=True,
        append_images=frames[1:],
        duration=float(arguments["milliseconds"]),
        loop=0,
        optimize=True,
    )


if __name__ == "__main__":
    _main(
        dict(
            zip(
                ("model", "qpos", "path", "milliseconds", "height", "width"),
                sys.argv[1:],
                strict=True,
            )
        )
    )

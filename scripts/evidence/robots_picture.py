"""Draws the robots of `playground/` side by side, as their episodes begin: `python
scripts/evidence/robots_picture.py` writes results/robots.png.
"""

import tempfile
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from compare_playground import TASKS
from PIL import Image

from onejit import envs
from onejit.envs.mujoco.renderer import render_gif

WIDTH, HEIGHT = 240, 240


def picture(name: str, folder: Path) -> Image.Image:
    """One robot, in the pose that its episodes begin around."""
    env = envs.make(f"playground/{name}")
    path = folder / f"{name}.gif"
    qpos = np.asarray(jax.device_get(env.unwrapped._init_q))
    render_gif(path, env.mj_model, qpos[None], env.step_seconds, height=HEIGHT, width=WIDTH)
    return Image.open(path).convert("RGB")


def main(argv: list[str]) -> None:
    """One row of pictures."""
    del argv
    robots = [name for name in TASKS if name != "H1JoystickGaitTracking"]  # as the other H1
    whole = Image.new("RGB", (WIDTH * len(robots), HEIGHT))
    with tempfile.TemporaryDirectory() as folder:
        for i, name in enumerate(robots):
            whole.paste(picture(name, Path(folder)), (i * WIDTH, 0))
    whole.quantize(128).save(flags.FLAGS.out, optimize=True)


if __name__ == "__main__":
    flags.DEFINE_string(
        "out", str(Path(__file__).parents[2] / "results" / "robots.png"), "The picture."
    )
    app.run(main)

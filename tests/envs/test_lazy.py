"""What is not used is not imported: one waits for it at each start."""

import subprocess
import sys

PROGRAM = """
import sys

from onejit import algos, envs
from onejit.algos import ppo
from onejit.algos.host import cli

env = envs.make("gymnax/CartPole-v1")
heavy = ("brax", "mujoco", "pandas", "seaborn", "matplotlib.pyplot", "scipy", "trimesh", "orbax",
    "tensorboardX", "playground", "tensorflow_probability")
assert not [name for name in heavy if name in sys.modules], [n for n in heavy if n in sys.modules]

import matplotlib.pyplot
import seaborn

assert matplotlib.pyplot.figure and seaborn.color_palette("cubehelix", 3)
from gymnax.environments.misc import pong

assert pong.plt.figure is matplotlib.pyplot.figure
"""


def test_a_run_on_cartpole_imports_nothing_heavy_until_it_is_used():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""A wheel built from the tree, unpacked outside of the checkout, trains PPO from the command
line.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREE = (
    "losses",
    "envs",
    "algos",
    "__init__.py",
    "setup.cfg",
    "pyproject.toml",
    "README.md",
    "LICENSE",
)
PROGRAM = """
import sys
from pathlib import Path
import onejit
from onejit.algos import ppo
from onejit.algos.host import cli
assert Path(onejit.__file__).is_relative_to(sys.argv[1]), onejit.__file__
sizes = ["--num_envs=2", "--num_steps=4", "--num_minibatches=1", "--hidden_sizes=4"]
cli.main(ppo, ["ppo", "--env=probe/action", "--total_steps=16", "--eval_episodes=1", *sizes])
"""


def run(*command, cwd, **environment):
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_wheel_trains(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in TREE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir=.",
        "./source",
        cwd=tmp_path,
    )
    [wheel] = tmp_path.glob("onejit-*.whl")
    run(*pip, "install", "--no-deps", f"--target={site}", wheel, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(sys.executable, "-c", PROGRAM, site, cwd=elsewhere, PYTHONPATH=str(site))
    [folder] = (elsewhere / "runs").iterdir()
    assert {"config.json", "metrics.jsonl", "checkpoints"} <= {
        each.name for each in folder.iterdir()
    }

"""scripts/render.py on a run of gymnax; robots' pages and GIFs are tested in tests/envs and tests/algos."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from onejit.algos import cli, ppo

SCRIPT = Path(__file__).parents[2] / "scripts" / "render.py"


def render(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_an_episode_of_a_run_is_drawn(tmp_path):
    tiny = ["--num_envs=4", "--num_steps=8", "--num_minibatches=2", "--hidden_sizes=8", "--eval_episodes=2"]
    command = ["ppo.py", "--env=gymnax/Catch-bsuite", "--total_steps=64", "--num_seeds=2", f"--out={tmp_path}", *tiny]
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, command)
    assert caught.value.code == 0
    [folder] = tmp_path.iterdir()
    result = render(folder, "--member=1", "--last")
    assert result.returncode == 0, result.stderr
    assert "9 steps, in" in result.stdout  # Catch's ball falls for nine rows
    with Image.open(folder / "episode.gif") as picture:
        assert picture.n_frames == 10


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    result = render(tmp_path)
    assert result.returncode != 0
    assert "config.json: cannot be read" in result.stderr

"""The scripts compare_playground.py and dry_run.py, at toy size and without a robot's model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[3] / "scripts" / "evidence"


def run(script, *arguments):
    command = [sys.executable, SCRIPTS / script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_task_is_compared_once(tmp_path):
    path = tmp_path / "PendulumSwingup.json"
    sizes = ("--num_envs=2", "--steps=3", f"--out={tmp_path}")
    run("compare_playground.py", "--tasks=PendulumSwingup", *sizes)
    found = json.loads(path.read_text())
    assert found["reset"] == {"obs": 0.0, "info": 0.0}
    assert found["precision"] == "float32"
    assert (found["terminated"], found["terminated_differ"]) == (0, 0)
    assert max(found[each] for each in ("obs", "reward", "qpos", "info")) < 1e-5
    assert 0 < found["own_qpos"] < 1e-5
    path.write_text(json.dumps(found | {"steps": "kept"}))
    run("compare_playground.py", "--tasks=PendulumSwingup", *sizes)
    assert json.loads(path.read_text())["steps"] == "kept"


def test_a_recipe_is_taken_for_two_iterations_once(tmp_path):
    path = tmp_path / "dry_run.jsonl"
    for _ in range(2):
        run("dry_run.py", "--cells=fast_sac:gymnax/Pendulum-v1", f"--out={path}")
    [line] = map(json.loads, path.read_text().splitlines())
    # The preset's 64 environments become 8, and what counts in them an eighth.
    assert line["changes"] == {
        "num_envs": 8,
        "batch_size": 64,
        "buffer_size": 12_500,
        "learning_starts": 125,
    }
    assert line["rss_mb"] > 100 and line["step_s"] > line["again_s"] > 0

"""scripts/evidence/bench_env.py measures a cell once and does not run it again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "bench_env.py"


@pytest.mark.slow
def test_a_cell_is_measured_once(tmp_path):
    path = tmp_path / "speed.jsonl"
    for num_envs in ("2", "2,8"):
        command = [
            "--envs=probe/action",
            f"--num_envs={num_envs}",
            "--min_seconds=0.01",
            f"--out={path}",
        ]
        result = subprocess.run(
            [sys.executable, SCRIPT, *command], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["env"], line["num_envs"], line["reset"]) for line in lines] == [
        ("probe/action", 2, "full"),
        ("probe/action", 8, "full"),
    ]
    assert all(line["steps_per_s"] > 0 and line["compile_s"] > 0 for line in lines)

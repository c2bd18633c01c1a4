"""The program in docs/own_robot.md is typed in and run."""

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "own_robot.md"


def test_the_robot_of_ones_own_trains(tmp_path):
    program = PAGE.read_text().partition("```python\n")[2].partition("```")[0]
    (tmp_path / "swing_up.py").write_text(program)
    flags = ["--total_steps=512", "--num_envs=4", "--num_steps=32", "--hidden_sizes=8", "--norecord", "--num_evals=1"]
    command = [sys.executable, "swing_up.py", *flags, "--out=runs", "--eval_episodes=1", "--num_logs=1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    [log] = (tmp_path / "runs").glob("ppo-mine-SwingUp-*/metrics.jsonl")
    assert "eval/episodic_return" in log.read_text()

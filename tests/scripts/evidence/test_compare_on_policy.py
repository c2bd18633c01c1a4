"""scripts/evidence/compare_on_policy.py: a cell is trained once; figure and table come from the
files.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "compare_on_policy.py"


@pytest.mark.slow
def test_a_cell_is_trained_once_and_drawn(tmp_path):
    command = [sys.executable, SCRIPT, "--envs=probe/observation", "--variants=mdpo_3", "--seeds=2"]
    command += ["--total_steps=4096", f"--out={tmp_path / 'cells'}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "| observation | mdpo_3 |" in output
    (path,) = (tmp_path / "cells").iterdir()
    result = json.loads(path.read_text())
    assert len(result["returns"]) == 2
    assert result["steps"] == [2048, 4096]
    assert all(0.0 < x < 1.0 for seed in result["losses/ratio_deviation"] for x in seed)
    assert (tmp_path / "cells.png").stat().st_size > 1000
    written = path.stat().st_mtime_ns
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert path.stat().st_mtime_ns == written
    # But for the line that says what was trained.
    assert again.splitlines() == output.splitlines()[1:]


@pytest.mark.slow
def test_an_unknown_variant_is_refused(tmp_path):
    command = [sys.executable, SCRIPT, "--variants=trpo_3", f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "unknown variants ['trpo_3']; known: ppo_3" in result.stderr

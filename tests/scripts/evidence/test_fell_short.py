"""scripts/evidence/fell_short.py: a cell is trained once, and the table is of what is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "fell_short.py"


@pytest.mark.slow
def test_a_cell_is_trained_once_and_is_a_row(tmp_path):
    command = [sys.executable, SCRIPT, "--cells=swingup_ppo_held", "--total_steps=8192"]
    command += [f"--out={tmp_path}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (path,) = tmp_path.iterdir()
    result = json.loads(path.read_text())
    assert (result["env_options"], result["total_steps"]) == ({"action_repeat": 4}, 8192)
    # Of a thousand steps with rewards of at most 1.
    final = result["final_returns"]
    assert final == [row[-1] for row in result["returns"]]
    assert len(final) == 5 and all(0.0 < each < 1000.0 for each in final)
    assert f"| 8,192 | {result['final_iqm']:.0f} | {min(final):.0f} |" in output
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again.splitlines() == output.splitlines()[1:]

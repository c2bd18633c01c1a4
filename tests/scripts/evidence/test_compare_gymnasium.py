"""scripts/evidence/compare_gymnasium.py, and by it: the smallest of Gymnasium's MuJoCo tasks is the
same on MJX.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "compare_gymnasium.py"


@pytest.mark.slow
def test_inverted_pendulum_agrees_step_by_step(tmp_path):
    command = ["--tasks=InvertedPendulum-v5", "--steps=100", "--resets=300", f"--out={tmp_path}"]
    result = subprocess.run(
        [sys.executable, SCRIPT, *command], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "InvertedPendulum-v5.json").read_text())
    assert found["terminated"] > 3
    for precision, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        errors = found[precision]
        assert max(errors[quantity] for quantity in ("qpos", "qvel", "obs", "reward")) < tolerance
        assert errors["terminated_differ"] == errors["truncated_differ"] == 0
    assert found["resets_p_value"] > 1e-3

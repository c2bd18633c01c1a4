"""scripts/evidence/bc_oscillation.py: actor and average are looked at along one run, once."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "bc_oscillation.py"


@pytest.mark.slow
def test_the_average_varies_less_than_what_it_is_of(tmp_path):
    command = [sys.executable, SCRIPT, "--tasks=pendulum", "--seeds=2", "--teacher_steps=4096"]
    command += ["--rows=320", "--updates=5000", f"--out={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "pendulum.json"
    cell = json.loads(path.read_text())
    actor, average = (np.array(cell[name]["losses"]) for name in ("actor", "average"))
    assert actor.shape == average.shape == np.shape(cell["actor"]["returns"]) == (2, 50)
    # A column is of one moment: the average follows the actor of that moment, and more slowly.
    assert np.all(np.abs(np.diff(average)).mean(1) < np.abs(np.diff(actor)).mean(1))
    written = path.stat().st_mtime_ns
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == done.stdout and path.stat().st_mtime_ns == written

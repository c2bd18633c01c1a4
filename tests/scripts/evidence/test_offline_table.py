"""scripts/evidence/offline_table.py: data and cells are made once, the table comes from files."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "offline_table.py"


def run(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_cell_is_made_once_and_an_unknown_one_refused(tmp_path):
    flags = ["--data=medium_expert,medium_replay", "--algorithms=bc", "--seeds=2", "--updates=200"]
    flags += ["--sac_steps=3500", "--steps=400"]
    flags += [f"--out={tmp_path / 'cells'}", f"--files={tmp_path / 'files'}"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "cells" / "bc_medium_expert.json").read_text())
    assert result["data"]["source"].endswith(" and SAC after 3,500 steps")
    assert result["data"]["transitions"] == 800 and np.shape(result["returns"])[0] == 2
    replay = json.loads((tmp_path / "cells" / "bc_medium_replay.json").read_text())
    assert replay["data"]["transitions"] in range(1250, 3501, 250)
    low, high = replay["data"]["scores"]
    expected = np.mean(100 * (np.array(replay["returns"])[:, -1] - low) / (high - low))
    assert f"bc_medium_replay.json: {expected:.1f}" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("| medium_replay | ") and f"| {expected:.1f} (" in last
    assert run(*flags).stdout.splitlines() == done.stdout.splitlines()[2:]
    refused = run(*flags, "--steps=500")
    assert refused.returncode != 0 and "is of steps=400, not 500" in refused.stderr
    refused = run("--data=mediocre", f"--out={tmp_path}")
    assert refused.returncode != 0 and "mediocre is none of " in refused.stderr

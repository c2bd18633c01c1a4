"""scripts/evidence/offline_table.py: data and cells are made once, the table comes from files."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "offline_table.py"


def run(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    # Compiled better than the other tests are: most of it is SAC's updates.
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


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


@pytest.mark.slow
def test_an_episode_that_the_record_cuts_off_is_not_whole(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("offline_table", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    # Hopper falls after 3 and after 2 steps, stands for 1,000, and is cut off after 500.
    lengths = np.array([3, 2, 1000, 500])
    ends = np.cumsum(lengths) - 1
    terminated, truncated = np.zeros((2, lengths.sum()), bool)
    terminated[ends[:2]], truncated[ends[2:]] = True, True
    rows = SimpleNamespace(
        reward=np.repeat([1.0, 2.0, 3.0, 4.0], lengths), terminated=terminated, truncated=truncated
    )
    data = SimpleNamespace(transitions=rows, env_id="brax/hopper")
    assert script.mean_return(data) == (3 * 1.0 + 2 * 2.0 + 1000 * 3.0) / 3

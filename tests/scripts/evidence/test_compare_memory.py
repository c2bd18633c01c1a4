"""scripts/evidence/compare_memory.py and masked_steps.py: a cell is trained once; figure and table
come from the files.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts" / "evidence"

pytestmark = pytest.mark.slow


def run(script, *arguments):
    command = [sys.executable, SCRIPTS / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_cell_is_trained_once_and_an_unknown_task_refused(tmp_path):
    flags = ["--tasks=recall_1", "--variants=ppo_gru", "--seeds=2", "--total_steps=4096"]
    flags.append(f"--out={tmp_path / 'cells'}")
    done = run("compare_memory.py", *flags)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "cells").iterdir()
    result = json.loads(path.read_text())
    assert path.name == "recall_1_ppo_gru.json"
    assert result["config"]["memory"] == "gru" and len(result["final_returns"]) == 2
    assert "| a bit 1 step ago | PPO GRU | 4,096 |" in done.stdout
    assert (tmp_path / "cells.png").stat().st_size > 1000
    written = path.stat().st_mtime_ns
    assert run("compare_memory.py", *flags).stdout.splitlines() == done.stdout.splitlines()[1:]
    assert path.stat().st_mtime_ns == written
    refused = run("compare_memory.py", "--tasks=recal_1", f"--out={tmp_path}")
    assert refused.returncode != 0
    assert "unknown tasks ['recal_1']; known: recall_1" in refused.stderr


def test_masked_steps_are_counted(tmp_path):
    out = tmp_path / "masks.jsonl"
    done = run("masked_steps.py", "--algorithms=ppo", "--total_steps=8192", f"--out={out}")
    assert done.returncode == 0, done.stderr
    line = json.loads(out.read_text())
    assert line["algorithm"] == "ppo" and line["steps"] == 8192
    assert line["steps_evaluated_each"] == 8192 and line["steps_of_prefill"] == 0
    assert line["errors_in_training"] == line["errors_greedy"] == line["errors_exploring"] == 0
    again = run("masked_steps.py", "--algorithms=ppo", f"--out={out}")
    assert again.returncode == 0 and len(out.read_text().splitlines()) == 1

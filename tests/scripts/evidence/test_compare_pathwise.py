"""scripts/evidence/compare_pathwise.py: a cell is trained once, and costs more than the best."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "compare_pathwise.py"


@pytest.mark.slow
def test_a_cell_is_trained_once(tmp_path):
    path = tmp_path / "cells.json"
    command = [sys.executable, SCRIPT, "--cells=inventory_pathwise", "--seeds=2", f"--out={path}"]
    command.append("--total_steps=32000")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "| inventory_pathwise |" in output
    assert "gap" in output
    result = json.loads(path.read_text())["inventory_pathwise"]
    assert len(result["returns"]) == len(result["best_returns"]) == 2
    assert max(result["returns"][0]) < result["best_returns"][0]
    written = path.stat().st_mtime_ns
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert path.stat().st_mtime_ns == written
    assert again == output


@pytest.mark.slow
def test_an_unknown_cell_is_refused(tmp_path):
    command = [sys.executable, SCRIPT, "--cells=nothing", f"--out={tmp_path / 'cells.json'}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "no cell has any of ['nothing'] in its name; known: inventory_pathwise" in result.stderr

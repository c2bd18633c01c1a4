"""scripts/evidence/compare_objectives.py: a cell is trained once; figure and table come from the
files.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "compare_objectives.py"
METRICS = ("eval/pass_at_1", "eval/pass_at_4", "eval/right_answers", "losses/entropy")


def run(*arguments):
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_figure_and_table_come_from_the_files(tmp_path):
    cells = tmp_path / "cells"
    cells.mkdir()
    for name, values in {"grpo": [0.5, 1.0], "dpo": [0.25, 0.25]}.items():
        final = {"mean": sum(values) / 2, "low": min(values), "high": max(values), "each": values}
        curves = [[0, 1], [1, 0] if name == "grpo" else [0, 0.9]]
        cell = {"variant": name, "depth": 3, "updates": [10, 20], "eval/pass_at_1": curves}
        cell["eval/pass_at_4"] = curves
        cell["config"] = {"num_prompts": "32", "group_size": "8"}
        cell["final"] = dict.fromkeys(METRICS, final)
        (cells / f"{name}_3.json").write_text(json.dumps(cell))
    done = run("--variants=grpo,dpo", "--depths=3", f"--out={cells}")
    assert done.returncode == 0, done.stderr
    # 20 and 10 updates, of 256 answers each.
    soon = "3.8 (2.6 to 5.1)"
    assert f"| 3 | grpo | {soon} | 0.750 (0.500 to 1.000) | 0.500 | 0.750" in done.stdout
    assert "| 3 | dpo | 1 of 2 seeds | 0.250 (" in done.stdout
    assert "written" not in done.stdout
    assert (tmp_path / "cells.png").stat().st_size > 1000


@pytest.mark.slow
def test_a_cell_is_trained_once_and_an_unknown_one_refused(tmp_path):
    flags = ["--variants=top_entropy_half", "--depths=1", "--seeds=2", "--updates=4"]
    flags.append(f"--out={tmp_path / 'cells'}")
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "cells").iterdir()
    result = json.loads(path.read_text())
    assert result["options"] == {"keep": 0.5}
    assert result["updates"] == [1, 2, 3, 4]
    assert all(len(result[name]) == 2 and len(result[name][0]) == 4 for name in METRICS)
    written = path.stat().st_mtime_ns
    # But for the line that says what was trained.
    assert run(*flags).stdout.splitlines() == done.stdout.splitlines()[1:]
    assert path.stat().st_mtime_ns == written
    refused = run("--variants=gpro", f"--out={tmp_path}")
    assert refused.returncode != 0
    assert "unknown variants ['gpro']; known: grpo" in refused.stderr

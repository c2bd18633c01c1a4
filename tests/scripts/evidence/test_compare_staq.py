"""scripts/evidence/compare_staq.py: figure and table come from the files; what is there is not
trained again.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "compare_staq.py"


@pytest.mark.slow
def test_the_oscillation_is_worked_out_from_the_files(tmp_path):
    cells = tmp_path / "cells"
    cells.mkdir()
    steps = [100 * (i + 1) for i in range(8)]
    for name in ("staq_1", "staq_30", "staq_300", "ppo"):
        result = {
            "title": name,
            "seeds": [0],
            "steps": steps,
            "returns": [[0, 9, 9, 9, 10, 30, 20, 20]],
        }
        (cells / f"{name}.json").write_text(json.dumps(result))
    command = [sys.executable, SCRIPT, f"--out={cells}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "written" not in output
    # the second half is 10, 30, 20, 20: differences 20, 10, 0, mean 10; its mean is 20
    assert "| staq_30 | 20.0 | 20.0 | 20.0 | 10.0 (10.0 to 10.0) |" in output
    assert (tmp_path / "cells.png").stat().st_size > 1000

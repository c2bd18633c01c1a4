"""scripts/evidence/compare_papers.py: a cell of the family says what an iteration takes, and all of
them are drawn.
"""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EVIDENCE = Path(__file__).parents[3] / "scripts" / "evidence"


@pytest.mark.slow
def test_a_family_is_measured_and_drawn(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(EVIDENCE)
    monkeypatch.setattr(sys, "argv", ["compare_papers.py"])
    spec = importlib.util.spec_from_file_location("compare_papers", EVIDENCE / "compare_papers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cell = module.run_cell(module.CELLS["family_cartpole_fixpo"], seeds=2, total_steps=8192)
    assert np.shape(cell["returns"]) == np.shape(cell["losses/max_kl"])
    assert len(cell["steps"]) == 8192 // cell["steps"][0]  # a row for each iteration
    taken = module.times_of(module.CELLS["family_cartpole_fixpo"], iterations=2, repeats=3)
    assert 0.0 < taken["collecting_ms"] < taken["iteration_ms"]
    times = {}
    for task in module.TASKS:
        for name in module.FAMILY:
            (tmp_path / f"family_{task}_{name}.json").write_text(json.dumps(cell))
            times[f"family_{task}_{name}"] = taken
    (tmp_path / "family_times.json").write_text(json.dumps({"times": times}))
    module.draw(tmp_path, tmp_path / "family.png")
    with Image.open(tmp_path / "family.png") as picture:
        assert picture.width > picture.height > 500

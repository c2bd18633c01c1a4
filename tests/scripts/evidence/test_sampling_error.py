"""scripts/evidence/sampling_error.py: a bandit is sampled, and the divergence is one."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "sampling_error.py"


@pytest.mark.slow
def test_a_bandit_is_sampled(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("sampling_error", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, value in {"SEEDS": 3, "PULLS": (16,), "OUT": tmp_path / "error.json"}.items():
        monkeypatch.setattr(module, name, value)
    module.main()
    cells = json.loads((tmp_path / "error.json").read_text())["cells"]
    assert [cell["step_size"] for cell in cells] == list(module.RATES)
    assert all(len(cell["kl"]) == 3 and min(cell["kl"]) > 0.0 for cell in cells)
    assert "| 16 | on-policy |" in capsys.readouterr().out

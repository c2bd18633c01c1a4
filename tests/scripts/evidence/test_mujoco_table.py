"""scripts/evidence/mujoco_table.py, with a pendulum for the robots: a cell that was stopped goes on
where it was, bit for bit, and the table has what ran beside what is published.
"""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

EVIDENCE = Path(__file__).parents[3] / "scripts" / "evidence"

pytestmark = pytest.mark.slow


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mujoco_table.py"])
    spec = importlib.util.spec_from_file_location("mujoco_table", EVIDENCE / "mujoco_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.TASKS["hopper"] = "gymnax/Pendulum-v1"
    sizes = {"actor_hidden_sizes": (8,), "critic_hidden_sizes": (8,), "buffer_size": 200}
    small = sizes | {"batch_size": 8, "learning_starts": 30}
    module.ALGORITHMS["crossq256"] = ("crossq", small)
    monkeypatch.setattr(module, "EVERY", 50)
    monkeypatch.setattr(module, "MARKS", (50, 100, 150))
    monkeypatch.setattr(module, "EPISODES", 2)
    return module


CELL = "crossq256_hopper"


def test_a_cell_goes_on_where_it_was(script, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()

    def run(folder, total_steps):
        script.run_cell(CELL, 2, total_steps, folder, folder / "runs")
        return json.loads((folder / f"{CELL}.json").read_text())

    expected = run(whole, 150)
    assert [len(each) for each in expected["returns"]] == [3, 3]
    assert expected["returns"][0] != expected["returns"][1]
    # Three steps in an iteration, of which the first ends after 30 + 3 steps.
    assert expected["steps"] == [51, 102, 150]
    assert run(parts, 100)["returns"] == [each[:2] for each in expected["returns"]]
    (parts / f"{CELL}.json").unlink()  # stopped before it was written
    assert run(parts, 150)["returns"] == expected["returns"]
    assert len(list((parts / "runs" / CELL).iterdir())) == 1
    lines = script.table(parts).splitlines()
    mean = sum(each[0] for each in expected["returns"]) / 2
    [row] = [line for line in lines if line.startswith("| crossq256, 2 seeds | ")]
    assert row.startswith(f"| crossq256, 2 seeds | {mean:.0f} ± ")


def test_the_table_has_what_is_published(script, tmp_path):
    script.MARKS, script.EVERY = (100_000, 200_000, 300_000), 25_000
    lines = script.table(tmp_path).splitlines()
    sac = "SAC: one update per step, ten seeds, Gymnasium v4"
    assert f"| *{sac}* | 1103 ± 368 | 2342 ± 921 | 2160 ± 981 |" in lines
    assert "| *CrossQ: arXiv 1902.05605, Gymnasium v4* | 2887 |  |  |" in lines


def test_steps_and_updates_are_timed_both_ways(script):
    times = script.times_of(CELL, seeds=2, iterations=2)
    assert set(times) == {"vmapped", "in turn"}
    for each in times.values():
        # One update per environment step, of each seed.
        assert 0.0 < each["steps_per_s"] == each["updates_per_s"]

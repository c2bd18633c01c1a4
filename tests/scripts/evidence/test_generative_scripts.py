"""The scripts that measure generative policies: cells are made once, tables are of files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "scripts" / "evidence"


def run(name, *arguments):
    command = [sys.executable, FOLDER / f"{name}.py", *arguments]
    # Compiled better than the other tests are: most of it is SAC's updates.
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=2"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_two_bumps_are_looked_for(tmp_path):
    flags = ["--cells=ppo,gorl_short", "--seeds=2", "--iterations=12", f"--out={tmp_path}"]
    done = run("gorl_two_bumps", *flags)
    assert done.returncode == 0, done.stderr
    cell = json.loads((tmp_path / "gorl_short.json").read_text())
    for name in ("reward", "near", "both"):
        assert len(cell[name]["each"]) == 2 and 0.0 <= cell[name]["mean"] <= 1.0
    assert done.stdout.splitlines()[-1].startswith("| gorl_short | ")
    assert run("gorl_two_bumps", *flags).stdout == done.stdout
    assert "unknown cells ['spo']" in run("gorl_two_bumps", "--cells=spo").stderr


@pytest.mark.slow
def test_pendulum_is_generated_and_its_own_steps_have_no_error(tmp_path):
    out = tmp_path / "guided.json"
    sizes = ["--updates=20", "--data_steps=2000", "--seeds=2"]
    done = run("guided_pendulum", *sizes, f"--out={out}")
    assert done.returncode == 0, done.stderr
    cells = json.loads(out.read_text())["cells"]
    assert len(cells["0.0"]["error"]["each"]) == 2 and len(cells["copies"]["error"]["each"]) == 1
    assert cells["copies"]["error"]["mean"] < 0.01 < cells["0.0"]["error"]["mean"]
    assert cells["3.0"]["likelihood"]["mean"] > cells["0.0"]["likelihood"]["mean"]


@pytest.mark.slow
def test_expo_is_put_beside_sac(tmp_path):
    flags = ["--cells=expo", "--seeds=2", "--steps=300", "--sac_steps=3500", "--data_steps=400"]
    flags += [f"--out={tmp_path / 'cells'}", f"--files={tmp_path / 'files'}"]
    done = run("compare_expo", *flags)
    assert done.returncode == 0, done.stderr
    cell = json.loads((tmp_path / "cells" / "expo.json").read_text())
    assert cell["data"]["transitions"] == 400 and len(cell["returns"]) == 2
    assert run("compare_expo", *flags).stdout == done.stdout

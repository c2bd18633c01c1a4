"""scripts/evidence/campaign_faults.py runs a trial once, and names what is neither survived nor
refused.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "campaign_faults.py"


@pytest.mark.slow
def test_a_trial_is_run_once_and_the_table_names_what_is_neither(tmp_path):
    path = tmp_path / "faults.jsonl"
    command = [sys.executable, SCRIPT, f"--out={path}", "--parts=hostile"]
    only = ["--only=VectorEnv(num_envs=0),Discrete(0)"]
    environ = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([*command, *only], check=True, capture_output=True, env=environ)
    header, *lines = map(json.loads, path.read_text().splitlines())
    assert header["versions"]["jax"]
    assert [(line["trial"], line["outcome"], line["code"]) for line in lines] == [
        ("call: VectorEnv(num_envs=0)", "refused", 2),
        ("call: Discrete(0)", "refused", 2),
    ]
    assert lines[0]["sentence"] == "ValueError: num_envs=0: must be at least 1"
    with path.open("a") as file:
        file.write(
            json.dumps(
                {
                    **lines[1],
                    "trial": "call: another",
                    "outcome": "else",
                    "sentence": "was accepted",
                }
            )
        )
        file.write("\n")
    before = path.read_text()
    again = subprocess.run(
        [*command, *only], check=True, capture_output=True, text=True, env=environ
    )
    assert path.read_text() == before
    assert (
        "| hostile | 3 | 0 | 2 | 1 |\n* hostile, call: another (exit 2): was accepted"
        in again.stdout
    )

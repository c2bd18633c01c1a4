"""scripts/evidence/bench_offline.py: sides run on the same data, and peers' files are read with
stand-ins.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from onejit import envs
from onejit.algos import dataset
from onejit.algos.host import dataset_files

SCRIPTS = Path(__file__).parents[3] / "scripts" / "evidence"
pytestmark = pytest.mark.slow

# What the peers' files have at their top, and what it must be to them.
PEER = """
import os
import d4rl, gym, tqdm, tyro, wandb
from omegaconf import OmegaConf
from pydantic import BaseModel

os.environ["XLA_FLAGS"] = "--xla_unknown=True"


class Config(BaseModel):
    size: int = 2
    rate: float = 0.5


def rows(env: gym.Env):
    return d4rl.qlearning_dataset(env)


config = Config(**OmegaConf.from_cli())
other = Config(size=3)
"""


@pytest.fixture
def data():
    env = envs.make("gymnax/Pendulum-v1")
    known = {"env_id": "gymnax/Pendulum-v1", "random_score": -1200.0, "expert_score": -150.0}
    return dataset.record_random(env, jax.random.key(0), num_steps=400, num_envs=2, **known)


def test_sides_alternate_and_lines_are_kept(tmp_path, data):
    file = dataset_files.save(tmp_path / "data.npz", data)
    out = tmp_path / "lines.jsonl"
    command = [sys.executable, SCRIPTS / "bench_offline.py", "--peers=onejit", f"--out={out}"]
    command += ["--algorithms=iql", "--repeats=2", "--updates=200", f"--data={file}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    assert {line["data"]["checksum"] for line in lines} == {data.checksum}
    scores = [line["normalized_score"] for line in lines]
    score = 100.0 * (lines[0]["final_return"] + 1200.0) / 1050.0
    assert scores[0] == pytest.approx(score, abs=0.06)
    row = done.stdout.splitlines()[-1]
    assert row.startswith("| iql | onejit | ") and f" {np.mean(scores):.1f} (" in row
    refused = subprocess.run([*command, "--updates=250"], capture_output=True, text=True)
    assert refused.returncode != 0 and "must be a multiple of 200" in refused.stderr


def test_a_peers_file_is_read_with_stand_ins(tmp_path, data, monkeypatch):
    path = tmp_path / "peer.py"
    path.write_text(PEER)
    spec = importlib.util.spec_from_file_location("run", SCRIPTS / "bench_offline_run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    for name in ("d4rl", "gym", "tqdm", "tyro", "wandb", "omegaconf", "pydantic", "peer"):
        monkeypatch.setitem(sys.modules, name, None)  # and as it was, afterwards
    before = os.environ.get("XLA_FLAGS")
    module = run.load(path, data)
    assert os.environ.get("XLA_FLAGS") == before
    assert module.config.size == 2 and module.other.size == 3 and module.other.rate == 0.5
    assert hash(repr(module.config)) != hash(repr(module.other))
    rows = module.rows(None)
    np.testing.assert_array_equal(rows["actions"], data.transitions.action)
    assert rows["terminals"].dtype == np.float32 and not rows["terminals"].any()

"""scripts/to_onnx.py on an exported policy, where its environment has been built."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import export

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "to_onnx.py"


@pytest.fixture(scope="module")
def main():
    spec = importlib.util.spec_from_file_location("to_onnx", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_what_is_no_export_or_has_no_lines_is_refused_in_a_sentence(main, tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"to_onnx.py: {tmp_path / 'nowhere'}: is no exported policy\n"
    (tmp_path / "manifest.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert "has no lines of numpy to convert" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".venv-onnx").exists(), reason="the script builds .venv-onnx")
def test_onnxruntime_acts_as_the_policy_does(tmp_path):
    sizes = {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "hidden_sizes": (8,)}
    config = ppo.Config(**sizes, memory="gru", memory_size=8, normalize_obs=True)
    algorithm = ppo.make(envs.make("gymnax/Pendulum-v1"), config)
    parity = ROOT / "scripts" / "evidence" / "export_parity.py"
    spec = importlib.util.spec_from_file_location("export_parity", parity)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path / "policy"
    export.export_policy(algorithm, script.random_state(algorithm), folder)
    command = [sys.executable, SCRIPT, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["difference"] < 1e-5
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (folder / "policy.onnx").is_file() and "policy.onnx" in manifest["files"]

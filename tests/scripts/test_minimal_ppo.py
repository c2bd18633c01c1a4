"""scripts/minimal_ppo.py: short, on losses and envs alone, and it learns."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from onejit import envs

SCRIPT = Path(__file__).parents[2] / "scripts" / "minimal_ppo.py"


def load():
    spec = importlib.util.spec_from_file_location("minimal_ppo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_is_one_short_file_on_losses_and_envs():
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 180
    nodes = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module == "onejit"
    ]
    assert [alias.name for node in nodes for alias in node.names] == ["envs", "losses"]


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.slow
def test_learns_a_probe(continuous):
    minimal = load()
    config = minimal.Config(total_steps=60 * 512, num_envs=32, num_steps=16, learning_rate=3e-3)
    train = minimal.make_train(envs.make("probe/observation", continuous=continuous), config)
    _, returns = jax.jit(train)(jax.random.key(0))
    # Guessing gives 0.5, the right action 1; the policy still explores.
    assert np.mean(returns[-5:]) > 0.9


@pytest.mark.slow
def test_runs_as_a_script():
    command = [
        sys.executable,
        SCRIPT,
        "--env=gymnax/Pendulum-v1",
        "--total_steps=4096",
        "--seed=1",
    ]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.count("iteration") == 2

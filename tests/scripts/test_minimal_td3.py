"""scripts/minimal_td3.py: short, on losses and envs alone, and it learns."""

import ast
import importlib.util
from pathlib import Path

import jax
import numpy as np
import pytest

from onejit import envs

SCRIPT = Path(__file__).parents[2] / "scripts" / "minimal_td3.py"


def load():
    spec = importlib.util.spec_from_file_location("minimal_td3", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_is_one_short_file_on_losses_and_envs():
    text = SCRIPT.read_text()
    assert len(text.splitlines()) <= 200
    nodes = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.module == "onejit"
    ]
    assert [alias.name for node in nodes for alias in node.names] == ["envs", "losses"]


@pytest.mark.slow
def test_learns_a_probe(jit_to_learn):
    minimal = load()
    config = minimal.Config(
        total_steps=16 * 700,
        num_envs=16,
        learning_starts=512,
        batch_size=64,
        exploration_noise=1.0,
        tau=0.05,
    )
    train = minimal.make_train(envs.make("probe/observation", continuous=True), config)
    # The checker of jax 0.10.2 refuses scans over keys that are vmapped.
    with jax.debug_key_reuse(False):
        history = jit_to_learn(jax.vmap(train))(jax.random.split(jax.random.key(0), 4))[1]
    returns = np.mean(history[:, -20:], axis=1)
    # Guessing gives 0.5. The right action gives 0.84: the noise turns ±1 around with probability
    # Φ(−1) = 0.16. A seed whose actor saturates on the wrong side of the threshold before the
    # critics know better is stuck there.
    assert sum(each > 0.8 for each in returns) >= 2, returns

"""scripts/evidence/two_bumps.py: every method on a short run, and the figure from the files."""

import functools
import importlib
import json
import subprocess
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "evidence" / "two_bumps.py"


def module(name):
    """Of the folder of the script, which Python finds when it runs the script."""
    with mock.patch.object(sys, "path", [str(SCRIPT.parent), *sys.path]):
        return importlib.import_module(name)


@functools.cache
def cell(method, updates):
    train = functools.partial(module("two_bumps").train, method=method, reward="right")
    return jax.device_get(
        jax.jit(functools.partial(train, pretraining=200, updates=updates))(jax.random.key(0))
    )


def require_sound(found):
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    for when in ("before", "after"):
        share = found[when]["right"]
        np.testing.assert_allclose(found[when]["kept"], 2.0 * min(share, 1.0 - share), rtol=1e-6)


@pytest.mark.slow
def test_the_flow_has_both_bumps_and_loop_raises_the_reward_of_one():
    found = cell("loop", 60)
    require_sound(found)
    assert found["before"]["kept"] > 0.6
    assert found["after"]["reward"] > found["before"]["reward"] + 0.1
    assert found["after"]["right"] > found["before"]["right"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["grpo_guard", "find", "ac_flow", "gpc"])
def test_every_method_raises_the_reward(method):
    found = cell(method, 60)
    require_sound(found)
    assert found["after"]["reward"] > found["before"]["reward"]


@pytest.mark.slow
def test_the_first_log_ratios_are_none_and_the_means_are_those_of_the_chain():
    flows, methods = module("two_bumps_flow"), module("two_bumps_methods")
    flow = flows.pretrain(jax.random.key(0), "two", 2)
    policy = flows.Policy(flow, np.zeros(2, np.float32), np.ones(2, np.float32))
    points, means = flows.sample(policy, jax.random.key(1), 2, 3)
    assert points.shape == (2, 3, flows.STEPS + 1, 2)
    rewards = module("two_bumps").right(points[..., -1, :])
    samples = methods.Samples(points, means, rewards, policy, flow)
    now = methods.means_now(policy, samples)
    np.testing.assert_allclose(now, means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(methods.step_log_ratio(now, samples), 0.0, atol=1e-4)


@pytest.mark.slow
def test_cells_are_trained_once_and_an_unknown_method_refused(tmp_path):
    def run(*arguments):
        command = [sys.executable, SCRIPT, *arguments, f"--out={tmp_path / 'cells'}"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    few = ["--methods=loop,gpc", "--rewards=radial", "--seeds=2", "--pretraining=5", "--updates=2"]
    done = run(*few)
    assert done.returncode == 0, done.stderr
    assert "| radial | gpc |" in done.stdout
    assert (tmp_path / "cells.png").stat().st_size > 1000
    path = tmp_path / "cells" / "loop_radial.json"
    result = json.loads(path.read_text())
    assert len(result["curve"]) == 2 and len(result["after"]["kept"]["each"]) == 2
    written = path.stat().st_mtime_ns
    assert "written" not in run(*few).stdout
    assert path.stat().st_mtime_ns == written
    refused = run("--methods=lop")
    assert refused.returncode != 0
    assert "unknown methods ['lop']; known: loop" in refused.stderr

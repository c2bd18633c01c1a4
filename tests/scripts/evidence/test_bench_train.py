"""bench_train.py prints lines that a machine reads; bench_peers.py names the same cases for both
sides.
"""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts" / "evidence"
KEYS = {"peer", "case", "compile_s", "run_s", "cpu_s", "steps_per_s", "final_return", "versions"}


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_run_gives_a_line_with_every_key():
    bench = load("bench_train")
    case = bench.Case("probe/action", 4096, 2, eval_episodes=4)
    lines = [json.loads(json.dumps(line)) for line in bench.bench("tiny", case, 2, 7)]
    assert [line["seed"] for line in lines] == [7, 8]
    assert all(line.keys() >= KEYS for line in lines)
    # Both seeds count, and run_s is rounded to milliseconds.
    run_s = lines[0]["run_s"]
    steps = 2 * 4096
    assert steps / (run_s + 0.0006) <= lines[0]["steps_per_s"] <= steps / max(run_s - 0.0006, 1e-9)
    assert lines[0]["versions"]["jax"]


def test_all_sides_of_the_comparison_know_the_same_cases_and_steps(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    sb3 = "stable_baselines3.common"
    beside = [f"{sb3}.{each}" for each in ("env_util", "evaluation", "noise", "vec_env")]
    rejax = ("rejax", "rejax.compat", "rejax.networks")
    for name in (*rejax, "ajax", "ajax.evaluate", "sbx", "stable_baselines3", sb3, *beside):
        monkeypatch.setitem(sys.modules, name, mock.MagicMock())  # each lives by itself
    ours, rejax, ajax = (
        {name: (case.steps, max(case.seeds, 1)) for name, case in load(script).CASES.items()}
        for script in ("bench_train", "bench_rejax", "bench_ajax")
    )
    assert (rejax | ajax).items() <= ours.items()
    peers = load("bench_peers")
    assert set(peers.KNOWN_CASES["onejit"]) == set(ours)
    assert set(peers.KNOWN_CASES["rejax"]) == set(rejax)
    assert set(peers.KNOWN_CASES["ajax"]) == set(ajax)
    for peer in ("brax", "sbx"):
        theirs = {name: case.steps for name, case in load(f"bench_{peer}").CASES.items()}
        assert theirs == {name: ours[name][0] for name in peers.KNOWN_CASES[peer]}
    purejaxrl = {
        name: (config["TOTAL_TIMESTEPS"], max(seeds, 1))
        for name, (_, config, seeds) in load("bench_purejaxrl").CASES.items()
    }
    assert purejaxrl == {name: ours[name] for name in peers.KNOWN_CASES["purejaxrl"]}


def test_tables_have_medians_and_the_best_in_bold(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    bench = load("bench_peers")

    def line(peer, speed, **more):
        return {"peer": peer, "case": "ppo_cartpole", "steps_per_s": speed, "compile_s": 3.0} | more

    lines = [line("onejit", speed) for speed in (1000.0, 3000.0, 2000.0)]
    lines += [line("rejax", 1500.0, compile_s=2.0), {"peer": "rejax", "case": "ppo_cartpole"}]
    shown = bench.tables(lines).splitlines()
    assert shown[0] == "| steps a second | runs | onejit | rejax |"
    assert "| ppo_cartpole | 2–3 | **2,000** | 1,500 (1 of 2 ended) |" in shown
    assert "| ppo_cartpole | 2–3 | 3.0 | **2.0 (1 of 2 ended)** |" in shown


@pytest.mark.slow
def test_an_unknown_case_is_refused():
    command = [sys.executable, SCRIPTS / "bench_train.py", "--cases=ppo_chess"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert re.search("unknown cases.*ppo_chess.*ppo_cartpole", result.stderr)

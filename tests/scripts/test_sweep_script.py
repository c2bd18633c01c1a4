"""scripts/sweep.py as a user types it."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import checkpoint, cli, plotting, run_folder, sweep_cli, sweeps
from onejit.algos.host.sweeps import Outcome

SCRIPT = Path(__file__).parents[2] / "scripts" / "sweep.py"
TINY = [
    "--env=probe/observation",
    "--num_envs=4",
    "--num_minibatches=2",
    "--hidden_sizes=8",
    "--eval_episodes=2",
    "--num_seeds=2",
    "--total_steps=3200",
    "--num_logs=10",
]
SETTINGS = ["--grid", "learning_rate=1e-3,1e-2,3e-2", "--grid", "num_steps=8,16"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--algorithm=pppo"], "algorithm=pppo: must be one of a2pr, .* ppo, "),
        (["--grid", "speed=1,2"], "speed=swept: is no hyperparameter"),
        (["--grid", "gamma"], "grid=gamma: must be name=values"),
        (["--grid", "gamma=0.9,high"], "gamma=high: must be of the kind float"),
        (["--grid", "gamma=0.9,1.5"], "gamma=1.5: must be a number at least 0"),
        (["--grid", "num_steps=8,8.5"], "num_steps=8.5: must be of the kind int"),
        (["--grid", "num_steps=8,0"], "num_steps=0: must be an integer at least 1"),
        (["--grid", "hidden_sizes=8x8,big"], "hidden_sizes=big: must be of the kind widths"),
        (["--grid", "total_steps=1000,2000"], "total_steps=swept: is the length of all runs"),
        (["--grid", "gamma=0.9", "--grid", "gamma=0.8"], "a hyperparameter is given twice"),
        (["--draw", "gamma=normal(0,1)"], "must be name=DISTRIBUTION"),
        (["--draw", "gamma=uniform(0.9)"], "must have two bounds"),
        (["--draw", "gamma=uniform(1,0.9)"], "uniform=.*the smaller first"),
        (["--draw", "gamma=uniform(0,1)", "--grid", "gamma=0.9"], "give one of the two"),
        (["--algorithm=td3"], "grid: say what of td3 is to be swept"),
        (["--resume=nowhere"], "nowhere/sweep.json: cannot be read"),
        (["--resume=nowhere", "--seed=1"], "seed: cannot be changed when a sweep is resumed"),
    ],
)
def test_wrong_input_is_refused_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        sweep_cli.main(["sweep.py", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_help_explains_the_flags_of_the_algorithm_and_of_the_sweep(capsys):
    with pytest.raises(SystemExit) as caught:
        sweep_cli.main(["sweep.py", "--algorithm=spo", "--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}: " in shown for name in ("grid", "draw", "eps"))


def test_the_table_has_the_best_first_and_what_met_a_fault_last():
    settings = {"learning_rate": [1e-3, 1e-2, 1.0], "hidden_sizes": [(8,), (8, 8), (8,)]}
    outcomes = [
        Outcome(np.array([1.0, 3.0]), None),
        Outcome(np.array([4.0, 4.0]), None),
        Outcome(np.array([9.0, np.nan]), "non-finite loss"),
    ]
    rows = sweep_cli.results(settings, outcomes)
    assert sweeps.best_setting(outcomes) == 1
    # (1 + 3)/2 = 2; resamples of two seeds are 1, 2 or 3, the extremes a quarter each.
    assert (rows[0]["mean"], rows[0]["interval"]) == (2.0, [1.0, 3.0])
    lines = [line.split() for line in sweep_cli.table(settings, rows)]
    assert [line[0] for line in lines[1:]] == ["0.01", "0.001", "1"]
    assert lines[1][1:3] == ["8,8", "4.0"]


def test_a_sweep_is_described_whole_with_infinities_and_widths(tmp_path):
    values = sweep_cli._define_flags(ppo, "ppo")
    cli.parse(values, ["sweep.py", "--grid", "vf_clip_eps=inf,0.2", "--grid", "hidden_sizes=8x4,8"])
    run = cli.new_run(ppo, values, "ppo")
    run |= {"chunk": 4, "devices_per_member": 2}
    run["settings"] = sweep_cli._settings(ppo, values, run)
    inf = float("inf")
    assert run["settings"] == {
        "vf_clip_eps": [inf, inf, 0.2, 0.2],
        "hidden_sizes": [(8, 4), (8,), (8, 4), (8,)],
    }
    sweeps.write(tmp_path, run)
    assert sweeps.read(tmp_path)["settings"] == run["settings"]
    (tmp_path / sweeps.FILE).write_text((tmp_path / sweeps.FILE).read_text().replace("chunk", "c"))
    with pytest.raises(run_folder.RunFolderError, match='"chunk" is missing or damaged'):
        sweeps.read(tmp_path)


def test_what_could_not_be_logged_counts_too(tmp_path, monkeypatch):
    first, last = (
        {"step": 32 * (i + 1), "eval/episodic_return": [returns, 2.0], "charts/fault": [0.0, 0.0]}
        for i, returns in enumerate((1.0, 3.0))
    )
    (tmp_path / "metrics.jsonl").write_text(json.dumps(first) + "\n")
    monkeypatch.setattr(run_folder, "last_checkpoint", lambda folder: folder)
    monkeypatch.setattr(run_folder, "read_metadata", lambda path: {"waiting": [first, last]})
    part = sweeps.Part(None, {}, np.array([7]), 0)
    [(place, outcome)] = sweeps._outcomes(part, tmp_path, 2).items()
    assert (place, outcome.returns.tolist()) == (7, [3.0, 2.0])


@pytest.mark.parametrize(
    "settings, shapes",
    [
        ({"a": [1.0, 1.0, 2.0, 2.0], "b": [3, 4, 3, 4]}, ["image"]),
        ({"a": [1e-3, 1e-2, 1e-1, 1.0], "b": [3, 3, 3, 3]}, ["log"]),
        ({"a": [1.0, 1.1, 1.2, 1.3], "b": ["x", "y", "x", "y"]}, ["linear", "linear"]),
    ],
)
def test_two_axes_are_a_heat_map_one_is_a_line_and_others_are_panels(
    settings, shapes, tmp_path, monkeypatch
):
    from matplotlib.figure import Figure

    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *a, **k: (figures.append(a[0]), save(*a, **k)))
    returns = np.arange(8.0).reshape(4, 2)
    plotting.plot_sweep(tmp_path / "sweep.png", settings, returns, "a sweep")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    axes = [each for each in figures[0].axes if each.get_label() != "<colorbar>"]
    assert [("image" if each.images else each.get_xscale()) for each in axes] == shapes
    if shapes == ["image"]:
        # a goes across and b down: at a = 2, b = 3 is the third setting, mean (4 + 5)/2.
        assert axes[0].images[0].get_array()[0, 1] == 4.5


def run_in_process(folder, settings, chunk):
    """The sweep of SETTINGS, without compiling in another process."""
    values = sweep_cli._define_flags(ppo, "ppo")
    cli.parse(values, ["sweep.py", *TINY, *settings])
    run = cli.new_run(ppo, values, "ppo")
    run |= {"chunk": chunk, "devices_per_member": 1}
    run["settings"] = sweep_cli._settings(ppo, values, run)
    parts = sweeps.plan(ppo, cli.make_env(run), run, chunk)
    folder.mkdir(exist_ok=True)
    console = Console(file=io.StringIO())
    return parts, run, sweeps.run_parts(parts, folder, run, console), console.file.getvalue()


@pytest.mark.slow
def test_parts_and_the_winner_are_runs_as_alone(tmp_path):
    parts, run, outcomes, said = run_in_process(tmp_path, SETTINGS[:2], 2)
    # Three settings in parts of two, the second filled up by one.
    assert [part.places.tolist() for part in parts] == [[0, 1], [2]]
    assert [len(part.columns["learning_rate"]) for part in parts] == [2, 2]
    assert "best so far" in said
    winner, problem = sweeps.save_winner(parts, tmp_path, run, ppo, 2)
    flags = [each for each in TINY if "num_logs" not in each]
    with pytest.raises(SystemExit) as caught:
        cli.main(
            ppo,
            [
                "ppo.py",
                *flags,
                "--num_logs=10",
                "--num_evals=5",
                "--learning_rate=3e-2",
                f"--out={tmp_path}/alone",
            ],
        )
    assert caught.value.code == 0
    [alone] = (tmp_path / "alone").iterdir()
    algorithm = ppo.make(envs.make("probe/observation"), parts[0].algorithm.config)
    like = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), 2))
    a, b = (
        checkpoint.restore(run_folder.last_checkpoint(each / "checkpoints"), like)
        for each in (winner, alone)
    )
    np.testing.assert_array_equal(*(jax.random.key_data(each.key) for each in (a, b)))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
        a.learner.params,
        b.learner.params,
    )
    assert run_folder.read(winner)["config"] == run_folder.read(alone)["config"]
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", f"--resume={winner}", "--total_steps=4000"])
    assert caught.value.code == 0


def sweep(*arguments):
    return subprocess.Popen(
        [sys.executable, SCRIPT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def stop_when(process, pattern, folder, number):
    deadline = time.monotonic() + 120
    while not list(folder.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    return process.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["harpg", "tokens"])
def test_algorithms_without_a_preset_are_swept_too(name, tmp_path):
    rates = ["--grid", "learning_rate=1e-3,1e-2", "--total_steps=64", "--num_logs=1"]
    sizes = {
        "harpg": ["--num_envs=4", "--horizon=8", "--hidden_sizes=8"],
        "tokens": ["--env_options=depth=1", "--num_prompts=4", "--hidden_size=8"],
    }
    arguments = [f"--algorithm={name}", *rates, *sizes[name], "--eval_episodes=2"]
    with pytest.raises(SystemExit) as caught:
        sweep_cli.main(["sweep.py", *arguments, "--num_seeds=1", f"--out={tmp_path}"])
    assert caught.value.code == 0
    [folder] = tmp_path.iterdir()
    assert len(json.loads((folder / "sweep.json").read_text())["results"]) == 2


@pytest.mark.slow
def test_a_sweep_that_was_killed_and_stopped_ends_as_one_that_was_not(tmp_path):
    longer = [*TINY, "--total_steps=12800", "--num_logs=40", "--num_evals=20", *SETTINGS]
    first = sweep(f"--out={tmp_path}/stopped", *longer)
    saved = "stopped/*/parts/{}/checkpoints/0*"
    assert stop_when(first, saved.format("000"), tmp_path, signal.SIGKILL) == -signal.SIGKILL
    [folder] = (tmp_path / "stopped").iterdir()
    assert json.loads((folder / "sweep.json").read_text())["results"] is None
    second = sweep(f"--resume={folder}")
    assert stop_when(second, saved.format("001"), tmp_path, signal.SIGINT) == 130
    assert "to continue" in second.stdout.read()
    for arguments in ([f"--resume={folder}"], [f"--out={tmp_path}/whole", *longer]):
        process = sweep(*arguments)
        assert process.wait(300) == 0, process.stdout.read()
    [whole] = (tmp_path / "whole").iterdir()
    a, b = (json.loads((each / "sweep.json").read_text()) for each in (folder, whole))
    assert a["results"] == b["results"]
    assert len(a["results"]) == 6
    assert (folder / "sweep.png").exists()

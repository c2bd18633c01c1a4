"""Several processes on the loopback address train one model."""

import json
import os
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from onejit.algos import ppo
from onejit.algos.host import checkpoint, cli, processes, sweep_cli

TINY = [
    "--env=probe/observation",
    "--num_envs=8",
    "--batch_size=16",
    "--buffer_size=512",
    "--learning_starts=16",
    "--actor_hidden_sizes=8",
    "--critic_hidden_sizes=8",
    "--eval_episodes=4",
    "--num_logs=8",
    "--num_evals=4",
    "--total_steps=80",  # of which 16 are the replay's first: 8 iterations of 8 environments
]


def start(folder, *flags, num_devices=1):
    environ = os.environ | {"JAX_NUM_CPU_DEVICES": str(num_devices)}
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("joined.py"), folder, *flags],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def ends(processes):
    """(code, standard output, errors, seconds) of each; none is left behind."""
    begun = time.monotonic()
    found = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=240)
            found.append((process.returncode, out, err, time.monotonic() - begun))
    finally:
        for process in processes:
            process.kill()
    return found


def pair(folder, *flags):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    joined = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    return ends([start(folder, *flags, *joined, f"--process_id={i}") for i in (0, 1)])


def run_of(folder):
    [found] = (folder / "runs").iterdir()
    return found


def at(folder, iteration, process):
    return json.loads((folder / f"{iteration}-{process}.json").read_text())


@pytest.mark.slow
def test_two_processes_train_one_model_stop_together_and_go_on(tmp_path):
    whole, alone, stopped = (tmp_path / name for name in ("whole", "alone", "stopped"))
    for folder in (whole, alone, stopped):
        folder.mkdir()

    # Never stopped: both have the same learner, and only the first says anything.
    first, second = pair(whole, *TINY)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "evaluated return" in first[1]
    assert (second[1], second[2]) == ("", "")
    for iteration in (2, 4, 6, 8):
        assert at(whole, iteration, 0) == at(whole, iteration, 1)
    rows = (run_of(whole) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [24, 32, 40, 48, 56, 64, 72, 80]
    assert len(list((run_of(whole) / "tensorboard").iterdir())) == 1
    [last] = checkpoint.checkpoints(run_of(whole) / "checkpoints")[-1:]
    assert {each.name for each in (last / "arrays").glob("ocdbt.process_*")} == {
        "ocdbt.process_0",
        "ocdbt.process_1",
    }

    # One process with as many devices does the same.
    [(code, _, err, _)] = ends([start(alone, *TINY, "--num_devices=2", num_devices=2)])
    assert code == 0, err
    assert at(alone, 8, 0) == at(whole, 8, 0)

    # A signal to both: they agree on where to stop, and save.
    first, second = pair(stopped, *TINY, "--signal")
    assert (first[0], second[0]) == (143, 143), first[2] + second[2]
    assert "in each process" in first[1] and second[1] == ""
    saves = run_of(stopped) / "checkpoints"
    assert checkpoint.checkpoints(saves)[-1].name == "000000005"

    # One killed: the other says so within a minute, and the checkpoint stands.
    first, second = pair(stopped, f"--resume={run_of(stopped)}", "--kill=1")
    assert (first[0], second[0]) == (5, -9) or (first[0], second[0]) == (-6, -9), first[2]
    assert "another process of the run is gone" in first[2] or "another task died" in first[2]
    assert first[3] < 60
    assert checkpoint.checkpoints(saves)[-1].name == "000000005"

    # The pair goes on as if nothing had been.
    first, second = pair(stopped, f"--resume={run_of(stopped)}")
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert at(stopped, 8, 0) == at(stopped, 8, 1) == at(whole, 8, 0)
    steps = [row["step"] for row in map(json.loads, (run_of(stopped) / "metrics.jsonl").open())]
    assert steps == [24, 32, 40, 48, 56, 64, 72, 80]

    # Its checkpoint is restored with 1, 2 and 4 devices, the same everywhere.
    [(code, out, err, _)] = ends([start(stopped, "--restore", num_devices=4)])
    assert code == 0, err
    on_one, on_two, on_four = json.loads(out.splitlines()[-1])
    assert on_one == on_two == on_four
    assert on_one[:2] == list(at(whole, 8, 0).values())


@pytest.mark.parametrize(
    "flags, problem",
    [
        (["--num_processes=2"], "num_processes=2: needs --coordinator=HOST:PORT"),
        (["--process_id=0"], "process_id=0: needs --coordinator=HOST:PORT"),
        (
            ["--coordinator=127.0.0.1", "--num_processes=2", "--process_id=0"],
            "coordinator=127.0.0.1: must be HOST:PORT",
        ),
        (
            ["--coordinator=127.0.0.1:1234", "--process_id=0"],
            "num_processes=None: must be at least 1, with a coordinator",
        ),
        (
            ["--coordinator=127.0.0.1:1234", "--num_processes=2", "--process_id=2"],
            "process_id=2: must be at least 0 and below the 2 processes",
        ),
        (
            [
                "--coordinator=127.0.0.1:1234",
                "--num_processes=2",
                "--process_id=1",
                "--distributed",
            ],
            "distributed=True: finds the coordinator by itself: give one of both",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, problem, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", "--env=probe/observation", *flags])
    assert caught.value.code == 2
    assert f"ppo.py: {problem}\n" == capsys.readouterr().err


def test_a_sweep_is_one_process(capsys):
    with pytest.raises(SystemExit) as caught:
        sweep_cli.main(["sweep.py", "--coordinator=127.0.0.1:1234"])
    assert caught.value.code == 2
    assert "sweep.py: coordinator: a sweep is one process" in capsys.readouterr().err


def test_a_port_that_is_taken_is_refused(capsys):
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("", 0))
        taken.listen()
        address = f"localhost:{taken.getsockname()[1]}"
        flags = [f"--coordinator={address}", "--num_processes=2", "--process_id=0"]
        with pytest.raises(SystemExit) as caught:
            cli.main(ppo, ["ppo.py", *flags])
    assert caught.value.code == 2
    assert "the port cannot be had (Address already in use)" in capsys.readouterr().err


def test_one_process_is_alone(tmp_path):
    assert processes.first() and not processes.several()
    assert processes.largest(15) == 15
    assert processes.of_first(partial(Path, tmp_path)) == tmp_path
    with pytest.raises(ValueError, match="Gloo"), processes.losses_told(lambda: "nothing"):
        raise ValueError("Gloo AllGather failed")

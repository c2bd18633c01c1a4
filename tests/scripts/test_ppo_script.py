"""scripts/ppo.py as a user types it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import checkpoint, cli, logs
from onejit.envs.probes import Probe

SCRIPT = Path(__file__).parents[2] / "scripts" / "ppo.py"
TINY = [
    "--num_envs=4",
    "--num_steps=8",
    "--num_minibatches=2",
    "--hidden_sizes=8",
    "--eval_episodes=2",
]

REFUSED = [
    (["--gamma=1.5"], "gamma=1.5: must be a number at least 0 and at most 1"),
    (["--learning_rate=-1"], "learning_rate=-1.0: must be a number above 0"),
    (["--learning_rate=fast"], "learning_rate"),
    (["--learning_rat=1"], "Did you mean.*learning_rate"),
    (["--num_envs=0"], "num_envs=0: must be an integer at least 1"),
    (["--num_envs=2.5"], "num_envs"),
    (["--hidden_sizes=a,b"], "hidden_sizes"),
    (["--activation=gelu"], "activation"),
    (["--num_minibatches=7"], "num_minibatches=7: must divide"),
    (["--env=gymnax/CartPol-v1"], "did you mean gymnax/CartPole-v1"),
    (["--env=gymnax/CartPole-v1", "--env_options=speed=3"], "no option 'speed'"),
    (["--env_options=speed"], "env_options=speed: must be name=value"),
    (["--env=brax/swimmer"], "brax/swimmer is not offered"),
    (["--num_seeds=0"], "num_seeds=0: must be at least 1"),
    (["--resume=nowhere"], "nowhere/config.json: cannot be read"),
    (["CartPole"], "'CartPole' is not a flag"),
    (["--seed=4294967296"], "seed=4294967296: must be at least 0 and at most 4294967295"),
    (["--seed=1e30"], "seed=1.*: must be at least 0 and at most 4294967295"),
    (["--seed=-1"], "seed=-1: must be at least 0"),
    (
        ["--num_seeds=1e6", *TINY, "--hidden_sizes=512,512"],
        "num_seeds=1000000: must be smaller: .* GiB",
    ),
    (["--ema_decay=1.5"], "ema_decay=1.5: must be at least 0 and at most 1"),
    (["--eval_episodes=1e9"], "eval_episodes=1000000000: must be smaller: .* GiB"),
    (["--update_epochs=1e9"], "update_epochs=1000000000: must be"),
    (["--env_options=gravity=None"], "gymnax/CartPole-v1: gravity=None: must be"),
    (["--env_options=max_steps_in_episode=0"], "max_steps_in_episode=0: must be"),
    (["--norecord=true"], "--norecord=true does not take an argument"),
    (["--resume="], "resume=: must name a run folder"),
    (["--out="], "out=: must name a folder"),
    (["--out=/dev/null"], "out=/dev/null: .* is not a folder"),
    (["--env="], "unknown environment ''"),
]


@pytest.mark.parametrize("arguments, message", REFUSED)
def test_wrong_input_is_refused_in_one_line_with_exit_code_2(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", f"--out={tmp_path}", *arguments])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


class Poisoned(Probe):
    """The reward of every step is NaN."""

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(reward=step.reward + jnp.nan)


class Row(Probe):
    """Its reward is a row of one number."""

    def step(self, key, state, action):
        state, step = super().step(key, state, action)
        return state, step._replace(reward=step.reward[None])


def test_what_an_own_environment_does_wrong_is_said_and_no_folder_is_made(capsys, tmp_path):
    table = envs.make("probe/value").table
    envs.register("mine/row", lambda: Row(table))
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", "--env=mine/row", f"--out={tmp_path}", *TINY])
    assert caught.value.code == 2
    assert re.search(
        r"Row .*\n.*reward must be a float32 scalar, got float32\[1\]", capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())


def test_a_non_finite_number_stops_the_run_with_exit_code_3(capsys, tmp_path):
    table = envs.make("probe/value").table
    envs.register("mine/poisoned", lambda: Poisoned(table))
    with pytest.raises(SystemExit) as caught:
        cli.main(
            ppo, ["ppo.py", "--env=mine/poisoned", f"--out={tmp_path}", *TINY, "--total_steps=320"]
        )
    assert caught.value.code == 3
    error = capsys.readouterr().err
    assert "non-finite reward in iteration 0, step 0 of the rollout, environment 0" in error
    assert "Traceback" not in error


def test_help_explains_every_hyperparameter(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for flag in ("--learning_rate", "--clip_eps", "--num_envs", "--env", "--resume", "--num_seeds"):
        assert f"{flag}: " in text


def test_ctrl_c_keeps_the_work_and_the_printed_command_continues_it(tmp_path, capsys):
    command = [
        sys.executable,
        SCRIPT,
        "--env=probe/observation",
        "--env_options=continuous=False",
        f"--out={tmp_path}",
        "--total_steps=2e9",
        *TINY,
    ]
    process = subprocess.Popen(
        [*command, "--num_logs=1000000", "--num_evals=1000000"], stdout=subprocess.PIPE, text=True
    )
    assert "evaluated return" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 130
    folder = Path(re.search(r"--resume=(\S+)", output)[1])
    assert list((folder / "checkpoints").iterdir())

    # A refused resume leaves the run as it was. What is no part of the run may change.
    with pytest.raises(SystemExit) as refused:
        cli.main(ppo, ["ppo.py", f"--resume={folder}", "--num_envs=8", "--compilation_cache=off"])
    assert refused.value.code == 2
    sentence = "num_envs=8: decides shapes or structure, and was made as 4"
    assert sentence in capsys.readouterr().err

    # Twice as far as it came: the log goes on where it stopped.
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    steps = 2 * json.loads(rows[-1])["step"]
    resumed = [
        sys.executable,
        SCRIPT,
        f"--resume={folder}",
        "--env_options=continuous=False",  # as it is
        f"--total_steps={steps}",
        "--num_logs=20",
        "--num_evals=2",
    ]
    output = subprocess.run(resumed, check=True, capture_output=True, text=True).stdout
    assert "evaluated return" in output
    more = (folder / "metrics.jsonl").read_text().splitlines()
    assert more[: len(rows)] == rows
    assert json.loads(more[-1])["step"] == steps
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["total_steps"] == steps
    assert len(config["commands"]) == 2
    assert (folder / "curve.png").exists()


@pytest.mark.slow
def test_a_closed_pipe_an_ascii_terminal_and_a_hang_up_do_not_end_in_tracebacks(tmp_path):
    command = [sys.executable, SCRIPT, "--env=probe/observation", "--total_steps=2e9", *TINY]
    process = subprocess.Popen(
        [*command, "--num_logs=1000000", "--num_evals=1000000"],
        cwd=tmp_path,  # --out is relative by default
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "evaluated return" in process.stdout.readline()
    process.stdout.close()  # as `head -1` does
    (folder,) = (tmp_path / "runs").iterdir()
    rows = len(logs.read(folder))
    while process.poll() is None and len(logs.read(folder)) < rows + 20:
        time.sleep(0.1)
    process.send_signal(signal.SIGHUP)
    errors = process.stderr.read()
    assert process.wait(timeout=120) == 129, errors
    assert "Traceback" not in errors
    last = checkpoint.checkpoints(folder / "checkpoints")[-1]
    checkpoint.verify(last)
    # Every row up to the checkpoint, once: 2e9 steps are 62.5 million iterations, in a million
    # rows.
    assert [row["step"] for row in logs.read(folder)] == [
        63 * 32 * i for i in range(1, int(last.name) // 63 + 1)
    ]

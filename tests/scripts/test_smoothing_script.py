"""scripts/smoothing.py: one command trains, certifies, attacks and draws; cells are made once."""

import json
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from onejit.algos.host.commands import certify, experiments

SCRIPT = Path(__file__).parents[2] / "scripts" / "smoothing.py"


class Result(NamedTuple):
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """The script as a function of its arguments, in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        return Result(caught.value.code or 0, *capsys.readouterr())

    return call


@pytest.mark.slow
def test_one_command_from_training_to_figure(run, tmp_path):
    command = [
        "--env=gymnax/CartPole-v1",
        "--env_options=max_steps_in_episode=8",
        "--sigmas=0.2",
        "--num_frames=2",
    ]
    command += [
        "--changes=total_steps=2048",
        "--changes=hidden_sizes=(8,)",
        "--budgets=0,0.2",
        "--attack_budgets=0.2",
    ]
    command += ["--strengths=0", "--episodes=50", "--attack_episodes=4", f"--out={tmp_path}"]
    first = run(*command)
    assert first.code == 0, first.stderr
    defended = json.loads((tmp_path / "gymnax_CartPole-v1_0.2.json").read_text())
    assert defended["mean_return"] == 8.0
    # p = 1 in all of 50 episodes: 8·(1 − √(ln 20 / 100)) = 8·0.826918 at budget 0
    assert abs(defended["certified"][0] - 8 * 0.826918) < 1e-4
    assert defended["certified"][1] < defended["certified"][0]
    assert len(defended["attacked"]) == len(defended["strengths"]) == 1
    assert (tmp_path / "gymnax_CartPole-v1.png").stat().st_size > 1000
    again = run(*command)
    assert again.stdout == first.stdout
    other = run(*command, "--seed=1")
    assert other.code == 2
    assert "was made with other settings" in other.stderr


def test_wrong_input_is_refused(run):
    alone = run()
    assert alone.code == 2
    assert "give --env or --experiment" in alone.stderr
    result = run("--env=gymnax/Pendulum-v1", "--algorithm=dqn", "--sigmas=0.1")
    assert result.code == 2
    assert "algorithm=dqn: must be one of" in result.stderr
    assert (
        "changes=gamma: must be name=value"
        in run("--env=gymnax/CartPole-v1", "--changes=gamma").stderr
    )
    assert "episodes are too few" in run("--experiment=cartpole", "--episodes=3").stderr


@pytest.mark.slow
def test_every_experiment_can_be_made():
    for experiment in experiments.EXPERIMENTS.values():
        certify.require_valid(experiment, 10_000)

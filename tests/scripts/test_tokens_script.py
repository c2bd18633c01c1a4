"""scripts/tokens.py as a user types it."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parents[2] / "scripts" / "tokens.py")
TINY = [
    "--env_options=depth=1",
    "--num_prompts=4",
    "--group_size=4",
    "--hidden_size=8",
    "--eval_episodes=2",
    "--num_logs=4",
    "--num_evals=2",
]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(SCRIPT, run_name="__main__")
    return caught.value.code


def test_leaves_a_run_folder_and_resumes_with_the_same_numbers(monkeypatch, tmp_path):
    """Four iterations of 4·4·2 tokens at once, and two and two."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    flags = [*TINY, "--objective=gspo", "--num_seeds=2", "--sample_every=2"]
    assert run(monkeypatch, *flags, "--total_steps=128", f"--out={whole}") == 0
    assert run(monkeypatch, *flags, "--total_steps=64", f"--out={halves}") == 0
    (half,) = halves.iterdir()
    assert run(monkeypatch, f"--resume={half}", "--total_steps=128") == 0
    (folder,) = whole.iterdir()
    assert {"curve.png", "config.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "config.json").read_text())["env_options"] == {
        "depth": 1,
        "response_length": 2,
    }
    last, resumed = (
        json.loads((each / "metrics.jsonl").read_text().splitlines()[-1]) for each in (folder, half)
    )
    assert last["step"] == resumed["step"] == 128
    assert {"eval/episodic_return", "eval/pass_at_1", "eval/pass_at_4"} <= last.keys()
    for name in ("losses/policy_loss", "losses/grad_norm", "eval/pass_at_1"):
        assert len(last[name]) == 2
        assert last[name] == resumed[name]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--objective=gpro"], "objective.*grpo"),
        (["--env=probe/value"], "env=a Probe: must be a TokenEnvironment, such as"),
        (["--env_options=depth=0"], "tokens/brackets: depth=0: must be at least 1"),
        (["--env_options=width=3"], "no option 'width'; it has depth, response_length"),
        (["--num_prompts=1e9"], "num_prompts=1000000000: must be smaller"),
        (["--eval_k=17"], "eval_k=17: must be at most eval_samples = 16"),
        (["--ref_alpha=2"], "ref_alpha=2.0: must be a number at least 0 and at most 1"),
    ],
)
def test_wrong_input_is_refused_in_one_line_with_exit_code_2(
    arguments, message, monkeypatch, capsys, tmp_path
):
    assert run(monkeypatch, *arguments, f"--out={tmp_path}") == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert "Traceback" not in error


def test_help_names_the_objectives(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--objective: What is minimised, by name. One of grpo, dr_grpo, dapo" in text

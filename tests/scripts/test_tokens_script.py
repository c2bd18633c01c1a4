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


@pytest.mark.slow
def test_leaves_a_run_folder_and_resumes(monkeypatch, tmp_path):
    flags = ["--objective=gspo", "--num_seeds=2", "--total_steps=128", f"--out={tmp_path}"]
    assert run(monkeypatch, *TINY, *flags) == 0
    (folder,) = tmp_path.iterdir()
    assert {"curve.png", "config.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    options = json.loads((folder / "config.json").read_text())["env_options"]
    assert options == {"depth": 1, "response_length": 2}
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["step"] == 128  # four iterations of 4·4·2 tokens
    for name in ("eval/episodic_return", "eval/pass_at_1", "eval/pass_at_4", "losses/entropy"):
        assert len(last[name]) == 2
    assert run(monkeypatch, f"--resume={folder}", "--total_steps=192") == 0
    more = (folder / "metrics.jsonl").read_text().splitlines()
    assert more[: len(rows)] == rows
    assert json.loads(more[-1])["step"] == 192


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--objective=gpro"], r"--objective=gpro: value should be one of <grpo\|dr_grpo\|"),
        (["--sampler=mops"], r"--sampler=mops: value should be one of <uniform\|mopps\|sec\|"),
        (
            ["--sampler=mopps", "--num_prompts=200"],
            "num_prompts=200: must be at most pool_size = 128",
        ),
        (["--sampler=sec", "--pool_size=0"], "pool_size=0: must be an integer at least 1"),
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
    assert "What is minimised, by name. One of grpo, dr_grpo, dapo" in text

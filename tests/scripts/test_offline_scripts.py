"""scripts/dataset.py, and the scripts that learn from what it made."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from onejit.algos.host import dataset_files

SCRIPTS = Path(__file__).parents[2] / "scripts"
SIZES = ["--batch_size=8", "--actor_hidden_sizes=8", "--eval_episodes=2", "--num_logs=2"]
RUN = [
    *SIZES,
    "--env=probe/observation",
    "--env_options=continuous=True",
    "--num_envs=4",
    "--learning_starts=16",
    "--buffer_size=400",
    "--critic_hidden_sizes=8",
    "--total_steps=96",
    "--num_evals=1",
]


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{name}.py"), *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return caught.value.code


@pytest.mark.parametrize(
    "name, arguments, sentence",
    [
        ("td3_bc", [], "data=: td3_bc learns from data: name a file of `onejit dataset`"),
        ("ppo", ["--data=x.npz"], "data=x.npz: ppo does not learn from data"),
        ("td3", ["--data_share=0.5"], "data_share=0.5: needs --data=FILE"),
        ("bc", ["--data=x.npz", "--data_share=0.5"], "data_share=0.5: bc learns from data alone"),
        ("td3", ["--data=none.npz"], "none.npz: cannot be read"),
        ("dataset", [], "save=: must name the file to write"),
        ("dataset", ["--save=x", "--what=replay"], "what=replay: says nothing without a --from"),
        (
            "dataset",
            ["--save=x", "--from=y", "--env=gymnax/CartPole-v1"],
            "env=gymnax/CartPole-v1: says nothing with a --from",
        ),
        (
            "dataset",
            ["--save=x", "--compilation_cache=/dev/null/x"],
            "compilation_cache=/dev/null/x: cannot be written",
        ),
        ("dataset", ["--save=x", "--mix=none.npz"], "none.npz: cannot be read"),
        (
            "dataset",
            ["--save=x", "--mix=none.npz", "--expert=y"],
            "expert=y: says nothing of a --mix",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(name, arguments, sentence, monkeypatch, capsys):
    assert run(monkeypatch, name, *arguments) == 2
    said = capsys.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1


def some_run(folder, **changes):
    """A run folder without checkpoints, as far as what is refused before they are read."""
    folder.mkdir()
    counts = ("seed", "num_seeds", "num_devices", "num_logs", "num_evals", "eval_episodes")
    run = {"algorithm": "td3", "env": "gymnax/Pendulum-v1", "env_options": {}, "config": {}}
    run |= dict.fromkeys(counts, 1) | {"ema_decay": 0.0, "changes": [], "commands": []}
    run |= {"record": False, "save_replay": True} | changes
    (folder / "config.json").write_text(json.dumps(run))
    return folder


def test_an_expert_of_another_environment_is_refused(monkeypatch, tmp_path, capsys):
    expert = some_run(tmp_path / "expert", env="gymnax/CartPole-v1")
    save = f"--save={tmp_path / 'data'}"
    assert run(monkeypatch, "dataset", "--env=gymnax/Pendulum-v1", f"--expert={expert}", save) == 2
    sentence = "is not of the data's environment: gymnax/CartPole-v1 and gymnax/Pendulum-v1"
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_from_a_run_to_data_to_a_run(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "td3", *RUN, f"--out={tmp_path / 'runs'}") == 0
    (teacher,) = (tmp_path / "runs").iterdir()
    replay, policy, mixed = (tmp_path / f"{name}.npz" for name in ("replay", "policy", "mixed"))
    few = ["--episodes=8", "--steps=64", "--envs=4"]
    for what, path in (("replay", replay), ("policy", policy)):
        arguments = [f"--from={teacher}", f"--what={what}", f"--save={path}", "--last", *few]
        assert run(monkeypatch, "dataset", *arguments) == 0
    assert run(monkeypatch, "dataset", f"--mix={replay},{policy}", f"--save={mixed}") == 0
    data = dataset_files.load(mixed)
    assert len(data) == 96 + 64 and data.env_id == "probe/observation"
    assert "the replay" not in data.source and "replay of td3 after 96 steps" in data.source
    # A student of these data: its environment is theirs.
    small = [*SIZES, "--num_updates=4", "--total_steps=16", f"--out={tmp_path / 'students'}"]
    capsys.readouterr()
    code = run(monkeypatch, "bc", f"--data={mixed}", *small)
    assert code == 0, capsys.readouterr().err
    (student,) = (tmp_path / "students").iterdir()
    rows = (student / "metrics.jsonl").read_text().splitlines()
    last = json.loads(rows[-1])
    assert last["step"] == 16
    low, high = data.scores
    score = 100.0 * (last["eval/episodic_return"] - low) / (high - low)
    assert last["eval/normalized_score"] == pytest.approx(score, rel=1e-4, abs=1e-3)
    # The same file may be named once more, from wherever that is done.
    monkeypatch.chdir(tmp_path)
    again = [f"--resume={student}", "--total_steps=24", f"--data={mixed.name}"]
    assert run(monkeypatch, "bc", *again) == 0
    assert json.loads((student / "config.json").read_text())["env"] == "probe/observation"
    # Other data under the same name are refused.
    steps = data.transitions._replace(reward=data.transitions.reward + np.float32(1))
    dataset_files.save(mixed, data.replace(transitions=steps))
    capsys.readouterr()
    assert run(monkeypatch, "bc", f"--resume={student}", "--total_steps=32") == 2
    assert "are other data than the run began with" in capsys.readouterr().err
    # Nor does a run get data that it did not begin with, also one of before there were any.
    description = json.loads((teacher / "config.json").read_text())
    assert description.pop("data") == {}
    for changes in ({}, {"data": {}}):
        (teacher / "config.json").write_text(json.dumps(description | changes))
        for flag, was in ((f"data={mixed}", ""), ("data_share=0.5", "0.0")):
            assert run(monkeypatch, "td3", f"--resume={teacher}", f"--{flag}") == 2
            sentence = f"{flag}: cannot be changed when a run is resumed, it was {was}"
            assert sentence in capsys.readouterr().err
    # And an algorithm of the off-policy loop begins with them.
    more = [*RUN, f"--data={mixed}", "--data_share=0.5", f"--out={tmp_path / 'online'}"]
    assert run(monkeypatch, "td3", *more) == 0

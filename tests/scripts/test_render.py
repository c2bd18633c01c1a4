"""scripts/render.py on a run of gymnax; robots' pages and GIFs are tested in tests/envs and
tests/algos.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from onejit.algos import ppo
from onejit.algos.host import checkpoint, cli
from onejit.algos.host.commands.render import main

SCRIPT = Path(__file__).parents[2] / "scripts" / "render.py"
# One worker, which trains what is drawn once.
pytestmark = pytest.mark.xdist_group("render")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    tiny = [
        "--num_envs=4",
        "--num_steps=8",
        "--num_minibatches=2",
        "--hidden_sizes=8",
        "--eval_episodes=2",
    ]
    command = [
        "ppo.py",
        "--env=gymnax/CartPole-v1",
        "--total_steps=64",
        "--num_seeds=2",
        f"--out={out}",
        *tiny,
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, command)
    assert caught.value.code == 0
    [folder] = out.iterdir()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the run, to damage."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def assert_refused(arguments, code, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["render.py", *map(str, arguments)])
    said = capsys.readouterr()
    assert caught.value.code == code
    assert said.err.startswith("render.py: ")
    assert said.err.count("\n") == 1
    assert sentence in said.err + said.out


@pytest.mark.slow
def test_an_episode_of_a_run_is_drawn_and_the_libraries_are_silent(folder):
    command = [sys.executable, SCRIPT, folder, "--member=1", "--last", "--max_steps=5"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"5 steps, in {folder / 'episode.gif'}\n"
    assert result.stderr == ""
    with Image.open(folder / "episode.gif") as picture:
        assert picture.n_frames == 6


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give one run folder, got 0"),
        (["a", "b"], "give one run folder, got 2"),
        (["."], "config.json: cannot be read"),
        (["nowhere"], "nowhere/config.json: cannot be read"),
        ([".", "--register=/nonexistent.py"], "register=/nonexistent.py: there is no such file"),
        ([".", "--register="], "register=: there is no such file"),
        ([".", "--seed=-1"], "--seed=-1"),
        ([".", "--seed=4294967296"], "--seed=4294967296"),
        ([".", "--seed=one"], "--seed=one"),
        ([".", "--member=-1"], "--member=-1"),
        ([".", "--max_steps=0"], "--max_steps=0"),
        ([".", "--max_steps=1000000000000"], "--max_steps=1000000000000"),
        ([".", "--colour=red"], "colour"),
    ],
)
def test_wrong_flags_are_refused_in_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(arguments, 2, sentence, capsys)


def test_an_error_in_a_file_that_registers_is_told_with_its_line(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("from onejit import envs\nenvs.regster('mine/Robot', None)\n")
    sentence = (
        f"register={file}, line 2: AttributeError: module 'onejit.envs' has no attribute 'regster'"
    )
    assert_refused([tmp_path, f"--register={file}"], 2, sentence, capsys)


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "alphazero"},
        {"algorithm": "train"},
        {"algorithm": 3},
        {"algorithm": None},
        {"env": "gymnax/CartPole-v9"},
        {"env": 3},
        {"env": None},
        {"env_options": ["gravity"]},
        {"env_options": {"gravty": 9}},
        {"num_seeds": "two"},
        {"num_seeds": None},
        {"config": {"gama": 0.9}},
        {"config": {"gamma": 3.0}},
        {"config": {"hidden_sizes": "8"}},
        {"config": None},
    ],
    ids=str,
)
def test_an_edited_description_is_refused_in_a_sentence(folder, change, capsys):
    description = json.loads((folder / "config.json").read_text())
    for name, value in change.items():
        description[name] = description[name] | value if name == "config" and value else value
        if value is None:
            del description[name]
    (folder / "config.json").write_text(json.dumps(description))
    assert_refused([folder], 2, str(folder), capsys)


@pytest.mark.parametrize("text", ["", "[]", '"run"', "{", "\0"])
def test_a_description_that_is_none_is_refused_in_a_sentence(folder, text, capsys):
    (folder / "config.json").write_text(text)
    assert_refused([folder], 2, f"{folder}/config.json: is not", capsys)


def test_a_description_of_another_run_is_refused(folder, capsys):
    description = json.loads((folder / "config.json").read_text())
    description["env_options"] = {"gravity": 1.0}
    (folder / "config.json").write_text(json.dumps(description))
    assert_refused([folder], 1, "env_options.gravity is 1.0", capsys)


def test_a_member_that_was_not_trained_is_refused(folder, capsys):
    assert_refused(
        [folder, "--member=2"], 2, "member=2: the run has 2 seeds, counted from 0", capsys
    )


def test_a_run_of_an_older_layout_of_the_state_is_refused_in_these_words(folder, capsys):
    [last] = (folder / "checkpoints").iterdir()
    manifest = json.loads((last / "manifest.json").read_text())
    del manifest["sha256"]
    manifest["format"] -= 1
    manifest = {"sha256": checkpoint._digest(manifest), **manifest}
    (last / "manifest.json").write_text(json.dumps(manifest))
    # Its Config had not all of today's fields.
    description = json.loads((folder / "config.json").read_text())
    del description["config"]["gae_lambda"]
    (folder / "config.json").write_text(json.dumps(description))
    sentence = "was written by an older version of onejit, whose States have another layout"
    for arguments in ([folder], [folder, "--last"]):
        assert_refused(arguments, 1, sentence, capsys)
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", f"--resume={folder}"])
    assert caught.value.code == 1
    assert sentence in capsys.readouterr().err.replace("\n", " ")


def test_damaged_or_missing_checkpoints_are_told(folder, capsys):
    [last] = (folder / "checkpoints").iterdir()
    manifest = last / "manifest.json"
    manifest.write_text(manifest.read_text().replace("float32", "float16", 1))
    assert_refused([folder, "--last"], 1, f"{manifest}: damaged", capsys)
    shutil.rmtree(last)
    assert_refused([folder, "--last"], 1, "there is no checkpoint to resume from", capsys)
    assert_refused([folder], 1, "there is no whole checkpoint", capsys)


def test_a_picture_that_cannot_be_written_is_told(folder, capsys):
    (folder / "episode.gif").mkdir()
    assert_refused(
        [folder, "--max_steps=2"], 2, f"Is a directory: '{folder / 'episode.gif'}'", capsys
    )

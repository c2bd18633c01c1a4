"""The console command: what it lists is what there is, and each command is its script."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from onejit import __main__ as command
from onejit import __version__, algos
from onejit.algos import ppo
from onejit.algos.host import cli, presets

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run(capsys, *arguments, call=command.main, name="onejit"):
    with pytest.raises(SystemExit) as caught:
        call([name, *arguments])
    return (caught.value.code, *capsys.readouterr())


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_a_line_for_each_command(arguments, capsys):
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    for name in (*command.ALGORITHMS, *command.OTHERS):
        [line] = [each for each in out.splitlines() if each.split()[:1] == [name]]
        assert line.isascii() and len(line) <= 80
    assert run(capsys, "--version") == (0, f"{__version__}\n", "")


def test_the_list_imports_nothing_heavy():
    program = (
        "import json, sys\nfrom onejit import __main__ as command\nprint(command.listing())\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert {name for name in imported if name.startswith("onejit")} == {"onejit", "onejit.__main__"}
    assert not imported & {"jax", "numpy", "absl", "rich", "importlib.metadata"}


def test_every_algorithm_is_a_command_and_a_script():
    known = {each for each in algos.__all__ if hasattr(getattr(algos, each), "Config")}
    assert set(command.ALGORITHMS) == known
    for name in known:
        assert f"    cli.main({name})\n" in (SCRIPTS / f"{name}.py").read_text()


@pytest.mark.parametrize("name", command.OTHERS)
def test_every_other_command_is_what_its_script_calls(name):
    module = importlib.import_module(command.OTHERS[name][0], "onejit")
    text = (SCRIPTS / {"certify": "smoothing.py"}.get(name, f"{name}.py")).read_text()
    package, _, last = module.__name__.rpartition(".")
    assert f"from {package} import {last}\n" in text
    assert f"    {last}.main()\n" in text


def test_a_command_and_its_script_say_the_same_of_their_flags(capsys):
    as_script = run(capsys, "--help", call=lambda argv: cli.main(ppo, argv), name="ppo.py")
    assert run(capsys, "ppo", "--help") == as_script
    assert "--env: The environment, suite/name. Default: gymnax/CartPole-v1." in as_script[1]
    assert "Draws an episode" in run(capsys, "render", "--help")[1]


@pytest.mark.parametrize(
    "name, env",
    [
        ("spo", "gymnax/CartPole-v1"),
        ("td3", "gymnax/Pendulum-v1"),
        ("harpg", "gymnax/CartPole-v1"),
        ("hnpg", "probe/lock"),
        ("pathwise", "inventory/store"),
        ("tokens", "tokens/brackets"),
        ("my_own", "gymnax/CartPole-v1"),
    ],
)
def test_where_an_algorithm_is_trained_if_nothing_is_said(name, env):
    assert presets.default_env(name) == env


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["pppo"], "onejit: 'pppo' is no command; did you mean ppo?\n"),
        (["fastsac"], "did you mean fast_sac"),
        (["zzzzz"], "onejit: 'zzzzz' is no command; `onejit` lists them\n"),
        (["--env=gymnax/CartPole-v1"], "is no command"),
        (["ppo", "--gamma=2"], "onejit ppo: gamma=2.0: must be"),
        (["render"], "onejit render: give one run folder, got 0"),
        (["dataset"], "onejit dataset: save=: must name"),
        (["certify"], "onejit certify: give --env or --experiment"),
        (["sweep", "--grid=x"], "onejit sweep: grid=x: must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert sentence in err
    assert not list(tmp_path.iterdir())


def test_what_continues_a_run_is_the_command_or_the_script_that_began_it():
    for first, words in (("onejit ppo", "-m onejit ppo"), ("scripts/ppo.py", "scripts/ppo.py")):
        continued = cli.resume_command([first, "--seed=1"], Path("runs/a b"))
        assert continued.endswith(f"{words} '--resume=runs/a b'")


def test_a_list_that_nobody_reads_to_its_end_is_no_error():
    words = f"{sys.executable} -m onejit | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

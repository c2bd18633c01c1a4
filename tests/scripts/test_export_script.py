"""scripts/export.py on a run of PPO: what it writes, and what it refuses."""

import json

import jax
import numpy as np
import pytest

from onejit.algos import ppo
from onejit.algos.host import cli, export, policy_jax, trained
from onejit.algos.host.commands.export import main


def assert_refused(arguments, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["export.py", *map(str, arguments)])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert said.startswith("export.py: ") and said.count("\n") == 1
    assert sentence in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give one run folder, got 0"),
        (["a", "b"], "give one run folder, got 2"),
        (["."], "config.json: cannot be read"),
        (["nowhere"], "nowhere/config.json: cannot be read"),
        ([".", "--member=-1"], "--member=-1"),
        ([".", "--colour=red"], "colour"),
    ],
)
def test_wrong_flags_are_refused_in_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert_refused(arguments, sentence, capsys)


@pytest.mark.slow
def test_the_policy_of_a_run_is_exported_once(tmp_path, capsys):
    command = [
        *("ppo.py", "--env=gymnax/CartPole-v1", "--total_steps=64", "--num_seeds=2"),
        *("--num_envs=4", "--num_steps=8", "--num_minibatches=2", "--hidden_sizes=8"),
        *("--eval_episodes=2", "--norecord", f"--out={tmp_path}"),
    ]
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, command)
    assert caught.value.code == 0
    [folder] = tmp_path.iterdir()
    with pytest.raises(SystemExit) as caught:
        main(["export.py", str(folder), "--member=1", "--last"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.endswith(f"and manifest.json in {folder / 'policy'}\n")
    manifest = json.loads((folder / "policy" / "manifest.json").read_text())
    known = {name: manifest[name] for name in ("algorithm", "environment", "member", "iteration")}
    assert known == {
        "algorithm": "ppo",
        "environment": "gymnax/CartPole-v1",
        "member": 1,
        "iteration": 2,
    }
    algorithm, state = trained.load(folder, last=True, member=1)
    obs = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    expected = algorithm.act(state, obs, jax.random.key(0), True)
    for form in (policy_jax.load(folder / "policy"), export.load_numpy(folder / "policy")):
        np.testing.assert_array_equal(form.act(obs), expected)
    assert_refused([folder], f"{folder / 'policy'}: exists", capsys)
    assert_refused([folder, "--member=2", "--out=x"], "member=2: the run has 2 seeds", capsys)

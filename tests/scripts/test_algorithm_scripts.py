"""The scripts of the other algorithms: a run folder as PPO's, seeds side by side, and resume."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
COMMON = [
    "--env=probe/observation",
    "--env_options=continuous=True",
    "--num_envs=4",
    "--eval_episodes=2",
    "--num_logs=4",
    "--num_evals=2",
]
ON_POLICY = [*COMMON, "--num_steps=10", "--num_minibatches=2", "--hidden_sizes=8"]
OFF_POLICY = [
    *COMMON,
    "--learning_starts=16",
    "--batch_size=8",
    "--buffer_size=400",
    "--actor_hidden_sizes=8",
    "--critic_hidden_sizes=8",
]
# One script of each loop; the others differ in the module that they name.
SCRIPT_FLAGS = {
    "mdpo": ON_POLICY,
    "td3": OFF_POLICY,
}
OWN_FLAGS = {
    "spo": "eps",
    "fixpo": "kl_bound",
    "r2vpo": "target_variance",
    "ppo_ewma": "proximal_decay",
    "props": "refresh_every",
    "gorl": "latent_coef",
    "sac": "target_entropy",
    "aq_td3": "expectile",
    "aq_sac": "anneal_fraction",
    "aq_fast_sac": "final_expectile",
    "crossq": "renorm_warmup",
    "avg": "critic_learning_rate",
    "expo": "edit_scale",
    "fast_td3": "max_noise",
    "fast_sac": "num_atoms",
    "mdpo_off_policy": "kappa",
    "staq": "kl_weight",
    "bc": "ema_power",
    "flow_bc": "flow_steps",
    "cdsa_lite": "action_step",
    "td3_bc": "alpha",
    "iql": "coefficient",
    "rebrac": "critic_beta",
    "prdc": "beta",
    "a2pr": "vae_hidden_sizes",
    "famo2o": "target_entropy",
    "pathwise": "horizon",
    "trpo": "max_kl",
    "hnpg": "offline_batch",
    "npg_igt": "momentum_power",
    "harpg": "normalize_step",
}


def run(monkeypatch, name, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPTS / f"{name}.py"), *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    return caught.value.code


@pytest.mark.slow  # as scripts/ppo.py does, see test_ppo_script.py
@pytest.mark.parametrize("name", ["td3", "mdpo"])
def test_leaves_a_run_folder_and_resumes(name, monkeypatch, tmp_path):
    assert (
        run(
            monkeypatch,
            name,
            *SCRIPT_FLAGS[name],
            "--num_seeds=2",
            "--ema_decay=0.9",
            "--total_steps=160",
            f"--out={tmp_path}",
        )
        == 0
    )
    (folder,) = tmp_path.iterdir()
    rows = (folder / "metrics.jsonl").read_text().splitlines()
    # Four environments, some vector steps in one iteration; what init took counts too.
    assert json.loads(rows[-1])["step"] in (160, 164, 168)
    assert {"curve.png", "config.json", "checkpoints"} <= {path.name for path in folder.iterdir()}
    if name == "td3":
        assert run(monkeypatch, name, f"--resume={folder}", "--total_steps=240") == 0
        more = (folder / "metrics.jsonl").read_text().splitlines()
        assert more[: len(rows)] == rows
        assert json.loads(more[-1])["step"] == 240


@pytest.mark.parametrize("name", OWN_FLAGS)
def test_help_explains_the_hyperparameters_of_the_algorithm(name, monkeypatch, capsys):
    assert run(monkeypatch, name, "--help") == 0
    assert f"--{OWN_FLAGS[name]}: " in capsys.readouterr().out


def test_td3_refuses_discrete_actions_in_one_line(monkeypatch, capsys):
    assert run(monkeypatch, "td3", "--env=gymnax/CartPole-v1") == 2
    assert "env.action_space" in capsys.readouterr().err

"""A run's folder, wherever it lies: what is in it belongs together, and one process writes it at a
time.
"""

import io
import json
import re
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from onejit import envs
from onejit.algos import ppo, spo, td3
from onejit.algos.core import device_memory
from onejit.algos.core.config import ConfigError
from onejit.algos.host import checkpoint, cli, logs, run_folder, runner
from onejit.algos.host.programs import Settings
from onejit.envs import Step

CONFIG = ppo.Config(
    num_envs=4, num_steps=8, num_minibatches=2, hidden_sizes=(8,), total_steps=12 * 32
)
ALGORITHM = ppo.make(envs.make("probe/observation"), CONFIG)
QUIET = {"num_logs": 6, "num_evals": 3, "eval_episodes": 4}


def run(folder, algorithm=ALGORITHM, *, resume=False, iterations=12, console=None, **settings):
    return runner.run(
        algorithm,
        Settings(folder=folder, title="PPO on a probe", **{**QUIET, **settings}),
        total_iterations=iterations,
        resume=resume,
        console=console or Console(file=io.StringIO()),
    )


def names(folder):
    return [path.name for path in checkpoint.checkpoints(folder / "checkpoints")]


@pytest.mark.parametrize(
    "place", ["relative", *(pytest.param(x, marks=pytest.mark.slow) for x in ("symlink", "dots"))]
)
def test_the_last_checkpoint_stays_wherever_the_folder_lies(tmp_path, monkeypatch, place):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    scores = iter([3.0, 2.0, 1.0])  # the first is the best
    save = runner._save
    monkeypatch.setattr(runner, "_save", lambda *args: save(*args[:-2], next(scores), args[-1]))
    folder = {"relative": "real", "symlink": "link", "dots": "real/../link"}[place]
    run(runner.Path(folder))
    assert names(tmp_path / "real") == ["000000004", "000000012"]


def test_a_run_goes_on_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(runner.Path("a/run"), iterations=6)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(runner.Path("../a/run"), resume=True)
    assert names(tmp_path / "a" / "run")[-1] == "000000012"
    assert [row["step"] for row in logs.read(tmp_path / "a" / "run")] == [
        32 * i for i in (1, 2, 3, 4, 5, 6, 8, 10, 12)
    ]


def test_a_second_process_is_refused(tmp_path):
    with (
        run_folder.locked(tmp_path),
        pytest.raises(run_folder.RunFolderError, match="another process is running there"),
    ):
        run(tmp_path, resume=True)
    with run_folder.locked(tmp_path):  # and it is let go of
        pass


def test_rows_stand_before_their_checkpoint_and_once_after_a_kill_between_the_two(
    tmp_path, monkeypatch
):
    class Killed(BaseException):
        pass

    save = checkpoint.save

    def killed(folder, iteration, *args, **options):
        if iteration == 8:
            raise Killed
        return save(folder, iteration, *args, **options)

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(Killed):
        run(tmp_path)
    assert [row["step"] for row in logs.read(tmp_path)] == [64, 128, 192, 256]
    assert names(tmp_path) == ["000000004"]
    monkeypatch.setattr(checkpoint, "save", save)
    run(tmp_path, resume=True)
    assert [row["step"] for row in logs.read(tmp_path)] == [64 * i for i in range(1, 7)]


@pytest.fixture
def full_disk():
    """A function that limits the size of files to so many bytes; None lifts it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft if size is None else size, hard))

    yield limit
    limit(None)


def test_a_log_that_cannot_be_written_is_said_once_and_training_goes_on(tmp_path, full_disk):
    output = io.StringIO()
    full_disk(45_000)  # enough for a checkpoint, and not for a hundred rows
    run(
        tmp_path, iterations=120, num_logs=120, num_evals=6, console=Console(file=output, width=200)
    )
    full_disk(None)
    assert output.getvalue().count("cannot be written") == 1
    assert names(tmp_path)[-1] == "000000120"
    assert len(logs.read(tmp_path)) < 110
    run(tmp_path, iterations=121, num_logs=121, resume=True)
    assert [row["step"] for row in logs.read(tmp_path)] == [32 * i for i in range(1, 122)]


def test_a_checkpoint_that_cannot_be_written_leaves_those_before_it(tmp_path, full_disk, capfd):
    tree = {"a": jnp.asarray(np.random.default_rng(0).normal(size=100_000))}
    first = checkpoint.save(tmp_path, 1, tree, {})
    full_disk(100_000)
    with pytest.raises(
        checkpoint.CheckpointWriteError,
        match=r"000000002: the checkpoint could not be written \(File too large\)",
    ):
        checkpoint.save(tmp_path, 2, tree, {})
    with pytest.raises(checkpoint.CheckpointWriteError):
        checkpoint.save(tmp_path, 1, tree, {})
    full_disk(None)
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    checkpoint.verify(first)
    assert capfd.readouterr().err == ""


def test_a_kill_between_the_two_renames_of_a_replaced_checkpoint_costs_nothing(tmp_path):
    tree = {"a": jnp.ones(3)}
    path = checkpoint.save(str(tmp_path), 1, tree, {})
    path.rename(tmp_path / ".replaced-000000001")
    checkpoint.clean(str(tmp_path))
    checkpoint.restore(str(path), tree)


def test_a_link_in_the_place_of_a_checkpoint_is_replaced(tmp_path):
    (tmp_path / "000000001").symlink_to("nowhere")
    path = checkpoint.save(tmp_path, 1, {"a": jnp.ones(3)}, {})
    assert not path.is_symlink()
    assert [each.name for each in tmp_path.iterdir()] == ["000000001"]


def test_seeds_that_only_the_compiled_program_is_too_large_for_are_refused(tmp_path, monkeypatch):
    # The State of so many seeds would fit; what is drawn to initialise it would not.
    monkeypatch.setattr(device_memory, "device_bytes", lambda: 20_000_000)
    with pytest.raises(
        ConfigError, match=r"num_seeds=500: must be smaller: the program to start would take .* GiB"
    ):
        run(tmp_path / "none", num_seeds=500)
    assert not (tmp_path / "none").exists()


def test_each_file_is_hashed_once_however_many_checkpoints_there_are(tmp_path, monkeypatch):
    hashed = []
    sha256 = checkpoint._sha256
    monkeypatch.setattr(checkpoint, "_sha256", lambda path: hashed.append(path) or sha256(path))
    run(tmp_path)
    assert len({path.parent.parent.name for path in hashed}) >= 1
    assert len(hashed) == len(set(hashed))


def test_what_is_no_checkpoint_is_left_alone_and_names_sort_as_numbers(tmp_path):
    saves = tmp_path / "checkpoints"
    run(tmp_path, iterations=4)
    strangers = ["000000100.bak", "2024-notes", "7", "latest"]
    for name in strangers:
        (saves / name).mkdir()
    run(tmp_path, resume=True)
    assert {path.name for path in saves.iterdir()} >= {*strangers, "000000012"}
    for iteration in (10**9, 999_999_999):
        (saves / f"{iteration:09d}").mkdir()
    assert names(tmp_path)[-2:] == ["999999999", "1000000000"]


def test_a_damaged_last_checkpoint_names_the_whole_one_beside_it(tmp_path):
    saves = tmp_path / "checkpoints"
    for iteration in (4, 8):
        checkpoint.save(
            saves, iteration, {"a": jnp.ones(3)}, {"iteration": iteration, "eval_return": 0.0}
        )
    (saves / "000000008" / "manifest.json").unlink()
    with pytest.raises(
        checkpoint.CheckpointError,
        match="000000004 is whole: to go on from there, move .*000000008",
    ):
        run_folder.last_checkpoint(saves)
    (saves / "000000004" / "manifest.json").unlink()
    with pytest.raises(checkpoint.CheckpointError, match="not a complete checkpoint$"):
        run_folder.last_checkpoint(saves)


class Start:
    """An episode of one step, which pays what its start drew."""

    observation_space, action_space = envs.Box(0.0, 1.0, (1,)), envs.Discrete(2)

    def reset(self, key):
        mark = jax.random.uniform(key, (1,), jnp.float32)
        return mark, mark

    def step(self, key, state, action):
        return state, Step(state, state[0], jnp.bool_(True), jnp.bool_(False), {})


def test_seeds_are_evaluated_from_start_states_of_their_own_the_same_each_time(tmp_path):
    algorithm = ppo.make(Start(), CONFIG)
    result = run(tmp_path, algorithm, num_seeds=3, eval_episodes=1, iterations=4, num_evals=2)
    assert len(set(result.eval_returns.tolist())) == 3
    first, second = [
        row["eval/episodic_return"] for row in logs.read(tmp_path) if "eval/episodic_return" in row
    ]
    assert first == second


def test_checkpoints_without_the_replay_are_small_and_go_on_with_random_actions(tmp_path):
    sizes = {"actor_hidden_sizes": (4,), "critic_hidden_sizes": (4,), "batch_size": 4}
    config = td3.Config(num_envs=2, learning_starts=16, buffer_size=20_000, total_steps=60, **sizes)
    algorithm = td3.make(envs.make("probe/observation", continuous=True), config)
    run(tmp_path, algorithm, iterations=4, save_replay=False)
    (*_, last) = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert sum(path.stat().st_size for path in last.rglob("*") if path.is_file()) < 100_000
    state = jax.jit(algorithm.init)(jax.random.key(5))
    restored = checkpoint.restore(last, state)
    assert restored.replay is not None
    np.testing.assert_array_equal(restored.replay.rows.obs, state.replay.rows.obs)
    assert int(restored.learner.iteration) == 4
    run(tmp_path, algorithm, iterations=6, save_replay=False, resume=True)
    assert names(tmp_path)[-1] == "000000006"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder with a description, as the scripts leave it."""
    folder = tmp_path_factory.mktemp("finished")
    description = {
        "algorithm": "ppo",
        "env": "gymnax/Pendulum-v1",
        "env_options": {"g": 10.0, "max_steps_in_episode": 200},
        **{"seed": 3, "num_seeds": 1, "num_logs": 6, "num_evals": 3, "eval_episodes": 4},
        **{"record": True, "save_replay": True, "changes": [], "commands": []},
        "config": {"learning_rate": 1e-3, "vf_clip_eps": float("inf"), "hidden_sizes": (8,)},
    }
    run(folder, iterations=2, description=description)
    return folder


def edited(finished, tmp_path, change):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    run = json.loads((folder / "config.json").read_text())
    change(run)
    (folder / "config.json").write_text(json.dumps(run))
    return folder


def belongs(folder):
    run = run_folder.read(folder)
    metadata = checkpoint.read_metadata(run_folder.last_checkpoint(folder / "checkpoints"))
    run_folder.require_same_run(folder, run, metadata)
    return run


def test_a_description_comes_back_as_it_was_and_belongs_to_its_checkpoint(finished):
    config = belongs(finished)["config"]
    assert config == {"learning_rate": 1e-3, "vf_clip_eps": float("inf"), "hidden_sizes": (8,)}


DAMAGES = [
    (lambda run: run.pop("seed"), 'config.json: has no "seed"'),
    (lambda run: run.pop("env"), 'config.json: has no "env"'),
    (lambda run: run.update(seed="3"), 'seed="3": must be an integer'),
    (lambda run: run.update(seed=True), "seed=true: must be an integer"),
    (lambda run: run.update(config=[1]), "must be an object"),
    (lambda run: run.update(changes=[{"iteration": None}]), '"changes" is damaged'),
    (lambda run: run.update(ema_decay="x"), 'ema_decay="x": must be a number'),
    (lambda run: run.update(ema_decay=0.5), "ema_decay is 0.5 and was 0.0"),
    (lambda run: run.update(seed=4), "checkpoint of iteration 2: seed is 4 and was 3"),
    (lambda run: run["env_options"].update(g=5.0), "env_options.g is 5.0 and was 10.0"),
    (lambda run: run["env_options"].pop("g"), "env_options.g is None and was 10.0"),
    (
        lambda run: run["config"].update(learning_rate=1.0),
        "config.learning_rate is 1.0 and was 0.001.* as flags",
    ),
    (
        lambda run: run.update(seed=4, env="brax/ant"),
        "env is 'brax/ant' and was 'gymnax/Pendulum-v1', seed is 4",
    ),
]


@pytest.mark.parametrize("change, message", DAMAGES)
def test_a_description_that_was_edited_is_refused_entry_by_entry(
    finished, tmp_path, change, message
):
    with pytest.raises((run_folder.RunFolderError, checkpoint.CheckpointError), match=message):
        belongs(edited(finished, tmp_path, change))


@pytest.mark.parametrize(
    "text, message", [("{", "not JSON"), ("[]", "not the description"), ("\xff", "not JSON")]
)
def test_a_description_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(run_folder.RunFolderError, match=message):
        run_folder.read(tmp_path)


@pytest.mark.parametrize(
    "module, message",
    [(spo, "is a run of ppo, not of spo"), (ppo, "config.json: has no config.gamma")],
)
def test_a_folder_of_another_algorithm_or_version_is_refused_by_the_script(
    finished, module, message, capsys
):
    with pytest.raises(SystemExit) as caught:
        cli.main(module, ["script.py", f"--resume={finished}"])
    assert caught.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_what_flags_changed_since_the_checkpoint_belongs_to_it(finished, tmp_path):
    def change(run):
        run["config"]["learning_rate"] = 0.5
        run["changes"] = [{"iteration": 2, "config": {"learning_rate": 0.5}}]

    belongs(edited(finished, tmp_path, change))


def test_a_place_that_no_folder_can_be_made_in_is_refused_and_nothing_is_made(tmp_path):
    (tmp_path / "file").write_text("")
    for out in ("", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        with pytest.raises(run_folder.RunFolderError, match="^out="):
            run_folder.require_writable(out)
    run_folder.require_writable(str(tmp_path / "new" / "below"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path):
    with pytest.raises(run_folder.RunFolderError, match=r"must not have \["):
        run_folder.require_writable(str(tmp_path / "[0-9]*"))
    (tmp_path / "[a]").mkdir()
    with (
        pytest.raises(run_folder.RunFolderError, match=r"must not have \["),
        run_folder.locked(tmp_path / "[a]"),
    ):
        pass


def test_folders_of_one_second_have_numbers(tmp_path):
    made = [run_folder.make(str(tmp_path), "ppo") for _ in range(3)]
    assert len(set(made)) == 3

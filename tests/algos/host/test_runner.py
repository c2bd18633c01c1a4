"""A run on the host: what it leaves behind, interruption and resume."""

import io
import os
import signal
import sys

import jax
import numpy as np
import pytest
from rich.console import Console

from onejit import envs
from onejit.algos import ppo
from onejit.algos.host import checkpoint, logs, plotting, runner
from onejit.algos.host.programs import Settings

CONFIG = ppo.Config(
    num_envs=4, num_steps=8, num_minibatches=2, hidden_sizes=(8,), total_steps=12 * 32
)


ALGORITHM = ppo.make(envs.make("probe/observation"), CONFIG)


def run(folder, *, console=None, resume=False, algorithm=ALGORITHM, **settings):
    settings = {"num_logs": 6, "num_evals": 3, "eval_episodes": 4, **settings}
    return runner.run(
        algorithm,
        Settings(folder=folder, title="PPO on a probe", **settings),
        total_iterations=12,
        resume=resume,
        console=console or Console(file=io.StringIO()),
    )


def test_leaves_log_curve_tensorboard_and_two_checkpoints(tmp_path):
    result = run(tmp_path)
    rows = logs.read(tmp_path)
    assert [row["step"] for row in rows] == [64 * i for i in range(1, 7)]
    assert ["eval/episodic_return" in row for row in rows] == [
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert {
        "charts/episodic_return",
        "charts/sps",
        "losses/policy_loss",
        "losses/approx_kl",
    } <= rows[0].keys()
    assert result.eval_returns.shape == (1,)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())
    saved = checkpoint.checkpoints(tmp_path / "checkpoints")
    assert 1 <= len(saved) <= 2
    assert saved[-1].name == "000000012"
    scores = [checkpoint.read_metadata(path)["eval_return"] for path in saved]
    assert max(scores) == max(
        row["eval/episodic_return"] for row in rows if "eval/episodic_return" in row
    )


def test_training_goes_on_where_wandb_fails(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    console = Console(file=io.StringIO())
    run(tmp_path, console=console, log=["wandb", "tensorboard"])
    assert console.file.getvalue().count("nothing goes to wandb any more (import of wandb") == 1
    assert len(logs.read(tmp_path)) == 6
    assert list((tmp_path / "tensorboard").iterdir())


class Impatient(Console):
    """Sends this process a signal when the first evaluation is printed, as an impatient user
    would.
    """

    def __init__(self, number):
        super().__init__(file=io.StringIO())
        self.number = number
        self.sent = False

    def print(self, *args, **kwargs):
        super().print(*args, **kwargs)
        if not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


def test_sigterm_saves_and_the_resumed_run_equals_one_that_never_stopped(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    with pytest.raises(runner.Interrupted) as caught:
        run(stopped, console=Impatient(signal.SIGTERM), num_seeds=2)
    assert caught.value.signal_number == signal.SIGTERM
    assert checkpoint.checkpoints(stopped / "checkpoints")[-1].name == "000000006"
    run(stopped, resume=True, num_seeds=2)
    run(whole, num_seeds=2)
    algorithm = ppo.make(envs.make("probe/observation"), CONFIG)
    shape = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), 2))
    states = [
        checkpoint.restore(checkpoint.checkpoints(f / "checkpoints")[-1], shape)
        for f in (stopped, whole)
    ]
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        a, b = (
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
            for x in (a, b)
        )
        np.testing.assert_array_equal(a, b)
    kept = [
        [
            {k: v for k, v in row.items() if k != "charts/sps" and "eval" not in k}
            for row in logs.read(f)
        ]
        for f in (stopped, whole)
    ]
    assert kept[0] == kept[1]


def test_seeds_are_logged_one_by_one_and_differ(tmp_path):
    result = run(tmp_path, num_seeds=3)
    assert result.eval_returns.shape == (3,)
    losses = logs.read(tmp_path)[-1]["losses/value_loss"]
    assert len(set(losses)) == 3


def test_a_non_finite_number_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    run(tmp_path)
    good = checkpoint.checkpoints(tmp_path / "checkpoints")
    algorithm = ppo.make(
        envs.make("probe/observation"),
        CONFIG.replace(learning_rate=1e38, max_grad_norm=1e30, anneal_lr=False),
    )
    with pytest.raises(
        runner.NonFiniteError,
        match=r"non-finite .* in iteration 12.*last good checkpoint is .*000000012",
    ):
        runner.run(
            algorithm,
            Settings(folder=tmp_path, title="t", eval_episodes=4),
            total_iterations=20,
            resume=True,
            console=Console(file=io.StringIO()),
        )
    assert checkpoint.checkpoints(tmp_path / "checkpoints") == good


def test_resume_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint to resume from"):
        run(tmp_path, resume=True)


def test_log_drops_what_came_after_the_checkpoint_and_writes_null_for_what_is_not_finite(tmp_path):
    log = logs.RunLog(tmp_path)
    for step in (10, 20, 30):
        log.write(step, {"a": np.float32(step), "b": np.array([np.nan, 1.0])})
    log.close()
    log = logs.RunLog(tmp_path, resume_step=20)
    log.write(25, {"a": np.float32("inf")})
    log.close()
    assert logs.read(tmp_path) == [
        {"step": 10, "a": 10.0, "b": [None, 1.0]},
        {"step": 20, "a": 20.0, "b": [None, 1.0]},
        {"step": 25, "a": None},
    ]


def test_interval_covers_the_mean_as_often_as_it_says():
    values = np.random.default_rng(1).normal(5.0, 1.0, (1000, 30))
    low, high = plotting.interval_of_mean(values)
    covered = np.mean((low <= 5.0) & (high >= 5.0))
    assert 0.91 < covered < 0.97  # a percentile bootstrap of 30 is a little too narrow

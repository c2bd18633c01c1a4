"""The log on Weights & Biases: what is written offline, and that nothing of it stops a run."""

import contextlib
import importlib.util
import json
import os
import struct
import subprocess
import sys
import types

import numpy as np
import pytest

from onejit.algos import ppo
from onejit.algos.host import cli, logs, runner, wandb_log
from onejit.algos.host.plotting import interval_of_mean

DESCRIPTION = {"algorithm": "ppo", "seed": 3, "config": {"gamma": 0.9, "hidden_sizes": (8, 8)}}
ROWS = [(10, np.array([1.0, 2.0, 6.0])), (20, np.array([np.nan, 5.0, np.nan]))]
WRITE = """
import sys
from pathlib import Path
import numpy as np
from onejit.algos.host import runner
log = runner.open_log(Path(sys.argv[1]), ["wandb"], {"config": {"sizes": (8, 8)}}, int(sys.argv[2]))
log.write(int(sys.argv[2]) + 10, {"a": np.array([1.0, 2.0, 6.0]), "b": np.float32(3.0)})
log.close()
sys.exit(log.problem)
"""


class Fake(types.ModuleType):
    """A package `wandb` that keeps what it is given, and fails where it is told to."""

    def __init__(self, fails="", logged_in=True, mode="online"):
        super().__init__("wandb")
        self.fails, self.mode, self.logged_in = fails, mode, logged_in
        self.inits, self.rows, self.ends = [], [], []

    def _may_fail(self, where):
        if self.fails == where:
            raise ConnectionError(f"{where} failed\nat length")

    Settings = staticmethod(lambda **options: options)

    def setup(self, settings):
        del settings
        return types.SimpleNamespace(settings=types.SimpleNamespace(mode=self.mode))

    def login(self, prompt, verify):
        assert not prompt and not verify
        return self.logged_in

    def init(self, **options):
        self._may_fail("init")
        self.inits.append(options)
        return self

    def log(self, row, step):
        self._may_fail("log")
        self.rows.append((step, row))

    def finish(self, exit_code):
        self.ends.append(exit_code)
        self._may_fail("finish")


@pytest.fixture
def fake(monkeypatch):
    def install(**options):
        monkeypatch.setitem(sys.modules, "wandb", Fake(**options))
        return sys.modules["wandb"]

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return install


def write(folder, rows=ROWS, names=("wandb",)):
    log = runner.open_log(folder, names, DESCRIPTION)
    for step, values in rows:
        log.write(step, {"a": values, "b": np.float32(step)}, retry=False)
    log.close()
    return log.problem


def test_one_run_gets_mean_and_interval_over_seeds(fake, tmp_path):
    package = fake()
    assert write(tmp_path) is None
    [init] = package.inits
    assert init["config"] | {"env": 0} == {
        "algorithm": "ppo",
        "seed": 3,
        "env": 0,
        "env_options": None,
        "num_seeds": None,
        "gamma": 0.9,
        "hidden_sizes": (8, 8),
    }
    assert (init["project"], init["name"], init["resume"]) == ("onejit", tmp_path.name, "allow")
    low, high = interval_of_mean(ROWS[0][1][None])
    first = {"a": 3.0, "a/low": low[0], "a/high": high[0], "b": 10.0}
    assert package.rows == [(10, first), (20, {"a": 5.0, "b": 20.0})]
    assert 1.0 <= low[0] < 3.0 < high[0] <= 6.0
    assert package.ends == [0]
    assert [row["a"] for row in logs.read(tmp_path)] == [[1.0, 2.0, 6.0], [None, 5.0, None]]
    assert not (tmp_path / "tensorboard").exists()


def test_a_resumed_run_goes_on_under_its_id_and_another_has_another(fake, tmp_path):
    package = fake()
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        write(tmp_path / folder)
    first, again, other = (init["id"] for init in package.inits)
    assert first == again != other
    assert json.loads((tmp_path / "a" / wandb_log.FILE).read_text()) == {"id": first}


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"fails": "init"}, "init failed"),
        ({"fails": "log"}, "log failed"),
        ({"logged_in": False}, "not logged in: `wandb login`, or set WANDB_MODE=offline"),
    ],
)
def test_what_fails_is_said_once_and_the_rest_is_written(options, reason, fake, tmp_path):
    fake(**options)
    problem = write(tmp_path, names=("wandb", "tensorboard"))
    assert problem == (
        f"nothing goes to wandb any more ({reason}); the log is whole in metrics.jsonl"
    )
    assert [row["step"] for row in logs.read(tmp_path)] == [10, 20]
    assert list((tmp_path / "tensorboard").iterdir())


def test_no_login_is_asked_for_offline_and_a_failing_end_is_silent(fake, tmp_path):
    package = fake(mode="offline", logged_in=False, fails="finish")
    assert write(tmp_path) is None
    assert len(package.rows) == 2


def test_an_id_that_cannot_be_read_or_kept_stops_nothing(fake, tmp_path):
    fake()
    (tmp_path / wandb_log.FILE).write_text("[")
    assert "nothing goes to wandb any more" in write(tmp_path)
    assert len(logs.read(tmp_path)) == 2


def test_a_run_that_fails_ends_as_failed(fake, tmp_path):
    package = fake()
    log = runner.open_log(tmp_path, ["wandb"], {})
    with pytest.raises(ZeroDivisionError), contextlib.closing(log):
        log.write(1, {"a": np.float32(1.0)})
        raise ZeroDivisionError
    assert package.ends == [1]


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("wand", "log=wand: must be of tensorboard, wandb"),
        ("wandb,wandb", "log=wandb,wandb: must be of tensorboard, wandb"),
        ("tensorboard,wandb", "log=wandb: is not installed: pip install 'onejit[wandb]'"),
    ],
)
def test_what_cannot_be_logged_to_is_refused(value, sentence, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        cli.main(ppo, ["ppo.py", f"--log={value}", f"--out={tmp_path}"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"ppo.py: {sentence}\n"


def records(path):
    """The records of a file of W&B: blocks of 32 KiB of chunks (checksum, length, kind, data)."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_the_package_itself_writes_the_rows_offline(tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as messages

    environ = os.environ | {"WANDB_MODE": "offline"}
    for step in ("0", "10"):
        done = subprocess.run(
            [sys.executable, "-c", WRITE, tmp_path, step],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = {"ids": set(), "rows": []}
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    for path in files:
        for each in records(path):
            record = messages.Record.FromString(each)
            if record.WhichOneof("record_type") == "run":
                found["ids"].add(record.run.run_id)
            if record.WhichOneof("record_type") == "history":
                items = {i.nested_key[0] if i.nested_key else i.key: i for i in record.history.item}
                found["rows"].append({key: json.loads(i.value_json) for key, i in items.items()})
    assert found["ids"] == {json.loads((tmp_path / wandb_log.FILE).read_text())["id"]}
    low, high = interval_of_mean(np.array([[1.0, 2.0, 6.0]]))
    shown = {"a": 3.0, "a/low": low[0], "a/high": high[0], "b": 3.0}
    assert [{k: row[k] for k in shown} | {"step": row["_step"]} for row in found["rows"]] == [
        shown | {"step": step} for step in (10, 20)
    ]

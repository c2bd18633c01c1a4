"""The log: every row once, whatever happens to the disk or to the file, and a run that never waits
for it.
"""

import contextlib
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from onejit.algos.host import logs


@contextlib.contextmanager
def largest_file(size):
    """Inside, no file of this process can grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(log, steps, **options):
    for step in steps:
        log.write(step, {"a": np.float32(step), "b": np.array([np.nan, 1.0])}, **options)


def steps(folder):
    return [row["step"] for row in logs.read(folder)]


def events(folder):
    """The steps and values that TensorBoard reads."""
    found = []
    for path in sorted((folder / "tensorboard").iterdir()):
        for event in EventFileLoader(str(path)).Load():
            found += [
                (event.step, each.tag, each.tensor.float_val[0]) for each in event.summary.value
            ]
    return found


def test_rows_and_events_are_the_same_and_what_is_not_finite_is_null(tmp_path):
    log = logs.RunLog(tmp_path)
    write(log, (10, 20))
    log.close()
    assert logs.read(tmp_path) == [
        {"step": step, "a": float(step), "b": [None, 1.0]} for step in (10, 20)
    ]
    # The mean over the seeds that have a finite number.
    assert events(tmp_path) == [(10, "a", 10.0), (10, "b", 1.0), (20, "a", 20.0), (20, "b", 1.0)]
    assert log.problem is None


def test_a_resume_cuts_off_what_came_after_the_checkpoint_and_does_not_write_the_rest_again(
    tmp_path,
):
    log = logs.RunLog(tmp_path)
    write(log, (10, 20, 30))
    log.close()
    before = (tmp_path / logs.FILE).read_bytes()
    inode = (tmp_path / logs.FILE).stat().st_ino
    with largest_file(1):  # not a byte can be written, and none is lost
        log = logs.RunLog(tmp_path, 20)
    assert (tmp_path / logs.FILE).read_bytes() == before[: before.index(b'{"step": 30')]
    write(log, (25,))
    log.close()
    assert steps(tmp_path) == [10, 20, 25]
    assert (tmp_path / logs.FILE).stat().st_ino == inode


def test_a_line_that_was_cut_is_dropped_and_a_damaged_one_costs_no_other(tmp_path):
    write(logs.RunLog(tmp_path), (10, 20, 30))
    lines = (tmp_path / logs.FILE).read_bytes().splitlines(keepends=True)
    (tmp_path / logs.FILE).write_bytes(
        lines[0] + b'{"step": 2\x00' + lines[1][11:] + lines[2] + b'{"step": 40, "a'
    )
    assert steps(tmp_path) == [10, 30]
    log = logs.RunLog(tmp_path, 30)
    write(log, (40,))
    assert steps(tmp_path) == [10, 30, 40]


def test_a_full_disk_is_said_once_and_what_is_missing_is_written_when_there_is_room(tmp_path):
    log = logs.RunLog(tmp_path)
    write(log, range(10))
    with largest_file(600):
        write(log, range(10, 40), retry=False)
        problem = log.problem
        assert "cannot be written (File too large)" in problem
        log.flush()
        assert log.problem == problem
        assert steps(tmp_path) == list(range(40 - len(log.waiting)))
        assert (tmp_path / logs.FILE).read_bytes().endswith(b"}\n")
    write(log, (40,))
    log.close()
    assert steps(tmp_path) == list(range(41))
    assert [step for step, tag, _ in events(tmp_path) if tag == "a"] == list(range(41))


def test_rows_that_an_earlier_process_could_not_write_are_written_once(tmp_path):
    log = logs.RunLog(tmp_path)
    with largest_file(100):
        write(log, (10, 20, 30, 40))
    waiting = json.loads(json.dumps(log.waiting))
    assert waiting
    del log
    for _ in range(2):
        log = logs.RunLog(tmp_path, 40, waiting)
        log.close()
        assert steps(tmp_path) == [10, 20, 30, 40]


@pytest.mark.parametrize("obstacle", [logs.FILE, "tensorboard"])
def test_what_stands_in_the_way_is_named_and_the_other_log_is_written(tmp_path, obstacle):
    if obstacle == "tensorboard":
        (tmp_path / obstacle).write_text("a file")
    else:
        (tmp_path / obstacle).mkdir()
    log = logs.RunLog(tmp_path, 5)
    write(log, (10, 20))
    log.close()
    assert log.problem.startswith(f"{obstacle} cannot be written")
    if obstacle == "tensorboard":
        assert steps(tmp_path) == [10, 20]
    else:
        assert len(events(tmp_path)) == 4
        assert len(log.waiting) == 2


def test_nothing_is_left_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        log = logs.RunLog(tmp_path)
        write(log, (10,))
        log.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before

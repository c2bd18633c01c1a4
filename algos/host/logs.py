"""The log of a run: `metrics.jsonl`, one row per line, and writers with the same names beside it,
TensorBoard events if nothing else is said.

A log that cannot be written, on a full disk say, never stops a run: what could not be written waits
for another try.
"""

import contextlib
import itertools
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

FILE = "metrics.jsonl"
_numbers = itertools.count()  # of event files, which are named by the second


class WriterGone(RuntimeError):
    """A writer has given up for the rest of the process; the message says why."""


class Writer(Protocol):
    """Where rows go beside `metrics.jsonl`.

    Attributes:
      name: as `--log` has it.
    """

    name: str

    def add(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """A row to write, each metric a number `[]` or one for each seed `[seeds]`."""

    def flush(self) -> None:
        """Writes the rows that were added; after an OSError that is tried again."""

    def close(self) -> None:
        """Closes what is open."""


class RunLog:
    """Writes rows of metrics; a row is {"step": environment steps, name: number or list of one
    number per seed}.

    Args:
      folder: the run folder.
      resume_step: rows after this step are dropped, so that a resumed run continues its log without
        a break.
      waiting: rows that an earlier process could not write.
      writers: where else rows go; by default TensorBoard events in `tensorboard/`.

    Attributes:
      waiting: rows that could not be written to `metrics.jsonl` yet.
      problem: a sentence about the first thing that could not be written, or None.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int = 0,
        waiting: Sequence[dict[str, Any]] = (),
        writers: Sequence[Writer] | None = None,
    ):
        self.problem: str | None = None
        self.waiting: list[dict[str, Any]] = []
        self._path = folder / FILE
        self._failed = False
        self._writers = list([Events(folder, resume_step)] if writers is None else writers)
        try:
            _drop_rows_after(self._path, resume_step)
            there = {row["step"] for row in read(folder)} if waiting else set()
        except OSError as error:
            self._report(FILE, error)
            there = set()
        self.waiting += [row for row in waiting if row["step"] not in there]

    def write(self, step: int, metrics: dict[str, Any], *, retry: bool = True) -> None:
        """Appends a row. Numbers that are not finite become null.

        Args:
          step: environment steps.
          metrics: numbers, or arrays `[seeds]`.
          retry: whether to try again where something could not be written before.
        """
        arrays = {name: np.asarray(value) for name, value in metrics.items()}
        self.waiting.append(
            {"step": step, **{name: _jsonable(value) for name, value in arrays.items()}}
        )
        for writer in self._writers:
            writer.add(step, arrays)
        if retry or not self._failed:
            self.flush()

    def flush(self, *, sync: bool = False) -> None:
        """Writes what is waiting, as far as that is possible; with `sync` it is on the disk
        then.
        """
        try:
            _append(
                self._path,
                "".join(json.dumps(row, allow_nan=False) + "\n" for row in self.waiting),
                sync,
            )
            self.waiting = []
        except OSError as error:
            self._report(FILE, error)
        for writer in list(self._writers):
            try:
                writer.flush()
            except OSError as error:
                self._report(writer.name, error)
            except WriterGone as gone:
                self._writers.remove(writer)
                self.problem = self.problem or str(gone)

    def close(self) -> None:
        """Writes what is waiting, and closes the writers."""
        self.flush()
        for writer in self._writers:
            writer.close()

    def _report(self, what: str, error: OSError) -> None:
        self._failed = True
        reason = error.strerror or str(error)
        self.problem = (
            self.problem
            or f"{what} cannot be written ({reason}); what is missing is tried again later"
        )


class NoLog(RunLog):
    """That of a process beside the one that logs: nothing is written."""

    def __init__(self):
        self.problem, self.waiting = None, []

    def write(self, step: int, metrics: dict[str, Any], *, retry: bool = True) -> None:
        """Nothing."""

    def flush(self, *, sync: bool = False) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Events:
    """TensorBoard events of the mean over seeds, written where they are made: `SummaryWriter`'s
    thread hangs a run when its file is full.

    After an error the file is cut off behind what was whole, and what is waiting goes into another
    one beside it.
    """

    name = "tensorboard"

    def __init__(self, folder: Path, resume_step: int):
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._folder = folder / self.name
        self._purge_step = resume_step + 1 if resume_step else None
        self._writer = None
        self._path = None
        self._size = 0

    def add(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """A row, see `Writer`."""
        means = {
            name: float(value[np.isfinite(value)].mean())
            for name, value in arrays.items()
            if np.isfinite(value).any()
        }
        self._waiting.append((step, means))

    def flush(self) -> None:
        """Writes the rows that were added.

        Raises:
          OSError: they could not all be written, and are all waiting still.
        """
        if not self._waiting:
            return
        try:
            if self._writer is None:
                self._open()
            for step, means in self._waiting:
                self._write(step, means)
            self._writer.flush()
            self._size = self._path.stat().st_size
        except OSError:
            self.close()
            if self._path is not None:
                os.truncate(self._path, self._size)
            raise
        self._waiting = []
        self._purge_step = None

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            with contextlib.suppress(OSError):
                self._writer.close()
            self._writer = None

    def _open(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads files in the order of their names.
        suffix = f".{os.getpid()}.{next(_numbers):06d}"
        self._path = None
        self._size = 0
        self._writer = EventsWriter(str(self._folder / "events"), suffix)
        [self._path] = self._folder.glob(f"*{suffix}")
        if (
            self._purge_step is not None
        ):  # TensorBoard forgets what an earlier process wrote beyond it
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.write_event(event_pb2.Event(session_log=start, step=self._purge_step))

    def _write(self, step: int, means: dict[str, float]) -> None:
        from tensorboardX import summary
        from tensorboardX.proto import event_pb2

        event = event_pb2.Event(step=step, wall_time=time.time())
        event.summary.value.extend(
            value for name, mean in means.items() for value in summary.scalar(name, mean).value
        )
        self._writer.write_event(event)


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's log; a line that is damaged, or was cut by a crash, is left out."""
    return [row for _, row in _lines(folder / FILE) if row is not None]


def column(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps `[R]` and values `[R, seeds]` of the rows that have a metric, null as NaN."""
    having = [row for row in rows if name in row]
    steps = np.array([row["step"] for row in having], float)
    values = np.array([np.atleast_1d(np.array(row[name], float)) for row in having])
    return steps, values.reshape(len(having), -1)


def _lines(path: Path) -> list[tuple[int, dict[str, Any] | None]]:
    """The offset of each line's end, and its row, or None where it is not one."""
    found = []
    end = 0
    for line in path.read_bytes().splitlines(keepends=True):
        end += len(line)
        try:
            row = json.loads(line)
            valid = line.endswith(b"\n") and isinstance(row, dict) and isinstance(row["step"], int)
        except (ValueError, KeyError, RecursionError):
            valid = False
        found.append((end, row if valid else None))
    return found


def _drop_rows_after(path: Path, step: int) -> None:
    """Cuts the file off behind the last row up to a step; what stands before is not touched."""
    if not path.exists():
        return
    keep = max(
        (end for end, row in _lines(path) if row is not None and row["step"] <= step), default=0
    )
    if keep < path.stat().st_size:
        os.truncate(path, keep)


def _append(path: Path, text: str, sync: bool) -> None:
    """Appends all of a text or nothing."""
    with path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            data = memoryview(text.encode())
            while data:
                data = data[file.write(data) :]
            if sync:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def _jsonable(value: np.ndarray) -> float | None | list:
    if value.ndim:
        return [_jsonable(each) for each in value]
    number = float(value)
    return number if math.isfinite(number) else None

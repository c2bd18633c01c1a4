"""The log of a run: `metrics.jsonl`, one row per line, and TensorBoard events with the same names."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

_FILE = "metrics.jsonl"


class RunLog:
    """Writes rows of metrics; a row is {"step": environment steps, name: number or list of one number per seed}.

    Args:
      folder: the run folder.
      resume_step: rows after this step are dropped, so that a resumed run continues its log without a break.
    """

    def __init__(self, folder: Path, resume_step: int = 0):
        from tensorboardX import SummaryWriter

        self._path = folder / _FILE
        rows = [row for row in read(folder) if row["step"] <= resume_step] if self._path.exists() else []
        self._path.write_text("".join(_line(row) for row in rows))
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step + 1 if rows else None)

    def write(self, step: int, metrics: dict[str, Any]) -> None:
        """Appends a row; TensorBoard gets the mean over seeds. Numbers that are not finite become null."""
        arrays = {name: np.asarray(value) for name, value in metrics.items()}
        with self._path.open("a") as file:
            file.write(_line({"step": step, **{name: _jsonable(value) for name, value in arrays.items()}}))
        for name, value in arrays.items():
            finite = value[np.isfinite(value)]
            if finite.size:
                self._tensorboard.add_scalar(name, float(finite.mean()), step)

    def close(self) -> None:
        """Flushes and closes the TensorBoard file."""
        self._tensorboard.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's log; a last line that was cut by a crash is left out."""
    rows = []
    for line in (folder / _FILE).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def column(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps `[R]` and values `[R, seeds]` of the rows that have a metric, null as NaN."""
    having = [row for row in rows if name in row]
    steps = np.array([row["step"] for row in having], float)
    values = np.array([np.atleast_1d(np.array(row[name], float)) for row in having])
    return steps, values.reshape(len(having), -1)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _jsonable(value: np.ndarray) -> Any:
    if value.ndim:
        return [_jsonable(each) for each in value]
    number = value.item()
    return number if math.isfinite(number) else None

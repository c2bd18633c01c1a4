"""The log of a run on Weights & Biases: one run, with the mean and an interval over seeds.

The rows are those of `metrics.jsonl`. A run that is resumed goes on under the id in its folder's
`wandb.json`; offline (`WANDB_MODE=offline`) the files are in its folder's `wandb/`.
"""

import contextlib
import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .logs import WriterGone
from .plotting import interval_of_mean
from .run_folder import write_json

FILE = "wandb.json"
# Seconds that an unreachable server may take of a run.
_INIT_TIMEOUT = 30.0
_FINISH_TIMEOUT = 60.0
# What of a run's description is searched by, beside the hyperparameters.
_CONFIG = ("algorithm", "env", "env_options", "seed", "num_seeds")


class WandbLog:
    """A writer of `RunLog`: after whatever fails in it, it is gone for the rest of the process.

    Args:
      folder: the run folder, after which the run is named.
      description: what `config.json` says of the run.
    """

    name = "wandb"

    def __init__(self, folder: Path, description: dict[str, Any]):
        self._folder = folder
        self._description = description
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._run = None

    def add(self, step: int, arrays: dict[str, np.ndarray]) -> None:
        """A row: the mean of each metric over seeds, and the 95 % interval of it as NAME/low and
        NAME/high, where there are several.
        """
        known = {
            name: np.where(np.isfinite(value), value, np.nan)
            for name, value in arrays.items()
            if np.isfinite(value).any()
        }
        row = {name: float(np.nanmean(value)) for name, value in known.items()}
        several = {name: x for name, x in known.items() if np.isfinite(x).sum() > 1}
        if several:
            bounds = interval_of_mean(np.stack(list(several.values())))
            for name, low, high in zip(several, *bounds, strict=True):
                row |= {f"{name}/low": float(low), f"{name}/high": float(high)}
        self._waiting.append((step, row))

    def flush(self) -> None:
        """Hands over what is waiting.

        Raises:
          WriterGone: that is not possible, for whatever reason.
        """
        if not self._waiting:
            return
        try:
            if self._run is None:
                self._run = self._open()
            for step, row in self._waiting:
                self._run.log(row, step=step)
        except Exception as error:  # of the package, its server or the disk: the run goes on
            self.close()
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise WriterGone(
                f"nothing goes to wandb any more ({reason}); the log is whole in metrics.jsonl"
            ) from error
        self._waiting = []

    def close(self) -> None:
        """Ends the run, as failed where an error is on its way."""
        run, self._run = self._run, None
        if run is not None:
            with contextlib.suppress(Exception):
                run.finish(exit_code=int(sys.exc_info()[0] is not None))

    def _open(self) -> Any:
        import wandb

        options = {"init_timeout": _INIT_TIMEOUT, "finish_timeout": _FINISH_TIMEOUT}
        settings = wandb.Settings(console="off", silent=True, **options)
        online = wandb.setup(settings).settings.mode not in ("offline", "disabled")
        # `init` would ask on a terminal, and wait for an answer for ever.
        if online and not wandb.login(prompt=False, verify=False):
            raise RuntimeError("not logged in: `wandb login`, or set WANDB_MODE=offline")
        known = {name: self._description.get(name) for name in _CONFIG}
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "onejit"),
            name=self._folder.name,
            id=self._id(),
            resume="allow",
            dir=self._folder,
            config=known | self._description.get("config", {}),
            settings=settings,
        )

    def _id(self) -> str:
        """That of an earlier process of the run, or a new one, which is kept."""
        path = self._folder / FILE
        if not path.exists():
            write_json(path, {"id": secrets.token_hex(8)})
        return json.loads(path.read_text())["id"]

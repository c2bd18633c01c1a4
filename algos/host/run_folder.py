"""A run's folder: its description `config.json`, its lock, and whether the two belong to its
checkpoints.

config.json     what runs: algorithm, environment, seeds, hyperparameters, commands, versions
metrics.jsonl   the log, and tensorboard/, wandb/ with the same numbers
checkpoints/    the last State and the best one
curve.png       and for robots episode.html and episode.gif
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import checkpoint, processes
from .checkpoint import CheckpointError

try:
    import fcntl
except ImportError:  # Windows, where nothing is locked
    fcntl = None

CONFIG_FILE = "config.json"
_LOCK = ".lock"
# What a checkpoint knows of its run: with any of these changed it would be another one.
IDENTITY = (
    "algorithm",
    "env",
    "env_options",
    "seed",
    "num_seeds",
    "save_replay",
    "ema_decay",
    "config",
)
# What runs of before it was there do not say.
_LATER = {"ema_decay": 0.0, "num_devices": 1, "log": ["tensorboard"]}
_KINDS = {
    "algorithm": str,
    "env": str,
    "env_options": dict,
    "seed": int,
    "num_seeds": int,
    "num_devices": int,
    "num_logs": int,
    "num_evals": int,
    "eval_episodes": int,
    "record": bool,
    "log": list,
    "save_replay": bool,
    "ema_decay": float,
    "config": dict,
    "changes": list,
    "commands": list,
}
_WORDS = {
    str: "a string",
    dict: "an object",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
}


class RunFolderError(ValueError):
    """A run folder cannot be used; the message says what is wrong with it."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder for this process, or for all in the first of several; the kernel lets go of
    it however the process ends.

    Raises:
      RunFolderError: another process holds it, or nothing can be written there.
    """
    _require_plain(folder)
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        try:
            if fcntl is not None and processes.first():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(f"{folder}: another process is running there") from error
        yield
    finally:
        os.close(descriptor)


def _require_plain(path: Path) -> None:
    """Refuses paths that Orbax takes for patterns: it writes checkpoints there, and cannot read
    them back.
    """
    if set(str(path.absolute())) & set("[]*?"):
        raise RunFolderError(f"{path}: the path of a run folder must not have [, ], * or ?")


def make(out: str, stem: str) -> Path:
    """Makes a new run folder `out/stem-TIME`, with a number behind it where that exists.

    Raises:
      RunFolderError: it cannot be made.
    """
    stem = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in range(1, 1000):
        folder = Path(out, stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.exists():  # a part of the path is a file
                break
        except OSError as error:
            raise RunFolderError(
                f"out={out}: cannot make a folder there ({error.strerror})"
            ) from error
    raise RunFolderError(f"out={out}: cannot make {stem} there")


def require_writable(out: str) -> None:
    """Refuses a place in which no run folder can be made, without making one.

    Raises:
      RunFolderError: it is a file, lies below one, or cannot be written.
    """
    if not out:
        raise RunFolderError("out=: must name a folder")
    _require_plain(Path(out))
    place = Path(out).absolute()
    while not place.exists() and not place.is_symlink():
        place = place.parent
    if not place.is_dir():
        raise RunFolderError(f"out={out}: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RunFolderError(f"out={out}: {place} cannot be written")


def write_json(path: Path, body: Any, **options: Any) -> None:
    """Writes a file of JSON, under another name first, so that there is a whole one at any time.

    Args:
      path: of the file.
      body: what is written.
      **options: of `json.dumps`.

    Raises:
      OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w") as file:
        file.write(json.dumps(body, **options) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write(folder: Path, description: dict[str, Any], file: str = CONFIG_FILE) -> None:
    """Writes `config.json`, or a file of another name.

    Raises:
      RunFolderError: it cannot be written.
    """
    try:
        write_json(folder / file, to_json(description), indent=1, allow_nan=False)
    except OSError as error:
        raise RunFolderError(f"{folder / file}: cannot be written ({error.strerror})") from error


def read(folder: Path, file: str = CONFIG_FILE) -> dict[str, Any]:
    """What a run folder's config.json says, or a file of another name: "algorithm", "env",
    "env_options", "config", "num_seeds", ...

    Raises:
      RunFolderError: it is not there, cannot be read, or is not the description of a run; the
        message names the entry.
    """
    path = Path(folder) / file
    try:
        run = json.loads(path.read_bytes())
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RunFolderError(f"{path}: is not JSON ({error})") from error
    if not isinstance(run, dict):
        raise RunFolderError(f"{path}: is not the description of a run")
    run = _LATER | run
    for name, kind in _KINDS.items():
        if name not in run:
            raise RunFolderError(f'{path}: has no "{name}"')
        if not isinstance(run[name], kind) or (kind is int and isinstance(run[name], bool)):
            raise RunFolderError(f"{path}: {name}={json.dumps(run[name])}: must be {_WORDS[kind]}")
    for name in ("config", "env_options"):
        run[name] = {each: from_json(value) for each, value in run[name].items()}
    return run


def require_known_fields(folder: Path, run: dict[str, Any], names: list[str]) -> None:
    """Checks that config.json has exactly these hyperparameters.

    Raises:
      RunFolderError: names the first that is missing or unknown.
    """
    for name in [*names, *run["config"]]:
        if name not in run["config"] or name not in names:
            what = (
                f"has no config.{name}"
                if name in names
                else f"config.{name} is unknown to {run['algorithm']}"
            )
            raise RunFolderError(f"{folder / CONFIG_FILE}: {what}")


def identity(run: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint is to know of its run, as JSON gives it back."""
    known = to_json({name: (_LATER | run)[name] for name in IDENTITY})
    if run.get("data"):  # the file may be elsewhere
        known["data"] = {name: x for name, x in run["data"].items() if name != "file"}
    return json.loads(json.dumps(known))


def require_same_run(folder: Path, run: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Checks that config.json describes the run that a checkpoint is of.

    Hyperparameters that flags have changed since the checkpoint was made are in config.json's
    "changes".

    Raises:
      CheckpointError: names every entry that differs.
    """
    saved = _flat({name: _LATER[name] for name in IDENTITY if name in _LATER} | metadata["run"])
    for change in run["changes"]:
        try:
            if change["iteration"] >= metadata["iteration"]:
                saved |= _flat({"config": change["config"]})
        except (TypeError, KeyError, AttributeError) as error:
            raise RunFolderError(f'{folder / CONFIG_FILE}: "changes" is damaged') from error
    now = _flat(identity(run))
    absent = object()
    differing = [
        name for name in {**saved, **now} if saved.get(name, absent) != now.get(name, absent)
    ]
    if differing:
        words = ", ".join(
            f"{name} is {now.get(name)!r} and was {saved.get(name)!r}" for name in differing
        )
        raise CheckpointError(
            f"{folder / CONFIG_FILE} does not belong to the checkpoint of iteration"
            f" {metadata['iteration']}: {words}; put it back, and give hyperparameters that are to"
            " change as flags"
        )


def last_checkpoint(saves: Path) -> Path:
    """The checkpoint to go on from, once it is whole.

    Raises:
      CheckpointError: there is none, or it is damaged; the message names the ones beside it that
        are whole.
    """
    existing = checkpoint.checkpoints(saves)
    if not existing:
        raise CheckpointError(f"{saves}: there is no checkpoint to resume from")
    *earlier, last = existing
    try:
        checkpoint.verify(last)
    except CheckpointError as error:
        whole = [path for path in earlier if _is_whole(path)]
        if not whole:
            raise
        raise CheckpointError(
            f"{error}; {whole[-1]} is whole: to go on from there, move {last} away"
        ) from error
    return last


def _is_whole(path: Path) -> bool:
    try:
        checkpoint.verify(path)
    except CheckpointError:
        return False
    return True


def read_metadata(path: Path) -> dict[str, Any]:
    """What a checkpoint of a run knows: "iteration", "eval_return", "run", and rows that are
    "waiting" to be logged.

    Raises:
      CheckpointError: its manifest is damaged, or it is not of a run.
    """
    known = checkpoint.read_metadata(path)
    kinds = {"iteration": int, "eval_return": float, "waiting": list, "run": dict}
    if not all(isinstance(known.get(name), kind) for name, kind in kinds.items()):
        raise CheckpointError(f"{path}: is not a checkpoint of a run")
    return known


def best_checkpoint(saves: Path) -> Path:
    """The checkpoint with the highest evaluated return in a run's folder of checkpoints, the latest
    of equals.

    Raises:
      CheckpointError: there is none, or none is whole.
    """
    scores = {}
    why = ""
    for path in checkpoint.checkpoints(saves):
        try:
            score = read_metadata(path)["eval_return"]
        except CheckpointError as error:  # one that was damaged since is not the best
            why = f": {error}"
        else:
            scores[path] = score if math.isfinite(score) else -math.inf
    if not scores:
        raise CheckpointError(f"{saves}: there is no whole checkpoint{why}")
    return max(scores, key=lambda path: (scores[path], int(path.name)))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        flat |= (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return flat


def to_json(value: Any) -> Any:
    """What JSON can say of a value: numbers that are not finite as strings."""
    if isinstance(value, dict):
        return {name: to_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return list(map(to_json, value))
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def from_json(value: Any) -> Any:
    """A value as it was before `to_json` and JSON: lists are tuples again."""
    if isinstance(value, list):
        return tuple(map(from_json, value))
    return float(value) if value in ("inf", "-inf") else value

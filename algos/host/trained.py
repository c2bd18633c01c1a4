"""What a run folder was trained to: its algorithm, and the State of a checkpoint."""

import dataclasses
import runpy
import traceback
from pathlib import Path
from typing import Any

import jax

from ... import algos, envs
from . import checkpoint, run_data, run_folder
from .script_flags import UsageError

REGISTER = "A Python file that calls envs.register, for an environment of your own."


def load(folder: Path, last: bool, member: int) -> tuple[algos.Algorithm, Any]:
    """The algorithm of a run folder, and the State of its best or last checkpoint.

    Args:
      folder: of the run.
      last: take the last checkpoint and not the one with the best evaluation.
      member: which of the seeds that were trained side by side.

    Raises:
      RunFolderError: it is not a run folder.
      UsageError: it is of an algorithm or environment that cannot be made, or has no such member.
      CheckpointError: there is no whole checkpoint, or it is of another run.
    """
    run = run_folder.read(folder)
    module = getattr(algos, run["algorithm"], None)
    num_seeds = run["num_seeds"]
    if not hasattr(module, "Config"):
        raise UsageError(f"{folder}: is a run of {run['algorithm']!r}, which is no algorithm here")
    path = chosen_checkpoint(folder, last)
    known = run_folder.read_metadata(path)  # says so first if it is of an older version
    run_folder.require_known_fields(
        folder, run, [field.name for field in dataclasses.fields(module.Config)]
    )
    if not member < num_seeds:
        raise UsageError(f"member={member}: the run has {num_seeds} seeds, counted from 0")
    try:
        env = envs.make(run["env"], **run["env_options"])
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        hint = "; one of your own: --register=FILE that registers it"
        raise UsageError(f"the environment of {folder} cannot be made: {error}{hint}") from error
    try:
        algorithm = module.make(env, module.Config(**run["config"]), **run_data.options(run))
        algorithm = algos.averaged(algorithm, run["ema_decay"])
    except ValueError as error:
        raise UsageError(f"{folder}: {error}") from error
    run_folder.require_same_run(folder, run, known)

    def init(key):
        return (
            jax.vmap(algorithm.init)(jax.random.split(key, num_seeds))
            if num_seeds > 1
            else algorithm.init(key)
        )

    state = checkpoint.restore(path, jax.eval_shape(init, jax.random.key(0)))
    if num_seeds > 1:  # a replay that was not saved is a shape alone
        state = jax.tree.map(lambda x: x[member] if isinstance(x, jax.Array) else x, state)
    return algorithm, state


def chosen_checkpoint(folder: Path, last: bool) -> Path:
    """The last checkpoint of a run, or the one with the best evaluation.

    Raises:
      CheckpointError: there is no whole one.
    """
    saves = folder / "checkpoints"
    return run_folder.last_checkpoint(saves) if last else run_folder.best_checkpoint(saves)


def register(file: str) -> None:
    """Runs a file that registers environments.

    Raises:
      UsageError: there is no such file, or an error was raised in it.
    """
    if not Path(file).is_file():
        raise UsageError(f"register={file}: there is no such file")
    try:
        runpy.run_path(file)
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == file
        ]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise UsageError(f"register={where}: {type(error).__name__}: {error}") from error

"""Draws an episode of a trained policy: `onejit render RUN_FOLDER`, without a screen.

Writes `episode.gif` into the run folder, and for robots `episode.html`, a page in which the episode
can be played and turned, and which needs no internet. With --mp4 also `episode.mp4` (extra
`video`).

Exits with 0 if something was drawn, 1 if a checkpoint is damaged, 2 if the input is wrong or
nothing can be drawn.
"""

import dataclasses
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from .... import algos, envs
from ....envs.mujoco.renderer import RenderError
from ...core.averaging import evaluated
from ...core.evaluation import player
from .. import checkpoint, cli, compilation_cache, exits, recording, run_data, run_folder
from ..console import make_console
from ..script_flags import plain_help


def define_flags() -> flags.FlagValues:
    """The flags of this command, in a FlagValues of their own."""
    values = flags.FlagValues()

    def integer(name, default, doc, low, high):
        flags.DEFINE_integer(name, default, doc, low, high, flag_values=values)

    def switch(name, doc, short_name=None):
        flags.DEFINE_bool(name, False, doc, short_name=short_name, flag_values=values)

    switch("help", "Show this help.", "h")
    flags.DEFINE_string(
        "register",
        None,
        "A Python file that calls envs.register, for an environment of your own.",
        flag_values=values,
    )
    switch("last", "The last checkpoint, not the one with the best evaluation.")
    integer("member", 0, "Which of the seeds that were trained side by side.", 0, None)
    switch("stochastic", "Sample the actions as in training.")
    integer("seed", 0, "Of the episode.", 0, 2**32 - 1)
    integer("max_steps", 1000, "Steps after which it stops.", 1, 10_000)
    switch("mp4", "Also write an MP4.")
    flags.DEFINE_string("compilation_cache", None, compilation_cache.HELP, flag_values=values)
    return values


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
        raise cli.UsageError(
            f"{folder}: is a run of {run['algorithm']!r}, which is no algorithm here"
        )
    saves = folder / "checkpoints"
    path = run_folder.last_checkpoint(saves) if last else run_folder.best_checkpoint(saves)
    known = run_folder.read_metadata(path)  # says so first if it is of an older version
    run_folder.require_known_fields(
        folder, run, [field.name for field in dataclasses.fields(module.Config)]
    )
    if not member < num_seeds:
        raise cli.UsageError(f"member={member}: the run has {num_seeds} seeds, counted from 0")
    try:
        env = envs.make(run["env"], **run["env_options"])
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        hint = "; one of your own: --register=FILE that registers it"
        raise cli.UsageError(
            f"the environment of {folder} cannot be made: {error}{hint}"
        ) from error
    try:
        algorithm = module.make(env, module.Config(**run["config"]), **run_data.options(run))
        algorithm = algos.averaged(algorithm, run["ema_decay"])
    except ValueError as error:
        raise cli.UsageError(f"{folder}: {error}") from error
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


def register(file: str) -> None:
    """Runs a file that registers environments.

    Raises:
      UsageError: there is no such file, or an error was raised in it.
    """
    if not Path(file).is_file():
        raise cli.UsageError(f"register={file}: there is no such file")
    try:
        runpy.run_path(file)
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == file
        ]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise cli.UsageError(f"register={where}: {type(error).__name__}: {error}") from error


def draw(arguments: Sequence[str]) -> int:
    """Plays an episode and draws it; returns 0.

    Raises:
      UsageError, RunFolderError, ContractError, flags.Error: the input is wrong, or nothing could
      be drawn.
      CheckpointError: the checkpoint cannot be restored.
    """
    values = define_flags()
    console = make_console()
    folders = values(arguments)[1:]
    if values.help:
        console.print(plain_help(__doc__, values), markup=False)
        return 0
    if len(folders) != 1:
        raise cli.UsageError(f"give one run folder, got {len(folders)}")
    folder = Path(folders[0])
    if values.register is not None:
        register(values.register)
    with compilation_cache.enabled(values.compilation_cache):
        algorithm, state = load(folder, values.last, values.member)
        act, memory = player(algorithm, state, not values.stochastic)
        key = jax.random.key(values.seed)
        states = recording.record_episode(
            algorithm.env, act, key, max_steps=values.max_steps, memory=memory
        )
    files, problems = recording.save_recording(folder, algorithm.env, states)
    try:
        if values.mp4 and folder / "episode.gif" in files:
            files.append(recording.gif_to_mp4(folder / "episode.gif"))
    except RenderError as error:
        problems.append(str(error))
    for problem in problems:
        console.print(problem, markup=False)
    if not files:
        raise cli.UsageError(f"nothing of {folder} could be drawn")
    of = " of the average of the parameters" if evaluated(state) == "average" else ""
    console.print(f"{len(states) - 1} steps{of}, in " + ", ".join(map(str, files)), markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command, and exits with a code."""
    argv = list(sys.argv if argv is None else argv)
    exits.exit_with_code(argv, lambda: draw(argv))

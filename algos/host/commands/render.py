"""Draws an episode of a trained policy: `onejit render RUN_FOLDER`, without a screen.

Writes `episode.gif` into the run folder, and for robots `episode.html`, a page in which the episode
can be played and turned, and which needs no internet. With --mp4 also `episode.mp4` (extra
`video`).

Exits with 0 if something was drawn, 1 if a checkpoint is damaged, 2 if the input is wrong or
nothing can be drawn.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from ....envs.mujoco.renderer import RenderError
from ...core.averaging import evaluated
from ...core.evaluation import player
from .. import cli, compilation_cache, exits, recording, trained
from ..console import make_console
from ..script_flags import plain_help, programs_kept


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
        trained.REGISTER,
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
        trained.register(values.register)
    with programs_kept(values):
        algorithm, state = trained.load(folder, values.last, values.member)
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

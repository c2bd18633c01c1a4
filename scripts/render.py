"""Draws an episode of a trained policy: `python scripts/render.py RUN_FOLDER`, without a screen.

Writes `episode.gif` into the run folder, and for robots `episode.html`, a page in which the episode can be played and
turned, and which needs no internet. With --mp4 also `episode.mp4` (extra `video`).
"""

import runpy
import sys
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from onejit import algos, envs
from onejit.algos import checkpoint, recording, run_folder
from onejit.envs.mujoco_renderer import RenderError


def load(folder: Path, last: bool, member: int) -> tuple[algos.Algorithm, Any]:
    """The algorithm of a run folder, and the State of its best or last checkpoint.

    Args:
      folder: of the run.
      last: take the last checkpoint and not the one with the best evaluation.
      member: which of the seeds that were trained side by side.

    Raises:
      app.UsageError: it is not a run folder, or has no such member.
      CheckpointError: there is no whole checkpoint.
    """
    try:
        run = run_folder.read(folder)
        module = getattr(algos, run["algorithm"])
        config = module.Config(**run["config"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise app.UsageError(f"{folder}: is not the folder of a run ({error})") from error
    try:
        algorithm = module.make(envs.make(run["env"], **run["env_options"]), config)
    except (ValueError, ModuleNotFoundError) as error:
        hint = "; one of your own: --register=FILE that registers it"
        raise app.UsageError(f"the environment of {folder} cannot be made: {error}{hint}") from error
    if not 0 <= member < run["num_seeds"]:
        raise app.UsageError(f"member={member}: the run has {run['num_seeds']} seeds, counted from 0")
    many = run["num_seeds"] > 1
    keys = jax.random.split(jax.random.key(0), run["num_seeds"]) if many else jax.random.key(0)
    saves = folder / "checkpoints"
    path = checkpoint.checkpoints(saves)[-1:] if last else [run_folder.best_checkpoint(saves)]
    if not path:
        raise checkpoint.CheckpointError(f"{saves}: there is no checkpoint")
    state = checkpoint.restore(path[0], jax.eval_shape(jax.vmap(algorithm.init) if many else algorithm.init, keys))
    return algorithm, jax.tree.map(lambda x: x[member], state) if many else state


def main(argv: list[str]) -> None:
    """Plays an episode and draws it."""
    if len(argv) != 2:
        raise app.UsageError("give one run folder")
    values, folder = flags.FLAGS, Path(argv[1])
    if values.register:
        runpy.run_path(values.register)
    try:
        algorithm, state = load(folder, values.last, values.member)
    except checkpoint.CheckpointError as error:
        sys.exit(f"render.py: {error}")

    def act(obs, key):
        return algorithm.act(state, obs, key, not values.stochastic)

    states = recording.record_episode(algorithm.env, act, jax.random.key(values.seed), max_steps=values.max_steps)
    files, problems = recording.save_recording(folder, algorithm.env, states)
    try:
        if values.mp4 and folder / "episode.gif" in files:
            files.append(recording.gif_to_mp4(folder / "episode.gif"))
    except RenderError as error:
        problems.append(str(error))
    for problem in problems:
        print(problem)
    if not files:
        sys.exit(f"render.py: nothing of {folder} could be drawn")
    print(f"{len(states) - 1} steps, in " + ", ".join(str(path) for path in files))


if __name__ == "__main__":
    flags.DEFINE_string("register", None, "A Python file that calls envs.register, for an environment of your own.")
    flags.DEFINE_bool("last", False, "The last checkpoint, not the one with the best evaluation.")
    flags.DEFINE_integer("member", 0, "Which of the seeds that were trained side by side.")
    flags.DEFINE_bool("stochastic", False, "Sample the actions as in training.")
    flags.DEFINE_integer("seed", 0, "Of the episode.")
    flags.DEFINE_integer("max_steps", 1000, "Steps after which it stops.", lower_bound=1)
    flags.DEFINE_bool("mp4", False, "Also write an MP4.")
    app.run(main)

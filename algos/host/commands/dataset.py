"""Makes a data set to learn from: `onejit dataset --from=runs/FOLDER --save=data/NAME`.

--what=replay takes what the replay of the run holds at its checkpoint, --what=policy has the policy
of the checkpoint act for --steps environment steps, as in training (--deterministic: without
exploring). Without --from, random actions are taken in --env. --mix=FILE,FILE puts files behind
each other instead. Returns of a random policy and of an expert are measured and stored, for
normalised scores: the expert is --expert=runs/FOLDER, or else the run of --from itself.

Exits with 0 if the file was written, 1 if a checkpoint is damaged, 2 if the input is wrong.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from .... import algos, envs
from ...core import dataset
from ...core.dataset_checks import other_environment
from ...off_policy import replay
from .. import cli, compilation_cache, dataset_files, exits, run_folder
from ..console import make_console
from ..script_flags import plain_help, programs_kept
from ..trained import load

_OF_A_MIX = ("mix", "save", "compilation_cache")


def define_flags() -> flags.FlagValues:
    """The flags of this command, in a FlagValues of their own."""
    values = flags.FlagValues()
    options = {"flag_values": values}
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", **options)
    flags.DEFINE_string("from", None, "A run folder.", **options)
    flags.DEFINE_string("save", None, "The file to write.", **options)
    flags.DEFINE_enum("what", "policy", ["policy", "replay"], "What of the run.", **options)
    flags.DEFINE_list("mix", [], "Files to put behind each other.", **options)
    flags.DEFINE_string("env", "gymnax/Pendulum-v1", "Where random actions are taken.", **options)
    flags.DEFINE_string("expert", None, "The run folder of the expert.", **options)
    flags.DEFINE_bool("last", False, "The last checkpoint, not the best one.", **options)
    flags.DEFINE_bool("deterministic", False, "The policy acts without exploring.", **options)
    doc = "Which of the seeds of --from, or of an --expert without one."
    flags.DEFINE_integer("member", 0, doc, 0, None, **options)
    flags.DEFINE_integer("steps", 20_000, "Environment steps.", 1, 2**31 - 1, **options)
    flags.DEFINE_integer("envs", 16, "Environments that are stepped together.", 1, None, **options)
    flags.DEFINE_integer("episodes", 100, "Episodes to measure returns by.", 1, None, **options)
    flags.DEFINE_integer("seed", 0, "Of all that is drawn.", 0, 2**32 - 1, **options)
    flags.DEFINE_string("compilation_cache", None, compilation_cache.HELP, **options)
    return values


def require_environment(folder: str, known: dict[str, Any]) -> None:
    """Checks that a run is of the environment of the data that are `known`, as its returns are to
    be a score of theirs.

    Raises:
      UsageError: it is not.
    """
    run = run_folder.read(Path(folder))
    ids = (run["env"], run["env_options"]), (known["env_id"], known["env_options"])
    if other := other_environment(*ids):
        raise cli.UsageError(f"expert={folder}: is not of the data's environment: {other}")


def expert_score(folder: str, values: flags.FlagValues, key: Any) -> float:
    """The mean return of a run's best checkpoint, without exploring."""
    member = values.member if values["from"].value in (None, folder) else 0
    algorithm, state = load(Path(folder), False, member)
    evaluate = algos.evaluator(algorithm, num_episodes=values.episodes)
    return float(jax.jit(evaluate)(state, key)["eval/episodic_return"])


def made(values: flags.FlagValues) -> algos.Dataset:
    """The data set that the flags ask for."""
    if values.mix:
        beside = sorted(each for each in values if values[each].present and each not in _OF_A_MIX)
        if beside:
            raise cli.UsageError(f"{beside[0]}={values[beside[0]].value}: says nothing of a --mix")
        return dataset.mix(*map(dataset_files.load, values.mix))
    record_key, random_key, expert_key = jax.random.split(jax.random.key(values.seed), 3)
    folder = values["from"].value
    without = "without" if folder is None else "with"
    for each in ("what", "last", "deterministic") if folder is None else ("env",):
        if values[each].present:
            raise cli.UsageError(f"{each}={values[each].value}: says nothing {without} a --from")
    if folder is None:
        env, known = envs.make(values.env), {"env_id": values.env, "source": "random actions"}
        known["env_options"] = dict(getattr(env, "options", {}))
    else:
        run = run_folder.read(Path(folder))
        algorithm, state = load(Path(folder), values.last, values.member)
        env = algorithm.env
        words = f"{values.what} of {run['algorithm']} after {_steps(algorithm, state):,} steps"
        known = {"env_id": run["env"], "env_options": run["env_options"], "source": words}
    expert = values.expert or folder
    if expert is not None:
        require_environment(expert, known)
    steps = {"num_steps": values.steps, "num_envs": values.envs}
    if folder is None:
        data = dataset.record_random(env, record_key, **steps, **known)
    elif values.what == "replay":
        if not algorithm.replay or not run["save_replay"]:
            raise cli.UsageError(f"from={folder}: its checkpoint holds no replay")
        data = dataset.of_steps(replay.in_order(state.replay), env, **known)
    else:
        steps["deterministic"] = values.deterministic
        data = dataset.record(algorithm, state, record_key, **steps, **known)
    data = data.replace(random_score=dataset.random_score(env, random_key, values.episodes))
    if expert is not None:
        data = data.replace(expert_score=expert_score(expert, values, expert_key))
    return data


def _steps(algorithm: algos.Algorithm, state: Any) -> int:
    return algorithm.steps_after(int(state.learner.iteration))


def make(argv: Sequence[str]) -> int:
    """Makes the data set that a command line asks for; returns 0.

    Raises:
      UsageError, DatasetError, RunFolderError, flags.Error: the input is wrong.
      CheckpointError: a checkpoint cannot be restored.
    """
    values = define_flags()
    cli.parse(values, argv)
    console = make_console()
    if values.help:
        console.print(plain_help(__doc__, values), markup=False)
        return 0
    if not values.save:
        raise cli.UsageError("save=: must name the file to write")
    with programs_kept(values):
        data = made(values)
    path = dataset_files.save(values.save, data)
    scores = (
        "no scores" if data.scores is None else "random {:.1f}, expert {:.1f}".format(*data.scores)
    )
    console.print(f"{len(data):,} transitions, {data.source}; {scores}; in {path}", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command, and exits with a code."""
    argv = list(sys.argv if argv is None else argv)
    exits.exit_with_code(argv, lambda: make(argv))

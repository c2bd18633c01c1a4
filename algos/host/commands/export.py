"""Exports a trained policy: `onejit export RUN_FOLDER`, to be used without onejit.

Writes a new folder, by default `policy` in the run folder, with the policy as it acts without
exploring, its normaliser in it: `policy.jaxexport`, a program for cpu, cuda and tpu that
`policy_jax.py` reads by jax alone; `policy_numpy.py`, the same as plain lines of numpy, and
`policy.npz`, the arrays that they read; and `manifest.json`. See docs/export.md.

Exits with 0 if the policy was written, 1 if a checkpoint is damaged, 2 if the input is wrong.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ...core.averaging import evaluated
from .. import compilation_cache, exits, export, run_folder, runner, trained
from ..console import make_console
from ..script_flags import UsageError, plain_help, programs_kept


def define_flags() -> flags.FlagValues:
    """The flags of this command, in a FlagValues of their own."""
    values = flags.FlagValues()

    def switch(name, doc, short_name=None):
        flags.DEFINE_bool(name, False, doc, short_name=short_name, flag_values=values)

    def string(name, doc):
        flags.DEFINE_string(name, None, doc, flag_values=values)

    switch("help", "Show this help.", "h")
    string("out", "The new folder; by default policy in the run folder.")
    string("register", trained.REGISTER)
    switch("last", "The last checkpoint, not the one with the best evaluation.")
    doc = "Which of the seeds that were trained side by side."
    flags.DEFINE_integer("member", 0, doc, 0, None, flag_values=values)
    string("compilation_cache", compilation_cache.HELP)
    return values


def write(arguments: Sequence[str]) -> int:
    """Exports the policy of a run; returns 0.

    Raises:
      UsageError, RunFolderError, flags.Error: the input is wrong.
      CheckpointError: the checkpoint cannot be restored.
    """
    values = define_flags()
    console = make_console()
    folders = values(arguments)[1:]
    if values.help:
        console.print(plain_help(__doc__, values), markup=False)
        return 0
    if len(folders) != 1:
        raise UsageError(f"give one run folder, got {len(folders)}")
    folder = Path(folders[0])
    out = folder / "policy" if values.out is None else Path(values.out)
    run = run_folder.read(folder)
    export.require_new(out)
    if values.register is not None:
        trained.register(values.register)
    with programs_kept(values):
        algorithm, state = trained.load(folder, values.last, values.member)
        known = run_folder.read_metadata(trained.chosen_checkpoint(folder, values.last))
        about = {
            "algorithm": run["algorithm"],
            "environment": run["env"],
            "env_options": run["env_options"],
            "seed": run["seed"],
            "member": values.member,
            "iteration": known["iteration"],
            "parameters": evaluated(state),
            "versions": runner.versions(),
        }
        done = export.export_policy(algorithm, state, out, about)
    for problem in done.problems:
        console.print(problem, markup=False)
    files = ", ".join(sorted(done.manifest["files"]))
    console.print(f"{files} and manifest.json in {out}", markup=False)
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command, and exits with a code."""
    argv = list(sys.argv if argv is None else argv)
    exits.exit_with_code(argv, lambda: write(argv))

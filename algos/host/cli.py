"""The command line of the scripts: every field of a Config is a flag; the rest is about the run.

`main(ppo)` is a whole script. Wrong input is refused before anything compiles, in one line and with
exit code 2.
"""

import dataclasses
import importlib.util
import math
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from rich.console import Console

from ... import envs
from ..core.averaging import averaged
from ..core.config import BaseConfig
from ..core.distribution import make_mesh
from . import exits, presets, processes, run_data, run_folder, runner
from .console import make_console
from .script_flags import UsageError, define_flags, help_text, named_values, programs_kept

# Bounds of the flags that concern the run; num_seeds and eval_episodes go through the estimate of
# memory too.
_LIMITS = {
    "seed": (0, 2**32 - 1),
    "num_seeds": (1, 2**24),
    "num_devices": (1, 2**16),
    "num_logs": (1, 2**31 - 1),
    "num_evals": (1, 2**31 - 1),
    "eval_episodes": (1, 2**31 - 1),
    "ema_decay": (0, 1),
}
# These say nothing of the run.
OF_THE_PROCESS = {"resume", "help", "h", "compilation_cache", *processes.FLAGS}
# Of these a resumed run may have others.
_OF_THE_HOST = ("num_devices", "num_logs", "num_evals", "eval_episodes", "record", "log")
_SETTINGS = ("seed", "num_seeds", "num_logs", "num_evals", "eval_episodes", "record", "save_replay")
_SETTINGS += ("log",)
_LOGS = ("tensorboard", "wandb")


def main(
    module: ModuleType,
    argv: Sequence[str] | None = None,
    *,
    default_env: str | None = None,
) -> None:
    """Runs an algorithm from the command line, and exits with a code.

    0: finished. 1: a checkpoint could not be restored. 2: wrong input. 3: a NaN, an infinity or
    divergence stopped the run. 4: a checkpoint could not be written. 5: another process of the run
    is gone. 129, 130 and 143: stopped by SIGHUP, Ctrl-C or SIGTERM, with a checkpoint saved.

    Args:
      module: the algorithm, such as `onejit.algos.ppo`: its name, Config and make are used.
      argv: the command line, the program's name included; sys.argv by default.
      default_env: the environment, where no flag says otherwise; by default
        `presets.default_env`.
    """
    argv = list(sys.argv if argv is None else argv)
    name = module.__name__.rpartition(".")[2]
    env = default_env or presets.default_env(name)
    exits.exit_with_code(argv, lambda: _run(module, name, argv, env))


def _run(module: ModuleType, name: str, argv: list[str], default_env: str) -> int:
    values = define_flags(module.Config, default_env)
    parse(values, argv)
    console = make_console()
    if values.help:
        console.print(help_text(module, name, values), markup=False)
        return 0
    with programs_kept(values), processes.joined(values):
        return _start(module, name, argv, values, console)


def _start(
    module: ModuleType, name: str, argv: list[str], values: flags.FlagValues, console: Console
) -> int:
    given = {each for each in values if values[each].present}
    resumed = None
    done = 0
    if values.resume is not None:
        if not values.resume:
            raise UsageError("resume=: must name a run folder")
        resumed = Path(values.resume)
        run, before, done = _load(module, values, given - OF_THE_PROCESS, name)
    else:
        run = new_run(module, values, name)
        run_folder.require_writable(values.out)
    env = make_env(run)
    made = module.make(env, module.Config(**run["config"]), **run_data.options(run))
    algorithm = averaged(made, run["ema_decay"])
    total_steps = run["config"]["total_steps"]
    if algorithm.iterations(total_steps) < done:
        raise UsageError(
            f"total_steps={total_steps}: the run has taken {algorithm.steps_after(done)} steps"
            " already"
        )
    if resumed is not None:
        for jump in _jumps(before, algorithm.config, algorithm.steps_after(done)):
            console.print(f"with total_steps={total_steps} {jump}", markup=False)
    if resumed is None:
        stem = f"{name}-{run['env'].replace('/', '-')}-seed{run['seed']}"
        return _train(
            algorithm, run, name, argv, lambda: run_folder.make(values.out, stem), console
        )
    return _train(algorithm, run, name, argv, resumed, console)


def parse(values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Reads a command line.

    Raises:
      UsageError, flags.Error: it has what is not a flag, or a value that is not allowed.
    """
    try:
        extra = values(argv)[1:]
    except ValueError as error:  # absl's own, of --norecord=true
        raise UsageError(str(error)) from error
    if extra:
        raise UsageError(f"{extra[0]!r} is not a flag; flags are written --name=value")


def make_env(run: dict[str, Any]) -> envs.Environment:
    """The environment of a run's description, once its numbers are within their bounds and its logs
    can be written. What it was made with goes into the description, the defaults included: they may
    change some day.

    Raises:
      UsageError: a number is out of bounds, a log is unknown, or it cannot be made.
      ModuleNotFoundError: a log needs a package that is not installed.
    """
    _require_logs(run["log"])
    for field, (low, high) in _LIMITS.items():
        if not low <= run[field] <= high:
            raise UsageError(f"{field}={run[field]}: must be at least {low} and at most {high}")
    try:
        env = envs.make(run["env"], **run["env_options"])
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"env: {error}") from error
    run["env_options"] |= getattr(env, "options", {})
    return env


def _require_logs(names: Sequence[str]) -> None:
    for name in names:
        if name not in _LOGS or names.count(name) > 1:
            raise UsageError(f"log={','.join(map(str, names))}: must be of {', '.join(_LOGS)}")
    # W&B's own folder `wandb/` is no package, though it can be imported where one stands beside it.
    if "wandb" in names and getattr(importlib.util.find_spec("wandb"), "origin", None) is None:
        raise ModuleNotFoundError("log=wandb: is not installed: pip install 'onejit[wandb]'")


def new_run(module: ModuleType, values: flags.FlagValues, name: str) -> dict[str, Any]:
    """The description of a run from flags and preset: what is written to config.json."""
    fields = [field.name for field in dataclasses.fields(module.Config)]
    data = run_data.describe(module, name, values)
    preset = presets.get(name, values.env)
    chosen = {each: values[each].value for each in fields if values[each].value is not None}
    config = {
        **{field.name: field.default for field in dataclasses.fields(module.Config)},
        **preset,
        **chosen,
    }
    return {
        "algorithm": name,
        "env": values.env,
        "env_options": named_values(values.env_options, "env_options"),
        "num_devices": values.num_devices,
        "ema_decay": values.ema_decay,
        **{each: values[each].value for each in _SETTINGS},
        "data": data,
        "config": config,
        "changes": [],
        "commands": [],
    }


def _load(module: ModuleType, values: flags.FlagValues, given: set[str], name: str):
    """The description of an earlier run, which its last checkpoint belongs to, with what the flags
    replace.

    Returns:
      (the description, the config before, iterations done).
    """
    folder = Path(values.resume)
    run = run_folder.read(folder)
    if run["algorithm"] != name:
        raise UsageError(f"resume={folder}: is a run of {run['algorithm']}, not of {name}")
    known = run_folder.read_metadata(run_folder.last_checkpoint(folder / "checkpoints"))
    run_folder.require_known_fields(
        folder, run, [field.name for field in dataclasses.fields(module.Config)]
    )
    before = module.Config(**run["config"])
    run_folder.require_same_run(folder, run, known)
    changed = {}
    was = run | run_data.as_flags(run) | {"out": folder}
    for each in given:
        new = run_data.whole(each, values[each].value)
        if each == "env_options":
            new = run[each] | named_values(new, each)
        if each in run["config"]:
            if new != run["config"][each]:
                changed[each] = new
        elif each in _OF_THE_HOST:
            run[each] = new
        elif new != was[each]:
            raise UsageError(
                f"{each}={new}: cannot be changed when a run is resumed, it was {was[each]}"
            )
    after = before.replace(**changed)
    after.require_same_static_fields(before)
    if changed:
        run["config"] |= changed
        run["changes"].append({"iteration": known["iteration"], "config": changed})
    return run, before, known["iteration"]


def _train(
    algorithm, run: dict[str, Any], name: str, argv: list[str], folder: Any, console: Console
) -> int:
    resuming = isinstance(folder, Path)
    run["commands"].append(shlex.join([*program(argv), *argv[1:]]))
    run["versions"] = runner.versions()
    settings = runner.Settings(
        folder=folder,
        title=f"{name.upper()} on {run['env']}",
        mesh=make_mesh(run["num_devices"]),
        description=run,
        **{each: run[each] for each in _SETTINGS},
    )
    total_iterations = algorithm.iterations(run["config"]["total_steps"])
    preset = presets.get(name, run["env"])
    if preset and not resuming:
        shown = ", ".join(f"{each}={value}" for each, value in preset.items())
        console.print(
            f"preset for {run['env']}, where no flag says otherwise: {shown}", markup=False
        )
    try:
        result = runner.run(
            algorithm, settings, total_iterations=total_iterations, resume=resuming, console=console
        )
    except runner.Interrupted as interrupted:
        command = resume_command(argv, interrupted.folder)
        console.print(
            f"stopped by {interrupted}; to continue{in_each()}:\n  {command}", markup=False
        )
        return 128 + interrupted.signal_number
    steps = algorithm.steps_after(total_iterations) * run["num_seeds"]
    speed = ""
    if result.run_seconds and not resuming:
        speed = f", {steps / result.run_seconds:,.0f} steps/s"
    console.print(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.run_seconds:.1f} s{speed};"
        f" evaluated return {result.eval_returns.mean():.1f}"
        + (" of the average of the parameters" if run["ema_decay"] else "")
    )
    for problem in result.problems:
        console.print(problem, markup=False)
    console.print(
        f"the run is in {result.folder}: " + ", ".join(path.name for path in result.files),
        markup=False,
    )
    total_steps = run["config"]["total_steps"]
    longer = _jumps(
        algorithm.config, algorithm.config.replace(total_steps=2 * total_steps), total_steps
    )
    console.print(
        f"next: {_python()} -m tensorboard.main --logdir={shlex.quote(str(result.folder.parent))},"
        f" or train longer{in_each()}:\n  {resume_command(argv, result.folder)}"
        f" --total_steps={2 * total_steps}" + "".join(f"\n  where {jump}" for jump in longer),
        markup=False,
    )
    return 0


def _jumps(before: BaseConfig, after: BaseConfig, steps: int) -> list[str]:
    """What other total_steps do to the schedules after so many steps, a sentence for each that goes
    on elsewhere.
    """
    was, becomes = (
        config.schedules(min(1.0, steps / config.total_steps)) for config in (before, after)
    )
    return [
        f"{name}, which runs over total_steps, goes on at {becomes[name]:.3g} and not at"
        f" {was[name]:.3g}"
        for name in was
        if not math.isclose(was[name], becomes[name], rel_tol=1e-3, abs_tol=1e-12)
    ]


def program(argv: list[str]) -> list[str]:
    """What was typed before the flags: a script, or `onejit` and the name of a command."""
    return argv[0].split() if re.fullmatch(r"onejit \w+", argv[0]) else [argv[0]]


def resume_command(argv: list[str], folder: Path) -> str:
    """What continues a run, with this Python and from this folder."""
    words = program(argv)
    module = ["-m"] if len(words) > 1 else []
    return shlex.join([_python(), *module, *words, f"--resume={folder}"])


def in_each() -> str:
    """What that command needs besides, where there are several processes."""
    return ", in each process with the flags that join them" if processes.several() else ""


def _python() -> str:
    """This Python as one types it here."""
    here = Path.cwd()
    python = Path(sys.executable)
    return str(python.relative_to(here)) if python.is_relative_to(here) else str(python)

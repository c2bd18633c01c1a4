"""The command line of the scripts: every field of a Config is a flag; the rest is about the run.

`main(ppo)` is a whole script. Wrong input is refused before anything compiles, in one line and with exit code 2.
"""

import ast
import dataclasses
import json
import math
import shlex
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from rich.console import Console

from .. import envs
from . import presets, runner
from .checkpoint import CheckpointError
from .config import BaseConfig, ConfigError, field_docs

_CONFIG_FILE = "config.json"


class UsageError(ValueError):
    """The command line is wrong; the message says what and what is allowed."""


class _IntegerParser(flags.ArgumentParser):
    """Integers, also written as 1e6."""

    syntactic_help = "an integer"

    def parse(self, argument):
        number = float(argument)
        if not number.is_integer():
            raise ValueError("must be an integer")
        return int(argument) if str(argument).lstrip("+-").isdigit() else int(number)


class _SizesParser(flags.ArgumentParser):
    """Integers separated by commas."""

    syntactic_help = "integers separated by commas"

    def parse(self, argument):
        if isinstance(argument, tuple):
            return argument
        return tuple(int(each) for each in argument.split(","))


def main(module: ModuleType, argv: Sequence[str] | None = None, *, default_env: str = "gymnax/CartPole-v1") -> None:
    """Runs an algorithm from the command line, and exits with a code.

    0: finished. 1: a checkpoint could not be restored. 2: wrong input. 3: a NaN or infinity stopped the run.
    130 and 143: stopped by Ctrl-C or SIGTERM, with a checkpoint saved.

    Args:
      module: the algorithm, such as `onejit.algos.ppo`: its name, Config and make are used.
      argv: the command line, the program's name included; sys.argv by default.
      default_env: the environment, where no flag says otherwise.
    """
    argv = list(sys.argv if argv is None else argv)
    name = module.__name__.rpartition(".")[2]
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        sys.exit(_run(module, name, argv, default_env))
    except (UsageError, ConfigError, flags.Error, ModuleNotFoundError) as error:
        errors.print(f"{Path(argv[0]).name}: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print(f"{Path(argv[0]).name}: interrupted before there was anything to save", markup=False)
        sys.exit(130)
    except CheckpointError as error:
        errors.print(f"{Path(argv[0]).name}: {error}", markup=False)
        sys.exit(1)
    except runner.NonFiniteError as error:
        errors.print(f"{Path(argv[0]).name}: {error}", markup=False)
        sys.exit(3)


def define_flags(config_class: type[BaseConfig], default_env: str) -> flags.FlagValues:
    """Every flag of a script, in a FlagValues of its own; a hyperparameter that is not given is None."""
    values = flags.FlagValues()
    settings = {field.name: field.default for field in dataclasses.fields(runner.Settings)}

    def integer(name, default, doc):
        flags.DEFINE(_IntegerParser(), name, default, doc, flag_values=values)

    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    flags.DEFINE_string("env", default_env, "The environment, suite/name.", flag_values=values)
    flags.DEFINE_list(
        "env_options", [], "Options of the environment, such as backend=mjx,ls_iterations=8.", flag_values=values
    )
    flags.DEFINE_string("out", "runs", "The folder that run folders are made in.", flag_values=values)
    flags.DEFINE_string(
        "resume", None, "A run folder to continue; flags given beside it replace its values.", flag_values=values
    )
    integer("seed", settings["seed"], "Seed of the whole run.")
    integer("num_seeds", settings["num_seeds"], "Seeds trained side by side in one program.")
    integer("num_logs", settings["num_logs"], "Rows of the log; also how often Ctrl-C is looked for.")
    integer("num_evals", settings["num_evals"], "Evaluations, each with a checkpoint.")
    integer("eval_episodes", settings["eval_episodes"], "Episodes in one evaluation, per seed.")
    flags.DEFINE_bool(
        "record", settings["record"], "Record an episode at the end, if it can be drawn.", flag_values=values
    )
    docs = field_docs(config_class)
    for field in dataclasses.fields(config_class):
        _define_hyperparameter(field, f"{docs[field.name]} Default: {_shown(field.default)}.", values)
    return values


def _define_hyperparameter(field: dataclasses.Field, doc: str, values: flags.FlagValues) -> None:
    if field.metadata["choices"]:
        flags.DEFINE_enum(field.name, None, list(field.metadata["choices"]), doc, flag_values=values)
    elif field.type is bool:
        flags.DEFINE_bool(field.name, None, doc, flag_values=values)
    elif field.type is float:
        flags.DEFINE_float(field.name, None, doc, flag_values=values)
    elif field.type is int:
        flags.DEFINE(_IntegerParser(), field.name, None, doc, flag_values=values)
    else:
        flags.DEFINE(_SizesParser(), field.name, None, doc, flag_values=values)


def _run(module: ModuleType, name: str, argv: list[str], default_env: str) -> int:
    values = define_flags(module.Config, default_env)
    extra = values(argv)[1:]
    if extra:
        raise UsageError(f"{extra[0]!r} is not a flag; flags are written --name=value")
    if values.help:
        print(_help(module, name, values))
        return 0
    given = {each for each in values if values[each].present}
    run = _load(module.Config, values, given, name) if values.resume else _new(module, values, name)
    config = module.Config(**run["config"])
    try:
        env = envs.make(run["env"], **run["env_options"])
    except (ValueError, TypeError) as error:
        raise UsageError(f"env: {error}") from error
    # What the environment was made with goes into config.json, its defaults included: they may change some day.
    run["env_options"] |= getattr(env, "options", {})
    for field, low in (("num_seeds", 1), ("num_logs", 1), ("num_evals", 1), ("eval_episodes", 1), ("seed", 0)):
        if run[field] < low:
            raise UsageError(f"{field}={run[field]}: must be at least {low}")
    algorithm = module.make(env, config)
    return _train(algorithm, run, name, argv, Path(values.resume) if values.resume else None)


def _new(module: ModuleType, values: flags.FlagValues, name: str) -> dict[str, Any]:
    """The description of a run from flags and preset: what is written to config.json."""
    fields = [field.name for field in dataclasses.fields(module.Config)]
    preset = presets.get(name, values.env)
    chosen = {each: values[each].value for each in fields if values[each].value is not None}
    config = {**{field.name: field.default for field in dataclasses.fields(module.Config)}, **preset, **chosen}
    return {
        "algorithm": name,
        "env": values.env,
        "env_options": named_values(values.env_options, "env_options"),
        "seed": values.seed,
        "num_seeds": values.num_seeds,
        "num_logs": values.num_logs,
        "num_evals": values.num_evals,
        "eval_episodes": values.eval_episodes,
        "record": values.record,
        "config": config,
        "out": values.out,
    }


def _load(config_class: type[BaseConfig], values: flags.FlagValues, given: set[str], name: str) -> dict[str, Any]:
    """The description of an earlier run, with what the flags replace."""
    try:
        run = read_description(Path(values.resume))
        config = config_class(**run["config"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(
            f"resume={values.resume}: {Path(values.resume) / _CONFIG_FILE} cannot be read ({error})"
        ) from error
    if run["algorithm"] != name:
        raise UsageError(f"resume={values.resume}: is a run of {run['algorithm']}, not of {name}")
    for each in given - {"resume", "help", "h"}:
        new = values[each].value
        if each in run["config"]:
            run["config"][each] = new
            config.replace(**{each: new}).require_same_static_fields(config)
        elif each in ("num_logs", "num_evals", "eval_episodes", "record"):
            run[each] = new
        elif new != run.get(each):
            raise UsageError(f"{each}={new}: cannot be changed when a run is resumed, it was {run.get(each)}")
    return run


def read_description(folder: Path) -> dict[str, Any]:
    """What a run folder's config.json says: "algorithm", "env", "env_options", "config", "num_seeds", ...

    Raises:
      OSError, ValueError, KeyError, AttributeError, TypeError: it is not there, or not the description of a run.
    """
    run = json.loads((folder / _CONFIG_FILE).read_text())
    return run | {"config": {each: _from_json(value) for each, value in run["config"].items()}}


def _train(algorithm, run: dict[str, Any], name: str, argv: list[str], resumed: Path | None) -> int:
    console = Console(highlight=False, soft_wrap=True)
    folder = resumed or _make_folder(run, name)
    run["commands"] = [*run.get("commands", []), shlex.join(argv)]
    run["versions"] = runner.versions()
    description = {**run, "config": {each: _to_json(value) for each, value in run["config"].items()}}
    settings = runner.Settings(
        folder=folder,
        title=f"{name.upper()} on {run['env']}",
        description=description,
        **{each: run[each] for each in ("seed", "num_seeds", "num_logs", "num_evals", "eval_episodes", "record")},
    )
    total_iterations = algorithm.iterations(run["config"]["total_steps"])
    resume_command = shlex.join([_python(), argv[0], f"--resume={folder}"])
    preset = presets.get(name, run["env"])
    if preset and not resumed:
        shown = ", ".join(f"{each}={value}" for each, value in preset.items())
        console.print(f"preset for {run['env']}, where no flag says otherwise: {shown}", markup=False)
    try:
        result = runner.run(
            algorithm, settings, total_iterations=total_iterations, resume=resumed is not None, console=console
        )
    except runner.Interrupted as interrupted:
        console.print(f"stopped by {interrupted}; to continue:\n  {resume_command}", markup=False)
        return 128 + interrupted.signal_number
    steps = algorithm.steps_after(total_iterations) * run["num_seeds"]
    speed = f", {steps / result.run_seconds:,.0f} steps/s" if result.run_seconds and not resumed else ""
    console.print(
        f"compiled in {result.compile_seconds:.1f} s, trained in {result.run_seconds:.1f} s{speed}; "
        f"evaluated return {result.eval_returns.mean():.1f}"
    )
    for problem in result.problems:
        console.print(problem, markup=False)
    console.print(f"the run is in {folder}: " + ", ".join(path.name for path in result.files), markup=False)
    console.print(
        f"next: {_python()} -m tensorboard.main --logdir={shlex.quote(run['out'])}, or train longer:\n"
        f"  {resume_command} --total_steps={2 * run['config']['total_steps']}",
        markup=False,
    )
    return 0


def _python() -> str:
    """This Python as one types it here."""
    here, python = Path.cwd(), Path(sys.executable)
    return str(python.relative_to(here)) if python.is_relative_to(here) else str(python)


def _make_folder(run: dict[str, Any], name: str) -> Path:
    """A new run folder; its name says what ran and when."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    stem = f"{name}-{run['env'].replace('/', '-')}-seed{run['seed']}-{stamp}"
    for number in range(1, 1000):
        folder = Path(run["out"], stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(f"out={run['out']}: cannot make a folder there ({error})") from error
    raise UsageError(f"out={run['out']}: {stem} exists a thousand times")


def named_values(pairs: Sequence[str], flag: str) -> dict[str, Any]:
    """From "name=value" each, with Python's literals as values; others are strings.

    Raises:
      UsageError: there is no "="; the message names the flag.
    """
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"{flag}={pair}: must be name=value")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def _to_json(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return float(value) if value in ("inf", "-inf") else value


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _help(module: ModuleType, name: str, values: flags.FlagValues) -> str:
    hyperparameters = {field.name for field in dataclasses.fields(module.Config)}
    tuned = ", ".join(presets.PRESETS.get(name, {})) or "none yet"
    lines = [module.__doc__.strip(), "", f"Tuned hyperparameters are taken for: {tuned}.", "", "The run:"]
    names = sorted(each for each in values if len(each) > 1)
    run_flags = [each for each in names if each not in hyperparameters]
    for title, group in ((None, run_flags), ("The algorithm:", [f.name for f in dataclasses.fields(module.Config)])):
        lines += ["", title] if title else []
        for each in group:
            default = "" if each in hyperparameters or each == "help" else f" Default: {_shown(values[each].default)}."
            lines += textwrap.wrap(
                f"--{each}: {values[each].help}{default}", 100, initial_indent="  ", subsequent_indent="      "
            )
    return "\n".join(lines)

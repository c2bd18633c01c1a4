"""The flags of the scripts: every field of a Config, and what concerns the run."""

import ast
import contextlib
import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from absl import flags

from ... import algos
from ..core.config import BaseConfig, field_docs
from . import compilation_cache, presets, processes, runner


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


def define_flags(config_class: type[BaseConfig], default_env: str) -> flags.FlagValues:
    """Every flag of a script, in a FlagValues of its own; a hyperparameter that is not given is
    None.
    """
    values = flags.FlagValues()
    settings = {field.name: field.default for field in dataclasses.fields(runner.Settings)}

    def integer(name, default, doc):
        flags.DEFINE(_IntegerParser(), name, default, doc, flag_values=values)

    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    flags.DEFINE_string("env", default_env, "The environment, suite/name.", flag_values=values)
    flags.DEFINE_list(
        "env_options",
        [],
        "Options of the environment, such as backend=mjx,ls_iterations=8.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out", "runs", "The folder that run folders are made in.", flag_values=values
    )
    flags.DEFINE_string(
        "resume",
        None,
        "A run folder to continue; flags given beside it replace its values.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data",
        "",
        "A data set to learn from, as `onejit dataset` makes them. An algorithm that steps its"
        " environment begins with it in its replay.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "data_share",
        0.0,
        "Part of each minibatch that comes from --data, which the replay then does not hold.",
        flag_values=values,
    )
    integer("seed", settings["seed"], "Seed of the whole run.")
    integer("num_seeds", settings["num_seeds"], "Seeds trained side by side in one program.")
    integer(
        "num_devices",
        1,
        "Devices that share environments, replay and minibatches of each seed; their totals stay"
        " what they are. A resumed run may have another number. Several processes take all theirs.",
    )
    processes.define_flags(values)
    integer(
        "num_logs", settings["num_logs"], "Rows of the log; also how often Ctrl-C is looked for."
    )
    flags.DEFINE_list(
        "log",
        list(settings["log"]),
        "Where rows of the log go beside metrics.jsonl: tensorboard, wandb (extra `wandb`).",
        flag_values=values,
    )
    integer("num_evals", settings["num_evals"], "Evaluations, each with a checkpoint.")
    integer("eval_episodes", settings["eval_episodes"], "Episodes in one evaluation, per seed.")
    flags.DEFINE_float(
        "ema_decay",
        0.0,
        "Decay, per iteration, of an average of the parameters that evaluations and recordings take"
        " in place of the last ones; 0 keeps none.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "record",
        settings["record"],
        "Record an episode at the end, of a robot; `onejit render` draws other environments too.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "save_replay",
        settings["save_replay"],
        "Whether checkpoints hold the replay. Without it they are small, and a resumed run begins"
        " with a replay of random actions: it is not the run that never stopped.",
        flag_values=values,
    )
    flags.DEFINE_string("compilation_cache", None, compilation_cache.HELP, flag_values=values)
    docs = field_docs(config_class)
    for field in dataclasses.fields(config_class):
        _define_hyperparameter(
            field, f"{docs[field.name]} Default: {_shown(field.default)}.", values
        )
    return values


@contextlib.contextmanager
def programs_kept(values: flags.FlagValues) -> Iterator[None]:
    """Keeps compiled programs where the flags say.

    Raises:
      UsageError: they say where that is not possible.
    """
    with compilation_cache.enabled(values.compilation_cache) as kept:
        if kept is None and values.compilation_cache not in (None, compilation_cache.OFF):
            raise UsageError(f"compilation_cache={values.compilation_cache}: cannot be written")
        yield


def _define_hyperparameter(field: dataclasses.Field, doc: str, values: flags.FlagValues) -> None:
    if field.metadata["choices"]:
        flags.DEFINE_enum(
            field.name, None, list(field.metadata["choices"]), doc, flag_values=values
        )
    elif field.type is bool:
        flags.DEFINE_bool(field.name, None, doc, flag_values=values)
    elif field.type is float:
        flags.DEFINE_float(field.name, None, doc, flag_values=values)
    elif field.type is int:
        flags.DEFINE(_IntegerParser(), field.name, None, doc, flag_values=values)
    else:
        flags.DEFINE(_SizesParser(), field.name, None, doc, flag_values=values)


def algorithm_named(name: str) -> ModuleType:
    """The module of an algorithm.

    Raises:
      UsageError: there is none of that name.
    """
    known = [each for each in algos.__all__ if hasattr(getattr(algos, each), "Config")]
    if name not in known:
        raise UsageError(f"algorithm={name}: must be one of {', '.join(known)}")
    return getattr(algos, name)


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


def _shown(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple | list) else str(default)


def plain_help(doc: str, values: flags.FlagValues) -> str:
    """The help of a command that trains no single algorithm: what it does, and a line a flag."""
    lines = []
    for each in sorted({*values} - {"h"}):
        default = values[each].default
        shown = "" if default in (None, []) else f" Default: {default}."
        lines.append(f"  --{each}: {values[each].help}{shown}")
    return "\n".join([doc, *lines])


def help_text(module: ModuleType, name: str, values: flags.FlagValues) -> str:
    """What `--help` prints."""
    hyperparameters = {field.name for field in dataclasses.fields(module.Config)}
    tuned = ", ".join(presets.PRESETS.get(name, {})) or "none yet"
    published = ", ".join(presets.PUBLISHED.get(name, {}))
    lines = [
        module.__doc__.strip(),
        "",
        f"Tuned hyperparameters are taken for: {tuned}.",
        *([f"Published ones, not run here, are taken for: {published}."] if published else []),
        "",
        "The run:",
    ]
    names = sorted(each for each in values if len(each) > 1)
    run_flags = [each for each in names if each not in hyperparameters]
    for title, group in (
        (None, run_flags),
        ("The algorithm:", [f.name for f in dataclasses.fields(module.Config)]),
    ):
        lines += ["", title] if title else []
        for each in group:
            default = (
                ""
                if each in hyperparameters or each == "help"
                else f" Default: {_shown(values[each].default)}."
            )
            lines += textwrap.wrap(
                f"--{each}: {values[each].help}{default}",
                100,
                initial_indent="  ",
                subsequent_indent="      ",
            )
    return "\n".join(lines)

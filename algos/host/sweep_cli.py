"""The command line of `onejit sweep`: the flags of an algorithm's command, and what is swept."""

import dataclasses
import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from ..core import population
from ..core.config import ConfigError
from . import cli, exits, plotting, processes, run_folder, runner, sweeps
from .console import make_console
from .presets import default_env
from .script_flags import (
    UsageError,
    algorithm_named,
    define_flags,
    help_text,
    programs_kept,
)
from .sweeps import Outcome

_DISTRIBUTIONS = {
    "log_uniform": population.log_uniform,
    "uniform": population.uniform,
    "choice": population.choice,
}
# What runs if nothing is said: half a minute or two on two cores.
_EXAMPLE = ["learning_rate=1e-4,3e-4,1e-3,3e-3", "clip_eps=0.1,0.2,0.4"]
_EXAMPLE_STEPS = 100_000


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a sweep from the command line, and exits with a code as `cli.main`."""
    argv = list(sys.argv if argv is None else argv)
    exits.exit_with_code(argv, lambda: _run(argv))


def _run(argv: list[str]) -> int:
    console = make_console()
    module, name, given = _algorithm(argv)
    values = _define_flags(module, name)
    cli.parse(values, argv)
    if values.help:
        doc = importlib.import_module(__name__).__doc__
        console.print(f"{doc}\n{help_text(module, name, values)}", markup=False)
        return 0
    for flag in processes.FLAGS:
        if values[flag].present:
            raise UsageError(
                f"{flag}: a sweep is one process; its members have nothing to exchange, so give"
                " each host a sweep of its own"
            )
    with programs_kept(values):
        return _start(module, name, argv, values, given, console)


def _start(
    module: ModuleType,
    name: str,
    argv: list[str],
    values: flags.FlagValues,
    given: bool,
    console: Console,
) -> int:
    if values.resume is not None:
        folder = Path(values.resume)
        changed = {each for each in values if values[each].present}
        changed -= {*cli.OF_THE_PROCESS, "algorithm"}
        if changed:
            raise UsageError(f"{min(changed)}: cannot be changed when a sweep is resumed")
        run = sweeps.read(folder)
        if given and run["algorithm"] != name:
            raise UsageError(f"resume={folder}: is a sweep of {run['algorithm']}, not of {name}")
        module = algorithm_named(run["algorithm"])
    else:
        run = cli.new_run(module, values, name)
        run_folder.require_writable(values.out)
        run["devices_per_member"] = values.devices_per_member
        run["settings"] = _settings(module, values, run)
    env = cli.make_env(run)
    parts = sweeps.plan(module, env, run, chunk=run.get("chunk"))
    if values.resume is None:
        stem = f"sweep-{name}-{run['env'].replace('/', '-')}-seed{run['seed']}"
        run["chunk"] = max(len(next(iter(part.columns.values()))) for part in parts)
        folder = run_folder.make(values.out, stem)
    run["commands"].append(shlex.join([*cli.program(argv), *argv[1:]]))
    run["versions"] = runner.versions()
    with run_folder.locked(folder):
        sweeps.write(folder, run)
        return _train(module, parts, run, folder, argv, console)


def _train(module, parts, run, folder: Path, argv: list[str], console: Console) -> int:
    num_settings = len(next(iter(run["settings"].values())))
    programs = len({part.program for part in parts})
    console.print(
        f"{num_settings} settings × {run['num_seeds']} seeds, {programs} compiled"
        f" {'program' if programs == 1 else 'programs: one for each static combination'}"
        + (f", in {len(parts)} parts" if len(parts) > programs else ""),
        markup=False,
    )
    try:
        outcomes = sweeps.run_parts(parts, folder, run, console)
    except runner.Interrupted as interrupted:
        command = cli.resume_command(argv, folder)
        console.print(f"stopped by {interrupted}; to continue:\n  {command}", markup=False)
        return 128 + interrupted.signal_number
    winner = sweeps.best_setting(outcomes)
    run["results"] = results(run["settings"], outcomes)
    if run.get("winner") is None:  # else it is there, and may have been trained further
        _, problem = sweeps.save_winner(parts, folder, run, module, winner)
        if problem:
            console.print(problem, markup=False)
    run["winner"] = winner
    sweeps.write(folder, run)
    title = f"{run['algorithm'].upper()} on {run['env']}"
    returns = np.stack([each.returns for each in outcomes])
    plotting.plot_sweep(folder / "sweep.png", run["settings"], returns, title)
    console.print("\n".join(table(run["settings"], run["results"])), markup=False)
    console.print(
        f"the sweep is in {folder}: sweep.json, sweep.png, winner/ with"
        f" {sweeps.in_words(run['settings'], winner)}",
        markup=False,
    )
    return 0


def results(settings: dict[str, list], outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """A row for each setting, as sweep.json has it: its hyperparameters, the evaluated returns of
    its seeds, their mean and its 95 % bootstrap interval (None for one seed), and a fault, if any.
    """
    rows = []
    for place, outcome in enumerate(outcomes):
        returns = outcome.returns
        interval = None
        if len(returns) > 1:
            interval = [float(x[0]) for x in plotting.interval_of_mean(returns[None])]
        rows.append(
            {
                "setting": {name: each[place] for name, each in settings.items()},
                "returns": returns.tolist(),
                "mean": float(returns.mean()),
                "interval": interval,
                "fault": outcome.fault,
            }
        )
    return rows


def table(settings: dict[str, list], rows: list[dict[str, Any]]) -> list[str]:
    """The results as lines, the best first."""
    cells = [[*settings, "mean", "95 % interval", ""]]
    for row in sorted(rows, key=lambda row: sweeps.rank(row["mean"], row["fault"]), reverse=True):
        low_high = "{:.1f} to {:.1f}".format(*row["interval"]) if row["interval"] else "one seed"
        shown = [sweeps.shown(each) for each in row["setting"].values()]
        cells.append([*shown, f"{row['mean']:.1f}", low_high, row["fault"] or ""])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return ["  ".join(x.rjust(w) for x, w in zip(c, widths, strict=True)).rstrip() for c in cells]


def _algorithm(argv: list[str]) -> tuple[ModuleType, str, bool]:
    """(the module, its name, whether a flag says so): it decides which flags there are."""
    first = flags.FlagValues()
    flags.DEFINE_string("algorithm", None, "", flag_values=first)
    first(argv, known_only=True)
    name = first.algorithm or "ppo"
    return algorithm_named(name), name, first.algorithm is not None


def _define_flags(module: ModuleType, name: str) -> flags.FlagValues:
    values = define_flags(module.Config, default_env(name))
    flags.DEFINE_string("algorithm", name, "Which algorithm.", flag_values=values)
    flags.DEFINE_multi_string(
        "grid",
        [],
        "NAME=VALUE,VALUE,...: values of a hyperparameter; given several times, every combination."
        " Widths of layers are written 64x64.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "draw",
        [],
        "NAME=log_uniform(LOW,HIGH), NAME=uniform(LOW,HIGH) or NAME=choice(VALUE,...): random"
        " values of a hyperparameter, in place of a grid.",
        flag_values=values,
    )
    flags.DEFINE_integer("num_draws", 16, "Random settings.", 1, flag_values=values)
    flags.DEFINE_integer(
        "devices_per_member",
        1,
        "Of num_devices, which share out the members: how many share the environments of each.",
        1,
        flag_values=values,
    )
    for each, default in {"num_seeds": 4, "num_logs": 20, "num_evals": 5}.items():
        values.set_default(each, default)
    return values


def _settings(
    module: ModuleType, values: flags.FlagValues, run: dict[str, Any]
) -> dict[str, list[Any]]:
    """What is swept, as columns; without a word about it an example."""
    if values.grid and values.draw:
        raise UsageError("draw: is in place of a grid, give one of the two")
    grid = values.grid
    if not grid and not values.draw:
        if "clip_eps" not in run["config"]:
            raise UsageError(f"grid: say what of {run['algorithm']} is to be swept, or draw")
        grid = _EXAMPLE
        if values.total_steps is None:
            run["config"]["total_steps"] = _EXAMPLE_STEPS
    if values.draw:
        drawn = dict(_distribution(module, each) for each in values.draw)
        columns = population.draw(run["seed"], values.num_draws, **drawn)
    else:
        pairs = [_name_and_rest(each, "grid") for each in grid]
        if len(dict(pairs)) < len(pairs):
            raise UsageError(f"grid={grid[-1]}: a hyperparameter is given twice")
        columns = population.grid(
            **{name: _values(module, name, text.split(",")) for name, text in pairs}
        )
    return {name: each.tolist() for name, each in columns.items()}


def _name_and_rest(text: str, flag: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise UsageError(f"{flag}={text}: must be name=values")
    return name, rest


def _distribution(module: ModuleType, text: str) -> tuple[str, population.Distribution]:
    name, rest = _name_and_rest(text, "draw")
    match = re.fullmatch(r"(\w+)\((.*)\)", rest)
    if not match or match[1] not in _DISTRIBUTIONS:
        allowed = ", ".join(_DISTRIBUTIONS)
        raise UsageError(f"draw={text}: must be name=DISTRIBUTION(...), one of {allowed}")
    given = _values(module, name, match[2].split(","))
    if match[1] == "choice":
        return name, population.choice(given)
    if len(given) != 2 or not all(isinstance(each, float) for each in given):
        raise UsageError(f"draw={text}: must have two bounds, of a hyperparameter of floats")
    return name, _DISTRIBUTIONS[match[1]](*given)


def _values(module: ModuleType, name: str, texts: list[str]) -> list[Any]:
    """Values of a hyperparameter from text.

    Raises:
      ConfigError: there is none of this name, or a text is no value of its kind.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(module.Config)}
    if name not in kinds:
        raise ConfigError(name, "swept", f"is no hyperparameter; there are {', '.join(kinds)}")
    return [_value(name, kinds[name], text.strip()) for text in texts]


def _value(name: str, kind: Any, text: str) -> Any:
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            if not float(text).is_integer():
                raise ValueError(text)
            return int(float(text))
        if kind in (float, str):
            return kind(text)
        return tuple(int(each) for each in text.split("x"))
    except (ValueError, KeyError, OverflowError) as error:
        words = {bool: "bool", int: "int", float: "float"}.get(kind, "widths such as 64x64")
        raise ConfigError(name, text, f"must be of the kind {words}") from error

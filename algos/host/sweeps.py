"""A sweep on the host: its parts one after the other, each a run with log and checkpoints of its
own, and what came out of them.

sweep.json      what runs, as a run's config.json, with "settings", "parts" and "results"
sweep.png       evaluated returns of the settings
parts/          for each compiled program, and each chunk of it, log and checkpoints
winner/         the setting with the best mean over seeds: an ordinary run folder
"""

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from ... import envs
from ..core import device_memory, guard, parallel
from ..core.algorithm import Algorithm
from ..core.averaging import averaged
from ..core.config import BaseConfig, ConfigError
from ..core.distribution import POPULATION, axis_size, make_mesh
from ..core.sweep import largest_chunk, stacked, static_combinations
from ..core.training import advance
from . import checkpoint, logs, plotting, run_data, run_folder, runner
from .console import progress
from .programs import Programs, Settings

FILE = "sweep.json"


class Part(NamedTuple):
    """Settings that run side by side.

    Attributes:
      algorithm: with their static hyperparameters.
      columns: their traced ones, the last setting repeated where a chunk had to be filled up.
      places: int `[c]`, which settings of the sweep they are, without repetitions.
      program: a number for each static combination; parts of one number share their programs.
    """

    algorithm: Algorithm
    columns: dict[str, np.ndarray]
    places: np.ndarray
    program: int


class Outcome(NamedTuple):
    """What came out of a setting: `returns [num_seeds]`, evaluated at the end, and the first fault
    of its seeds in words, or None.
    """

    returns: np.ndarray
    fault: str | None


def plan(
    module: ModuleType, env: envs.Environment, run: dict[str, Any], chunk: int | None = None
) -> list[Part]:
    """Cuts a sweep into parts: one for each static combination, and within it as many as memory
    asks for.

    Args:
      module: the algorithm, such as `onejit.algos.ppo`.
      env: the single environment.
      run: the description of the sweep.
      chunk: settings side by side, at most; by default as many as fit.

    Raises:
      ConfigError: a setting is not allowed, or one alone does not fit.
    """
    settings = {name: _column(each) for name, each in run["settings"].items()}
    num_groups = axis_size(_mesh(run), POPULATION)
    unit = num_groups // math.gcd(num_groups, run["num_seeds"])  # so that each has as many members
    if "total_steps" in settings:
        raise ConfigError("total_steps", "swept", "is the length of all runs: give it as a flag")
    parts = []
    base = module.Config(**run["config"])
    options = run_data.options(run)
    for program, (config, columns, places) in enumerate(static_combinations(base, settings)):
        algorithm = averaged(module.make(env, config, **options), run["ema_decay"])
        stacked(algorithm, columns)
        size = chunk or num_groups * _fitting(algorithm, run["num_seeds"], columns)
        size = max(1, size // unit) * unit
        size = -(-len(places) // -(-len(places) // size))  # parts of about the same size
        size = -(-size // unit) * unit
        for start in range(0, len(places), size):
            index = np.minimum(np.arange(start, start + size), len(places) - 1)
            some = {name: each[index] for name, each in columns.items()}
            parts.append(Part(algorithm, some, places[start : start + size], program))
    return parts


def _mesh(run: dict[str, Any]) -> Mesh:
    """The devices of a sweep, in groups of those that train a member together."""
    num_devices, each = run["num_devices"], max(1, run["devices_per_member"])
    parallel.require_multiple("num_devices", num_devices, each)
    return make_mesh(each, population=num_devices // each)


def _fitting(algorithm: Algorithm, num_seeds: int, columns: dict[str, np.ndarray]) -> int:
    """How many settings fit into a device side by side."""
    num_settings = len(next(iter(columns.values())))
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    each = num_seeds * device_memory.peak_bytes(lambda state: advance(algorithm, state, 2), state)
    # Where not even one fits, making its programs says why.
    return max(1, largest_chunk(each, 0.0, num_settings, device_memory.device_bytes()))


def run_parts(
    parts: list[Part], folder: Path, run: dict[str, Any], console: Console
) -> list[Outcome]:
    """Trains what is not finished yet, from the last checkpoints.

    Args:
      parts: as `plan` makes them.
      folder: of the sweep.
      run: its description.
      console: where progress goes.

    Returns:
      The outcome of each setting.

    Raises:
      what `runner.run` raises.
    """
    outcomes: dict[int, Outcome] = {}
    compiled: dict[int, Programs] = {}
    for number, part in enumerate(parts):
        settings = _settings(part, _part_folder(folder, number), run)
        settings = dataclasses.replace(settings, title=f"part {number + 1} of {len(parts)}")
        total = part.algorithm.iterations(run["config"]["total_steps"])
        if _iteration(settings.folder) != total:
            resume = _iteration(settings.folder) is not None
            if not resume:  # it was stopped before there was anything to go on from
                shutil.rmtree(settings.folder, ignore_errors=True)
                settings.folder.mkdir(parents=True)
            if part.program in compiled:
                programs = compiled[part.program].with_configs(settings)
            else:
                with console.status("compiling"):
                    programs = Programs(part.algorithm, settings)
                compiled = {part.program: programs}
            runner.run(
                part.algorithm,
                settings,
                total_iterations=total,
                resume=resume,
                console=console,
                programs=programs,
                reporting=_reporting(part, run, outcomes),
            )
        outcomes |= _outcomes(part, settings.folder, run["num_seeds"])
    return [outcomes[place] for place in range(len(outcomes))]


def best_setting(outcomes: list[Outcome]) -> int:
    """The setting with the highest mean over seeds, those that met no fault before the others."""
    return max(
        range(len(outcomes)),
        key=lambda place: rank(outcomes[place].returns.mean(), outcomes[place].fault),
    )


def rank(mean: float, fault: str | None) -> tuple[bool, float]:
    """By what settings are ordered: those that met no fault are above the others."""
    return fault is None, mean if np.isfinite(mean) else -np.inf


def save_winner(
    parts: list[Part], folder: Path, run: dict[str, Any], module: ModuleType, place: int
) -> tuple[Path, str | None]:
    """Makes a run folder of a setting: what its algorithm's script would have left with the
    setting's hyperparameters as flags, up to rounding. It can be resumed and drawn.

    Returns:
      The folder, and a sentence about what could not be logged, or None.
    """
    number = next(n for n, part in enumerate(parts) if place in part.places)
    part, source = parts[number], _part_folder(folder, number)
    num_seeds = run["num_seeds"]
    start = part.places.tolist().index(place) * num_seeds
    mine = slice(start, start + num_seeds) if num_seeds > 1 else start
    winner = folder / "winner"
    shutil.rmtree(winner, ignore_errors=True)
    winner.mkdir()
    config = {
        field.name: getattr(part.algorithm.config, field.name)
        for field in dataclasses.fields(module.Config)
    }
    own = {name: each[place] for name, each in run["settings"].items()}
    description = {name: each for name, each in run.items() if name not in _OF_THE_SWEEP}
    description["config"] = config | own
    description["num_devices"] = run["devices_per_member"]
    run_folder.write(winner, description)
    log = runner.open_log(winner, run["log"], description)
    for row in _rows(source):
        step = row.pop("step")
        row.pop("charts/sps")  # that of all settings together
        log.write(step, {name: np.array(each, float)[mine] for name, each in row.items()})
    with contextlib.closing(log):
        log.flush(sync=True)
    saves = winner / "checkpoints"
    last = run_folder.last_checkpoint(source / "checkpoints")
    configs = _settings(part, source, run).member_configs()
    keys = jax.random.split(jax.random.key(0), len(jax.tree.leaves(configs)[0]))
    state = checkpoint.restore(last, _initial(part, run, keys, configs))
    known = run_folder.read_metadata(last)
    returns = _outcomes(part, source, num_seeds)[place].returns
    known |= {
        "eval_return": float(returns.mean()),
        "waiting": [],
        "run": run_folder.identity(description),
    }
    without = () if run["save_replay"] else part.algorithm.replay
    state = jax.tree.map(lambda x: x[mine], state)
    checkpoint.save(saves, known["iteration"], state, known, without=without)
    with contextlib.suppress(OSError):  # of a log that could not be written
        plotting.plot_curve(winner, f"{run['algorithm'].upper()} on {run['env']}")
    return winner, log.problem


def _part_folder(folder: Path, number: int) -> Path:
    return folder / "parts" / f"{number:03d}"


def write(folder: Path, run: dict[str, Any]) -> None:
    """Writes `sweep.json`.

    Raises:
      RunFolderError: it cannot be written.
    """
    run_folder.write(folder, dict.fromkeys(_OF_THE_SWEEP) | run, FILE)


def read(folder: Path) -> dict[str, Any]:
    """The description of a sweep.

    Raises:
      RunFolderError: it is not there, or is not one.
    """
    run = run_folder.read(folder, FILE)
    run.setdefault("devices_per_member", 1)  # as it was before there could be more
    for name, kind in {"settings": dict, "chunk": int, "devices_per_member": int}.items():
        if not isinstance(run.get(name), kind):
            raise run_folder.RunFolderError(f'{folder / FILE}: "{name}" is missing or damaged')
    run["settings"] = {
        name: list(run_folder.from_json(column)) for name, column in run["settings"].items()
    }
    return run


_OF_THE_SWEEP = ("settings", "chunk", "devices_per_member", "results", "winner")


def _column(values: list[Any]) -> np.ndarray:
    if not isinstance(values[0], tuple):
        return np.asarray(values)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _settings(part: Part, folder: Path, run: dict[str, Any]) -> Settings:
    names = ("seed", "num_seeds", "num_logs", "num_evals", "eval_episodes", "save_replay")
    configs: BaseConfig = stacked(part.algorithm, part.columns)
    given = {each: run[each] for each in names}
    given["log"] = [each for each in run["log"] if each != "wandb"]  # which the winner goes to
    return Settings(folder=folder, title="", configs=configs, mesh=_mesh(run), **given)


def _initial(part: Part, run: dict[str, Any], keys, configs) -> Any:
    init = jax.vmap(part.algorithm.init)
    if run["save_replay"]:
        return jax.eval_shape(init, keys, configs)
    return jax.jit(init)(keys, configs)  # of which the replay is taken


def _iteration(folder: Path) -> int | None:
    """That of a part's last checkpoint, None if there is none."""
    if not checkpoint.checkpoints(folder / "checkpoints"):
        return None
    last = run_folder.last_checkpoint(folder / "checkpoints")
    return run_folder.read_metadata(last)["iteration"]


def _rows(folder: Path) -> list[dict[str, Any]]:
    """The log of a finished part, with what could not be written to it."""
    rows = logs.read(folder)
    there = {row["step"] for row in rows}
    known = run_folder.read_metadata(run_folder.last_checkpoint(folder / "checkpoints"))
    return rows + [row for row in known["waiting"] if row["step"] not in there]


def _outcomes(part: Part, folder: Path, num_seeds: int) -> dict[int, Outcome]:
    """What the log of a finished part says of its settings."""
    rows = _rows(folder)
    returns = logs.column(rows, "eval/episodic_return")[1][-1].reshape(-1, num_seeds)
    faults = logs.column(rows, "charts/fault")[1][-1].reshape(-1, num_seeds).astype(int)
    return {
        int(place): Outcome(returns[i], guard.describe(np.max(faults[i])))
        for i, place in enumerate(part.places)
    }


def _reporting(part: Part, run: dict[str, Any], before: dict[int, Outcome]):
    """A progress bar, and a line per evaluation with the best setting so far."""

    @contextlib.contextmanager
    def reporting(console: Console, title: str) -> Iterator[Any]:
        with progress(console, title) as report:

            def best_so_far(fraction, steps, metrics):
                shown = {n: x for n, x in metrics.items() if n != "eval/episodic_return"}
                report(fraction, steps, shown)
                if shown.keys() == metrics.keys():
                    return
                means = {place: each.returns.mean() for place, each in before.items()}
                returns = np.reshape(metrics["eval/episodic_return"], (-1, run["num_seeds"]))
                means |= {int(p): returns[i].mean() for i, p in enumerate(part.places)}
                best = max(means, key=lambda place: means[place])
                console.print(
                    f"{steps:>12,} steps  {metrics['charts/sps']:>10,.0f} steps/s"
                    f"  best so far {means[best]:.1f} with {in_words(run['settings'], best)}",
                    markup=False,
                )

            yield best_so_far

    return reporting


def in_words(settings: dict[str, list], place: int) -> str:
    """One setting, "name=value, ...", as flags write it."""
    return ", ".join(f"{name}={shown(each[place])}" for name, each in settings.items())


def shown(value: Any) -> str:
    """A hyperparameter's value in a few characters."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)

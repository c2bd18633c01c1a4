"""The host side of a run: compiled chunks, and between them progress, log, evaluation and
checkpoints.
"""

import contextlib
import dataclasses
import math
import platform
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from signal import Signals
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from ..core import averaging, guard
from ..core.algorithm import Algorithm, State
from ..core.evaluation import player
from . import checkpoint, plotting, processes, recording, run_folder, signals
from .console import make_console, progress
from .logs import Events, NoLog, RunLog
from .programs import Programs, Settings
from .wandb_log import WandbLog


class NonFiniteError(RuntimeError):
    """A run stopped at a NaN or an infinity; the message says where it was met and what the last
    good checkpoint is.
    """


class Interrupted(Exception):
    """A run stopped on a signal, after saving a checkpoint.

    Attributes:
      signal_number: which signal.
      folder: the run folder.
    """

    def __init__(self, signal_number: int, folder: Path):
        super().__init__(Signals(signal_number).name)
        self.signal_number = signal_number
        self.folder = folder


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run left behind.

    Attributes:
      folder: the run folder.
      eval_returns: of the last evaluation, `[num_seeds]`.
      compile_seconds: tracing and compiling everything.
      run_seconds: the training alone.
      files: what to look at.
      problems: sentences about what could not be made.
    """

    folder: Path
    eval_returns: np.ndarray
    compile_seconds: float
    run_seconds: float
    files: list[Path]
    problems: list[str]


def versions() -> dict[str, str]:
    """The versions that a result depends on, and the device."""
    packages = ("jax", "jaxlib", "flax", "optax", "brax", "mujoco-mjx", "gymnax")
    found = {"onejit": metadata.version("onejit"), "python": platform.python_version()}
    return (
        found
        | {name: metadata.version(name) for name in packages}
        | {"device": jax.devices()[0].device_kind}
    )


def run(
    algorithm: Algorithm,
    settings: Settings,
    *,
    total_iterations: int,
    resume: bool = False,
    console: Console | None = None,
    programs: Programs | None = None,
    reporting: Callable[..., Any] = progress,
) -> Result:
    """Trains, and leaves a run folder behind: log, curve, checkpoints (the last and the best) and a
    recording.

    Args:
      algorithm: as `algos.<name>.make` returns it; its config is the run's.
      settings: what concerns the run.
      total_iterations: calls of `algorithm.step` in the whole run.
      resume: continue from the last checkpoint in the folder. Traced hyperparameters are taken from
        algorithm.config.
      console: where progress goes.
      programs: those of another run of this algorithm with as many seeds and settings.
      reporting: as `console.progress`, which shows how the run is getting on.

    Raises:
      Interrupted: on SIGHUP, SIGINT or SIGTERM, after a checkpoint was saved at the next border of
        a chunk.
      NonFiniteError: a NaN or infinity was met; the last good checkpoint stands.
      processes.LostError: another process of the run is gone.
      checkpoint.CheckpointError: the checkpoint to resume from is damaged or of another run.
      checkpoint.CheckpointWriteError: a checkpoint could not be written; those before it stand.
      run_folder.RunFolderError: the folder cannot be written, or another process is running there.
    """
    console = console or make_console()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(signals.watched())
        if resume:
            stack.enter_context(run_folder.locked(settings.folder))
        if programs is None:
            with console.status("compiling"):
                programs = Programs(algorithm, settings)
        folder = settings.folder
        if callable(folder):
            folder = processes.of_first(folder)
        if not resume:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(run_folder.locked(folder))
            _describe(folder, settings)
        saves = folder / "checkpoints"
        if processes.first():
            checkpoint.clean(saves)
        processes.meet()
        state, iteration, waiting = _start(algorithm, programs, settings, saves, resume)
        if resume:
            _describe(folder, settings)
        stop.can_save = True
        steps = algorithm.steps_after(iteration)
        log = NoLog()
        if processes.first():
            log = open_log(folder, settings.log, settings.description, steps, waiting)
        stack.enter_context(contextlib.closing(log))
        stack.enter_context(processes.losses_told(lambda: _last_in_words(saves)))
        state, eval_returns, run_seconds = _train(
            algorithm,
            programs,
            settings,
            state,
            iteration,
            total_iterations,
            folder,
            log,
            stop,
            console,
            reporting,
        )
    # Of a sweep what came out is for the sweep to say.
    if settings.configs is not None or not processes.first():
        return Result(folder, eval_returns, programs.compile_seconds, run_seconds, [], [])
    files, problems = _finish(algorithm, settings, folder, programs, state, eval_returns)
    return Result(folder, eval_returns, programs.compile_seconds, run_seconds, files, problems)


def open_log(
    folder: Path,
    names: Sequence[str],
    description: dict[str, Any],
    resume_step: int = 0,
    waiting: Sequence[dict[str, Any]] = (),
) -> RunLog:
    """The log of a run folder.

    Args:
      folder: the run folder.
      names: where rows go beside `metrics.jsonl`: "tensorboard", "wandb".
      description: what `config.json` says of the run.
      resume_step: as `RunLog` has it, and `waiting` too.
      waiting: rows that an earlier process could not write.
    """
    makers = {
        "tensorboard": lambda: Events(folder, resume_step),
        "wandb": lambda: WandbLog(folder, description),
    }
    return RunLog(folder, resume_step, waiting, [makers[name]() for name in names])


def _train(
    algorithm,
    programs,
    settings,
    state,
    iteration,
    total_iterations,
    folder,
    log,
    stop,
    console,
    reporting,
):
    """The chunks; returns the State, the last evaluation's returns `[num_seeds]`, and the seconds
    of training.
    """
    saves = folder / "checkpoints"
    chunk = max(1, math.ceil(total_iterations / settings.num_logs))
    eval_every = chunk * max(
        1, math.ceil(math.ceil(total_iterations / chunk) / max(1, settings.num_evals))
    )
    run_seconds = 0.0
    eval_returns = None
    told = False

    def evaluate():
        return jax.device_get(programs.evaluate(state, programs.eval_keys))

    with reporting(console, settings.title) as report:
        while iteration < total_iterations:
            start = time.perf_counter()
            before = iteration
            iteration = min(iteration - iteration % chunk + chunk, total_iterations)
            state, metrics = programs.chunk(state, jnp.int32(iteration - before))
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - start
            run_seconds += seconds
            if settings.configs is None:  # a bad setting of a sweep does not stop the good ones
                _stop_if_not_finite(state, saves)
            steps = algorithm.steps_per_iteration * (iteration - before)
            members = settings.num_seeds * settings.num_settings
            metrics["charts/sps"] = np.float64(steps * members / seconds)
            at_end = iteration == total_iterations
            stopping = processes.largest(stop.received[0] if stop else 0)
            saving = iteration // eval_every > before // eval_every or at_end or stopping > 0
            if saving:
                metrics |= evaluate()
                eval_returns = np.atleast_1d(metrics["eval/episodic_return"])
            log.write(algorithm.steps_after(iteration), metrics, retry=saving)
            if saving:
                # First the row: a kill before the checkpoint leaves one too many, which a resume
                # takes away again.
                log.flush(sync=True)
                _save(
                    saves,
                    iteration,
                    state,
                    algorithm,
                    settings,
                    float(eval_returns.mean()),
                    log.waiting,
                )
            report(iteration / total_iterations, algorithm.steps_after(iteration), metrics)
            if log.problem and not told:
                console.print(log.problem, markup=False)
                told = True
            if stopping and not at_end:
                raise Interrupted(stopping, folder)
    if eval_returns is None:  # nothing was left to do
        eval_returns = np.atleast_1d(evaluate()["eval/episodic_return"])
    return state, eval_returns, run_seconds


def _describe(folder: Path, settings: Settings) -> None:
    if settings.description and processes.first():
        run_folder.write(folder, settings.description)


def _start(algorithm, programs, settings, saves, resume) -> tuple[State, int, list]:
    """The State to begin with, its iteration, and rows of the log that could not be written yet."""
    if not resume:
        return programs.init(*programs.init_arguments), 0, []
    last = run_folder.last_checkpoint(saves)
    like = programs.state_shape
    if not settings.save_replay:
        like = programs.init(*programs.init_arguments)
    state = checkpoint.restore(last, like)
    config = algorithm.config.as_leaves()
    if settings.configs is not None:
        config = settings.member_configs()
    elif settings.num_seeds > 1:
        config = jax.tree.map(lambda x: jnp.broadcast_to(x, (settings.num_seeds, *x.shape)), config)
    known = run_folder.read_metadata(last)
    state = programs.on_devices(state._replace(config=config))
    return state, known["iteration"], known["waiting"]


def _save(saves, iteration, state, algorithm, settings, score, waiting) -> None:
    """Saves, and keeps two checkpoints: this one and the best so far by evaluated return. Each
    says what was evaluated.
    """
    known = {"iteration": iteration, "eval_return": score, "waiting": waiting}
    known["evaluated"] = averaging.evaluated(state)
    known["run"] = run_folder.identity(settings.description) if settings.description else {}
    without = () if settings.save_replay else algorithm.replay
    last = checkpoint.save(saves, iteration, state, known, without=without)
    if processes.first():
        checkpoint.prune(saves, {last, run_folder.best_checkpoint(saves)})


def _stop_if_not_finite(state: State, saves: Path) -> None:
    found = guard.describe(jax.device_get(state.learner.fault))
    if found:
        raise NonFiniteError(
            f"{found}; parameters and statistics were kept as they were before it,"
            f" {_last_in_words(saves)}"
        )


def _last_in_words(saves: Path) -> str:
    good = checkpoint.checkpoints(saves)
    return f"the last good checkpoint is {good[-1]}" if good else "there was no checkpoint yet"


def _finish(
    algorithm, settings, folder, programs, state, eval_returns
) -> tuple[list[Path], list[str]]:
    files, problems = [], []
    state, keys = processes.own((state, programs.eval_keys))
    try:
        files.append(plotting.plot_curve(folder, settings.title))
        if settings.record and getattr(algorithm.env, "mj_model", None) is not None:
            if settings.num_seeds > 1:
                best = int(np.argmax(eval_returns))
                state = jax.tree.map(lambda x: x[best], state)

            act, memory = player(algorithm, state, deterministic=True)
            key = keys[best] if settings.num_seeds > 1 else keys
            states = recording.record_episode(algorithm.env, act, key, memory=memory)
            drawn, problems = recording.save_recording(folder, algorithm.env, states)
            files += drawn
    except OSError as error:
        problems.append(
            f"not all could be drawn: {error.filename or folder}: {error.strerror or error}"
        )
    return files, problems

"""The host side of a run: compiled chunks, and between them progress, log, evaluation and checkpoints."""

import contextlib
import dataclasses
import json
import math
import platform
import signal
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from . import checkpoint, guard, plotting, recording
from .base import Algorithm, State
from .evaluation import evaluator
from .logs import RunLog
from .training import advance


class NonFiniteError(RuntimeError):
    """A run stopped at a NaN or an infinity; the message says where it was met and what the last good checkpoint is."""


class Interrupted(Exception):
    """A run stopped on a signal, after saving a checkpoint.

    Attributes:
      signal_number: which signal.
    """

    def __init__(self, signal_number: int):
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What concerns the run and not the algorithm.

    Attributes:
      folder: the run folder.
      title: of the curve and of the progress bar.
      seed: of the whole run.
      num_seeds: seeds trained side by side in one program; with 1 the State has no seed axis.
      num_logs: rows of the log; also how often a signal is looked for.
      num_evals: evaluations and checkpoints, at evenly spaced rows.
      eval_episodes: episodes in one evaluation, per seed.
      record: whether to record an episode at the end, where the environment can be drawn.
      description: what `config.json` is to say of the run; written once a resume has succeeded.
    """

    folder: Path
    title: str
    seed: int = 0
    num_seeds: int = 1
    num_logs: int = 100
    num_evals: int = 10
    eval_episodes: int = 16
    record: bool = True
    description: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run left behind.

    Attributes:
      eval_returns: of the last evaluation, `[num_seeds]`.
      compile_seconds: tracing and compiling everything.
      run_seconds: the training alone.
      files: what to look at.
      problems: sentences about what could not be made.
    """

    eval_returns: np.ndarray
    compile_seconds: float
    run_seconds: float
    files: list[Path]
    problems: list[str]


def versions() -> dict[str, str]:
    """The versions that a result depends on, and the device."""
    packages = ("jax", "jaxlib", "flax", "optax", "brax", "mujoco-mjx", "gymnax")
    found = {"onejit": metadata.version("onejit"), "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in packages} | {"device": jax.devices()[0].device_kind}


class _Programs:
    """The three compiled programs of a run, each traced once."""

    def __init__(self, algorithm: Algorithm, settings: Settings):
        start = time.perf_counter()
        many = settings.num_seeds > 1
        batched = jax.vmap if many else (lambda f, **_: f)
        keys = jax.random.split(jax.random.key(settings.seed), settings.num_seeds + 1)
        self.init_keys = keys[1:] if many else keys[1]
        self.eval_key = keys[0]

        def chunk(state, num_iterations):
            return advance(algorithm, state, num_iterations)

        init = batched(algorithm.init)
        chunk = batched(chunk, in_axes=(0, None))
        evaluate = batched(evaluator(algorithm, num_episodes=settings.eval_episodes), in_axes=(0, None))
        self.state_shape = jax.eval_shape(init, self.init_keys)
        self.init = jax.jit(init).lower(self.init_keys).compile()
        count = jax.ShapeDtypeStruct((), jnp.int32)
        self.chunk = jax.jit(chunk, donate_argnums=0).lower(self.state_shape, count).compile()
        self.evaluate = jax.jit(evaluate).lower(self.state_shape, self.eval_key).compile()
        self.compile_seconds = time.perf_counter() - start


def run(
    algorithm: Algorithm,
    settings: Settings,
    *,
    total_iterations: int,
    resume: bool = False,
    console: Console | None = None,
) -> Result:
    """Trains, and leaves a run folder behind: log, curve, checkpoints (the last and the best) and a recording.

    Args:
      algorithm: as `algos.<name>.make` returns it; its config is the run's.
      settings: what concerns the run.
      total_iterations: calls of `algorithm.step` in the whole run.
      resume: continue from the last checkpoint in the folder. Traced hyperparameters are taken from algorithm.config.
      console: where progress goes.

    Raises:
      Interrupted: on SIGINT or SIGTERM, after a checkpoint was saved at the next border of a chunk.
      NonFiniteError: a NaN or infinity was met; the last good checkpoint stands.
      checkpoint.CheckpointError: the checkpoint to resume from is damaged or of another run.
    """
    console = console or Console()
    folder, saves = settings.folder, settings.folder / "checkpoints"
    saves.mkdir(parents=True, exist_ok=True)
    checkpoint.clean(saves)
    with console.status("compiling"):
        programs = _Programs(algorithm, settings)
    state, iteration = _start(algorithm, programs, settings, saves, resume)
    _write_description(folder, settings.description)
    log = RunLog(folder, algorithm.steps_after(iteration))
    chunk = max(1, math.ceil(total_iterations / settings.num_logs))
    eval_every = chunk * max(1, math.ceil(math.ceil(total_iterations / chunk) / max(1, settings.num_evals)))
    run_seconds = 0.0
    eval_returns = None

    with contextlib.closing(log), _signals() as received, _progress(console, settings.title) as report:
        while iteration < total_iterations:
            start, before = time.perf_counter(), iteration
            iteration = min(iteration - iteration % chunk + chunk, total_iterations)
            state, metrics = programs.chunk(state, jnp.int32(iteration - before))
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - start
            run_seconds += seconds
            _stop_if_not_finite(state, saves)
            steps = algorithm.steps_per_iteration * (iteration - before)
            metrics["charts/sps"] = np.float64(steps * settings.num_seeds / seconds)
            at_end, stopping = iteration == total_iterations, bool(received)
            if iteration // eval_every > before // eval_every or at_end or stopping:
                metrics |= jax.device_get(programs.evaluate(state, programs.eval_key))
                eval_returns = np.atleast_1d(metrics["eval/episodic_return"])
                _save(saves, iteration, state, float(eval_returns.mean()))
            log.write(algorithm.steps_after(iteration), metrics)
            report(iteration / total_iterations, algorithm.steps_after(iteration), metrics)
            if stopping and not at_end:
                raise Interrupted(received[0])

    if eval_returns is None:  # nothing was left to do
        eval_returns = np.atleast_1d(
            jax.device_get(programs.evaluate(state, programs.eval_key))["eval/episodic_return"]
        )
    files, problems = _finish(algorithm, settings, programs, state, eval_returns)
    return Result(eval_returns, programs.compile_seconds, run_seconds, files, problems)


def _write_description(folder: Path, description: dict[str, Any]) -> None:
    """Writes `config.json` under another name first, so that there is a whole one at any time."""
    temporary = folder / ".config.json.new"
    temporary.write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
    temporary.replace(folder / "config.json")


def _start(algorithm, programs, settings, saves, resume) -> tuple[State, int]:
    if not resume:
        return programs.init(programs.init_keys), 0
    existing = checkpoint.checkpoints(saves)
    if not existing:
        raise checkpoint.CheckpointError(f"{saves}: there is no checkpoint to resume from")
    state = checkpoint.restore(existing[-1], programs.state_shape)
    config = algorithm.config.as_leaves()
    if settings.num_seeds > 1:
        config = jax.tree.map(lambda x: jnp.broadcast_to(x, (settings.num_seeds, *x.shape)), config)
    return state._replace(config=config), checkpoint.read_metadata(existing[-1])["iteration"]


def _save(saves: Path, iteration: int, state: State, score: float) -> None:
    """Saves, and keeps two checkpoints: this one and the best so far by evaluated return."""
    last = checkpoint.save(saves, iteration, state, {"iteration": iteration, "eval_return": score})
    checkpoint.prune(saves, {last, best_checkpoint(saves)})


def best_checkpoint(saves: Path) -> Path:
    """The checkpoint with the highest evaluated return in a run's folder of checkpoints, the latest of equals.

    Raises:
      CheckpointError: there is none, or none is whole.
    """
    scores = {}
    for path in checkpoint.checkpoints(saves):
        with contextlib.suppress(checkpoint.CheckpointError):  # one that was damaged since is not the best
            scores[path] = checkpoint.read_metadata(path)["eval_return"]
    if not scores:
        raise checkpoint.CheckpointError(f"{saves}: there is no whole checkpoint")
    return max(scores, key=lambda path: (scores[path], path))


def _stop_if_not_finite(state: State, saves: Path) -> None:
    found = guard.describe(jax.device_get(state.learner.fault))
    if found:
        good = checkpoint.checkpoints(saves)
        kept = f"the last good checkpoint is {good[-1]}" if good else "there was no checkpoint yet"
        raise NonFiniteError(f"{found}; parameters and statistics were kept as they were before it, {kept}")


def _finish(algorithm, settings, programs, state, eval_returns) -> tuple[list[Path], list[str]]:
    files = [plotting.plot_curve(settings.folder, settings.title)]
    problems: list[str] = []
    if settings.record and getattr(algorithm.env, "mj_model", None) is not None:
        if settings.num_seeds > 1:
            best = int(np.argmax(eval_returns))
            state = jax.tree.map(lambda x: x[best], state)

        def act(obs, key):
            return algorithm.act(state, obs, key, True)

        states = recording.record_episode(algorithm.env, act, programs.eval_key)
        drawn, problems = recording.save_recording(settings.folder, algorithm.env, states)
        files += drawn
    return files, problems


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; the second one is served as usual."""
    received: list[int] = []
    previous = {}

    def handle(number, frame):
        del frame
        received.append(number)
        signal.signal(number, previous[number])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(console: Console, title: str) -> Iterator[Callable[[float, int, dict[str, Any]], None]]:
    """A progress bar on a terminal, or a line per evaluation elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("[cyan]{task.fields[sps]}"),
        TextColumn("return [green]{task.fields[episode_return]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0, sps="", episode_return="–")

        def report(fraction: float, steps: int, metrics: dict[str, Any]) -> None:
            value = np.asarray(metrics["charts/episodic_return"], float)
            known = value[np.isfinite(value)]
            shown = {"sps": f"{metrics['charts/sps']:,.0f} steps/s"}
            if known.size:
                shown["episode_return"] = f"{known.mean():.1f}"
            progress.update(task, completed=fraction, **shown)
            if "eval/episodic_return" in metrics:
                score = np.mean(metrics["eval/episodic_return"])
                console.print(f"{steps:>12,} steps  {shown['sps']:>18}  evaluated return {score:.1f}")

        yield report

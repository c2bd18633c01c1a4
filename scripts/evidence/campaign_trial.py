"""One trial of the fault campaign: run something in a process of its own, and judge how it ended.

A trial is run in a fork of this process, which has imported everything and started nothing (no jax
backend): it is a fresh process but for the imports. `command` is the same for a true command line.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import onejit
from onejit import algos
from onejit.algos.host import checkpoint, cli

SCRIPTS = Path(__file__).resolve().parents[1]
PACKAGE = Path(onejit.__file__).resolve().parent
_NOBODY = 65534
# What a run imports late; a fork that finds them imported starts in a fraction of the time. (Not
# gymnax: importing it starts the backend.)
PRELOADED = ("matplotlib.pyplot", "optax", "orbax.checkpoint", "tensorboardX")


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      code: its exit code; negative if a signal ended it; None if it was stopped, since it took too
        long or too much.
      out: its standard output.
      err: its standard error.
      seconds: how long it took.
      stopped: why it was stopped, or "".
    """

    code: int | None
    out: str
    err: str
    seconds: float
    stopped: str


class Finding(NamedTuple):
    """What came of a trial.

    Attributes:
      outcome: "survived", "refused" (in a sentence, with the right exit code), or "else".
      sentence: what was said, or the last line of a traceback, or what is wrong.
      code: the exit code.
      more: whatever else is to be in the trial's line.
    """

    outcome: str
    sentence: str = ""
    code: int | None = 0
    more: dict[str, Any] = {}


class Trial(NamedTuple):
    """A trial: its name, and a function of an empty folder and a seed that runs it."""

    name: str
    run: Callable[[Path, int], Finding]


def preload() -> None:
    """Imports what forks would."""
    for name in PRELOADED:
        importlib.import_module(name)


def forked(
    function: Callable[[], None], folder: Path, *, seconds: float, mib: int = 6144, nobody=False
) -> Ended:
    """Calls a function in a fork of this process.

    Args:
      function: what to call.
      folder: its working directory.
      seconds: it is stopped after so many of processor time, or four times as many by the clock,
      mib: and when its resident memory is above this.
      nobody: run without the rights of the superuser, where we have them.
    """
    pipes = [os.pipe(), os.pipe()]

    def child():
        for (_, end), number in zip(pipes, (1, 2), strict=True):
            os.dup2(end, number)
            os.close(end)  # or the reader would wait for the fork of a fork
        # What they were may be a file.
        sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: PTH123, SIM115
        os.chdir(folder)
        if nobody and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        function()

    sys.stdout.flush()
    sys.stderr.flush()
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return _watch(process.pid, lambda: process.exitcode, process.kill, pipes, seconds, mib)


def command(
    arguments: Sequence[Any], folder: Path, *, seconds: float, mib: int = 6144, **environ: str
) -> Ended:
    """Runs a Python script as a user does; see `forked`. environ is added to the environment."""
    pipes = [os.pipe(), os.pipe()]
    process = start(
        arguments, folder, stdout=pipes[0][1], stderr=pipes[1][1], env={**os.environ, **environ}
    )
    return _watch(process.pid, process.poll, process.kill, pipes, seconds, mib)


def start(arguments: Sequence[Any], folder: Path, **options) -> subprocess.Popen:
    """Starts a Python script as a user does."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=folder, stdin=subprocess.DEVNULL, **options
    )


def _watch(pid, poll, kill, pipes, seconds, mib) -> Ended:
    for _, end in pipes:
        os.close(end)
    ends = [end for end, _ in pipes]
    texts = [b"", b""]
    begin = time.perf_counter()
    stopped = ""
    code = None
    while code is None:
        code = poll()
        for end in select.select(ends, [], [], 0.02)[0]:
            texts[ends.index(end)] += os.read(end, 1 << 16)
        time.sleep(0.005)
        resident, used = _used(pid)
        if used > seconds or time.perf_counter() - begin > 4 * seconds:
            stopped = f"ran past {seconds:.0f} s ({used:.0f} s of processor time)"
        elif resident > mib:
            stopped = f"took more than {mib} MiB"
        if stopped and code is None:
            kill()
            break
    while code is None and poll() is None:
        time.sleep(0.01)
    for i, end in enumerate(ends):
        os.set_blocking(end, False)
        with contextlib.suppress(BlockingIOError):
            while more := os.read(end, 1 << 16):
                texts[i] += more
        os.close(end)
    out, err = (text.decode(errors="replace") for text in texts)
    return Ended(code, out, err, time.perf_counter() - begin, stopped if code is None else "")


def _used(pid: int) -> tuple[float, float]:
    """Resident MiB and seconds of processor time of a process."""
    try:
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    except (OSError, IndexError):
        return 0.0, 0.0
    return resident * os.sysconf("SC_PAGE_SIZE") / 2**20, sum(map(int, ticks)) / os.sysconf(
        "SC_CLK_TCK"
    )


def judge(ended: Ended, refusals: Sequence[int] = (1, 2)) -> Finding:
    """Survived, refused in a sentence with one of these exit codes, or else."""
    lines = [line for line in ended.err.splitlines() if line.strip()]
    if ended.code is None:
        return Finding("else", ended.stopped, None)
    for text in (ended.err, ended.out):
        if "Traceback (most recent call last)" in text:
            return Finding("else", f"traceback: {_last_line(text)}", ended.code)
    if ended.code == 0:
        return Finding("survived", "; ".join(lines), 0)
    said = lines[-1] if lines else _last_line(ended.out)
    if ended.code not in refusals:
        return Finding("else", f"exit code {ended.code}: {said}", ended.code)
    # What `envs.check` finds is a list below the sentence; argparse says how it is used above.
    besides = ("- ", "  ", "envs.check(env) tells more", "usage: ")
    if sum(not line.startswith(besides) for line in lines) != 1:
        return Finding(
            "else", f"{len(lines)} lines and not a sentence: {' | '.join(lines)[:300]}", ended.code
        )
    return Finding("refused", " ".join(lines), ended.code)


def _last_line(text: str) -> str:
    lines = [
        line
        for line in text.splitlines()
        if line.strip() and not line.startswith((" ", "---", "For simplicity"))
    ]
    return lines[-1] if lines else ""


def scrub(text: str, folder: Path) -> str:
    """Takes machine paths, dates, process ids and addresses out of a sentence."""
    for path in (
        folder,
        folder.resolve(),
        SCRIPTS,
        SCRIPTS.parent,
        PACKAGE,
        Path(sys.executable).parent,
    ):
        text = text.replace(f"{path}/", "").replace(str(path), ".")
    temporary = re.escape(tempfile.gettempdir())
    text = re.sub(rf"/\S*/(?=[\w.-]+\.py\b|site-packages)|{temporary}/\S*/", "", text)
    text = re.sub(r"-\d{8}-\d{6}", "-DATE", text)
    return re.sub(r"0x[0-9a-f]{6,}", "0x…", re.sub(r"(incomplete-\d+)-\d+", r"\1", text))[:600]


def run_of(name: str, arguments: Sequence[str]) -> Callable[[], None]:
    """The script of an algorithm as a function for `forked`."""
    return lambda: cli.main(getattr(algos, name), [f"{name}.py", *arguments])


def run_folder(folder: Path) -> Path | None:
    """The newest run folder below `folder/runs`, if there is one."""
    return max(folder.glob("runs/*"), key=lambda path: path.stat().st_mtime, default=None)


def algorithm_of(folder: Path, env: Any) -> algos.Algorithm:
    """The algorithm of a run folder, on an environment."""
    run = json.loads((folder / "config.json").read_text())
    config = {name: tuple(x) if isinstance(x, list) else x for name, x in run["config"].items()}
    module = getattr(algos, run["algorithm"])
    return module.make(
        env, module.Config(**{name: float(x) if x == "inf" else x for name, x in config.items()})
    )


def last_state(folder: Path) -> tuple[dict[str, np.ndarray], int]:
    """The arrays of a run's last checkpoint by name, as its manifest describes them, and its
    iteration.
    """
    path = checkpoint.checkpoints(folder / "checkpoints")[-1]
    manifest = json.loads((path / "manifest.json").read_text())
    key = jax.eval_shape(lambda: jax.random.key(0)).dtype
    like = {
        name: jax.ShapeDtypeStruct(
            leaf["shape"], key if leaf["dtype"].startswith("key") else leaf["dtype"]
        )
        for name, leaf in manifest["leaves"].items()
    }
    return named(checkpoint.restore(path, like)), manifest["metadata"]["iteration"]


def named(tree: Any) -> dict[str, np.ndarray]:
    """The arrays of a pytree by name."""

    def raw(x):
        return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x

    return {
        jax.tree_util.keystr(path): np.asarray(raw(x))
        for path, x in jax.tree.leaves_with_path(tree)
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a log but for what time it took."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [row for row in map(json.loads, lines) if isinstance(row, dict) and "step" in row]
    return [{name: x for name, x in row.items() if name != "charts/sps"} for row in found]


def differences(folder: Path, reference: Path) -> list[str]:
    """How a run's last State differs from another's; none if they are the same bit for bit. Runs in
    a fork.
    """

    def compare():
        found = []
        (mine, iteration), (theirs, wanted) = last_state(folder), last_state(reference)
        if mine.keys() != theirs.keys():
            found.append("the States have other arrays")
        else:
            same = {
                name
                for name, x in mine.items()
                if (x.dtype, x.shape) == (theirs[name].dtype, theirs[name].shape)
            }
            same = {name for name in same if mine[name].tobytes() == theirs[name].tobytes()}
            found += [f"{name} differs" for name in sorted(mine.keys() - same)][:3]
        if iteration != wanted:
            found.append(
                f"the last checkpoint is of iteration {iteration}, the other run's of {wanted}"
            )
        print(json.dumps(found))

    ended = forked(compare, folder, seconds=120)
    return json.loads(ended.out) if ended.code == 0 else [_last_line(ended.err) or ended.stopped]


def log_differences(folder: Path, reference: Path) -> list[str]:
    """How a log differs from another's."""
    try:
        mine = rows(folder)
    except (OSError, ValueError) as error:
        return [f"the log cannot be read ({type(error).__name__})"]
    theirs = rows(reference)
    steps = [row["step"] for row in mine]
    wanted = [row["step"] for row in theirs]
    if steps != wanted:
        twice = sorted({step for step in steps if steps.count(step) > 1})
        return [f"the log lacks the steps {sorted(set(wanted) - set(steps))}, has {twice} twice"]
    return ["a row of the log differs"] if mine != theirs else []


def api(function: Callable[[], Any]) -> Callable[[], None]:
    """A call of the library as a function for `forked`: what this package raises on purpose is exit
    code 2.
    """

    def call():
        try:
            function()
        except (ValueError, TypeError, RuntimeError, OSError, ImportError) as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            path = Path(frame.filename).resolve()
            ours = any(path.is_relative_to(PACKAGE / each) for each in ("algos", "envs", "losses"))
            if not (ours and (frame.line or "").startswith("raise")):
                raise
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(2)

    return call


def copied(folder: Path, to: Path) -> Path:
    """A copy of a folder, links as links."""
    return shutil.copytree(folder, to, symlinks=True)

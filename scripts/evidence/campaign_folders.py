"""The parts of the fault campaign that are about run folders: kills, and full disks."""

import contextlib
import functools
import random
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
from campaign_trial import (
    SCRIPTS,
    Finding,
    Trial,
    command,
    copied,
    differences,
    forked,
    judge,
    log_differences,
    rows,
    run_folder,
    run_of,
    start,
)

_ENV = ["--env=probe/all", "--eval_episodes=32", "--norecord"]
_OFF_POLICY = ["--num_envs=4", "--batch_size=8", "--buffer_size=512", "--learning_starts=64"]
# Programs of a few seconds, with learning rates with which the best evaluation is not always the
# last.
_FLAGS = {
    "ppo": [
        "--num_envs=4",
        "--num_steps=8",
        "--num_minibatches=2",
        "--hidden_sizes=8",
        "--normalize_obs",
        "--learning_rate=0.3",
    ],
    "sac": [
        *_OFF_POLICY,
        "--actor_hidden_sizes=8",
        "--critic_hidden_sizes=8",
        "--normalize_obs",
        "--learning_rate=0.1",
    ],
    "staq": [
        *_OFF_POLICY,
        "--num_steps=8",
        "--memory=3",
        "--hidden_sizes=8",
        "--learning_rate=0.3",
        "--kl_weight=1",
    ],
}
# Before the first iteration, and of each.
_STEPS = {
    "ppo": (0, 32),
    "sac": (64, 4),
    "staq": (64, 32),
}
_KILLS = 5


def program(name: str, seed: int, iterations: int) -> list[str]:
    """The flags of a tiny run that logs, evaluates and saves at every iteration."""
    first, each = _STEPS[name]
    often = [
        f"--num_logs={iterations}",
        f"--num_evals={iterations}",
        f"--total_steps={first + each * iterations}",
    ]
    return [*_ENV, *_FLAGS[name], *often, f"--seed={seed}"]


def _checked(folder: Path, iterations: int) -> Path:
    """The folder of a finished run, if it is complete."""
    saved = max(int(path.name) for path in folder.glob("checkpoints/[0-9]*"))
    if saved != iterations or len(rows(folder)) != iterations:
        raise RuntimeError(
            f"a run that nobody stopped has {len(rows(folder))} rows, and saved iteration {saved}"
        )
    return folder


# Kills
# ------------------------------------------------------------------------------------------------


def kills(work: Path) -> Iterator[Trial]:
    """Runs in a relative folder that are killed at random moments, resumed, and killed again, up to
    five times.
    """

    @functools.cache
    def reference(name, seed):
        """A run that nobody stopped, and its seconds."""
        folder = work / f"kills-{name}-{seed}"
        folder.mkdir()
        ended = command([SCRIPTS / f"{name}.py", *program(name, seed, 40)], folder, seconds=300)
        if ended.code != 0:
            raise RuntimeError(f"the run that nobody stops failed:\n{ended.err}")
        return _checked(run_folder(folder), 40), ended.seconds

    for number in range(15):
        name = ("ppo", "sac", "staq")[number % 3]
        yield Trial(
            f"{name} {number // 3}", functools.partial(_killed, name, number // 3 % 2, reference)
        )


def _killed(name, run_seed, reference, folder: Path, seed: int) -> Finding:
    whole, seconds = reference(name, run_seed)
    rng = random.Random(seed)
    moments = []
    restarts = 0
    while True:
        existing = run_folder(folder)
        flags = (
            [f"--resume={existing.relative_to(folder)}"]
            if existing
            else program(name, run_seed, 40)
        )
        with (folder / "err").open("w") as err:
            began = time.time()
            process = start(
                [SCRIPTS / f"{name}.py", *flags], folder, stdout=subprocess.DEVNULL, stderr=err
            )
            try:
                if len(moments) < _KILLS:
                    _wait(process, folder, seconds, rng)
                else:
                    process.wait(300)
            except subprocess.TimeoutExpired:
                process.kill()
                return Finding("else", "the last resume ran past 300 s", None, {"kills": moments})
            alive = process.poll() is None
            process.kill()
            process.wait()
        if alive:
            moments.append(_moment(run_folder(folder), began))
            if lost := _lost(run_folder(folder)):
                return Finding("else", lost, None, {"kills": moments})
            continue
        said = (folder / "err").read_text()
        if process.returncode == 0:
            break
        nothing = existing and not list(existing.glob("checkpoints/[0-9]*"))
        if (
            not (nothing and process.returncode in (1, 2) and "Traceback" not in said)
            or restarts > 5
        ):
            said = said.strip().splitlines()[-1:] or [""]
            return Finding(
                "else", f"the resume failed: {said[0]}", process.returncode, {"kills": moments}
            )
        restarts += 1  # killed before there was a checkpoint: the user is told so, and starts anew
        shutil.rmtree(existing)
    found = differences(run_folder(folder), whole) + log_differences(run_folder(folder), whole)
    found += _leftovers(run_folder(folder), whole)
    more = {"kills": moments, "started_anew": restarts}
    return Finding("else", "; ".join(found), 0, more) if found else Finding("survived", "", 0, more)


def _wait(process, folder, seconds, rng) -> None:
    """Waits until a random moment: of the whole time of a run, or about a save."""
    clock = rng.random() < 0.4
    end = time.time() + (rng.uniform(0.5, 0.6 * seconds) if clock else 60)
    saves = rng.randint(1, 5)
    seen = set()
    while process.poll() is None and time.time() < end and len(seen) < saves:
        if not clock:
            seen |= {path.name for path in folder.glob("runs/*/checkpoints/.*")}
        time.sleep(0.002)
    if not clock:
        time.sleep(rng.uniform(0.0, 0.1))


def _moment(folder: Path | None, began: float) -> str:
    """What a run was doing when it was killed."""
    saves = folder and folder / "checkpoints"
    if not saves or not saves.is_dir() or saves.stat().st_mtime < began:
        return "starting"
    return "saving" if list(saves.glob(".*")) else "training"


def _lost(folder: Path | None) -> str:
    """Whether a kill costs more than the last iteration: each has a row and a checkpoint."""
    log = folder and folder / "metrics.jsonl"
    logged = len(log.read_text().splitlines()) if log and log.exists() else 0
    saved = (
        max((int(path.name) for path in folder.glob("checkpoints/[0-9]*")), default=0)
        if folder
        else 0
    )
    return (
        f"{logged} iterations are logged, and the last checkpoint is of {saved}"
        if saved < logged - 1
        else ""
    )


def _leftovers(folder: Path, reference: Path) -> list[str]:
    """Names in a run folder or among its checkpoints that the reference has not, or the other way
    round.
    """

    def names(run):
        return {path.name for path in [*run.iterdir(), *(run / "checkpoints").iterdir()]}

    found = []
    if more := names(folder) - names(reference):
        found.append(f"left over: {sorted(more)}")
    if fewer := names(reference) - names(folder):
        found.append(f"missing: {sorted(fewer)}")
    return found


# Disks
# ------------------------------------------------------------------------------------------------

# KiB of free space for everything, and the largest size of a file (`ulimit -f`).
_FREE = (0, 16, 64, 128, 160, 192, 256, 288, 320, 512)
_LARGEST = (1, 2, 3, 4, 6, 8, 12, 16, 24, 48)


def disk(work: Path) -> Iterator[Trial]:
    """Runs that find the disk full, and are resumed when there is room again."""

    @functools.cache
    def reference():
        folder = work / "disk"
        folder.mkdir()
        ended = forked(run_of("ppo", program("ppo", 0, 20)), folder, seconds=300)
        if ended.code != 0:
            raise RuntimeError(f"the run with enough space failed:\n{ended.err}")
        return _checked(run_folder(folder), 20)

    for kib in _LARGEST:
        yield Trial(f"no file above {kib} KiB", functools.partial(_no_large_file, kib, reference))
    if _can_mount(work):
        for kib in _FREE:
            yield Trial(f"{kib} KiB free", functools.partial(_little_room, kib, reference))


def _no_large_file(kib, reference, folder: Path, seed: int) -> Finding:
    del seed
    whole = reference()

    def run():
        # Or it would be damaged.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * kib, 1024 * kib))
        run_of("ppo", program("ppo", 0, 20))()

    return _filled(folder, whole, run, lambda: None)


def _little_room(kib, reference, folder: Path, seed: int) -> Finding:
    del seed
    whole = reference()
    disk = folder / "disk"
    disk.mkdir()

    def mount(options):
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True, capture_output=True
        )

    mount("size=16m,mode=777")
    try:
        # The page cache's own rounding aside, so much is left; a folder on a tmpfs takes none of
        # it.
        room = 1024 * kib + 4096
        with (disk / "ballast").open("wb") as file:
            file.write(bytes(16 * 2**20 - room))
        return _filled(disk, whole, run_of("ppo", program("ppo", 0, 20)), (disk / "ballast").unlink)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def _filled(
    folder: Path, whole: Path, run: Callable[[], None], make_room: Callable[[], None]
) -> Finding:
    """A run on a full disk, then a resume on one with room; or a new run where nothing had been
    saved.
    """
    first = forked(run, folder, seconds=90)
    before = run_folder(folder)
    saved = bool(before) and bool(list(before.glob("checkpoints/[0-9]*")))
    finding = judge(first, refusals=(4,) if saved else (2, 4))
    if finding.outcome == "else":
        return finding
    make_room()
    if finding.outcome == "refused":
        flags = [f"--resume=runs/{before.name}"] if saved else program("ppo", 0, 20)
        again = judge(forked(run_of("ppo", flags), folder, seconds=90))
        if again.outcome != "survived":
            return Finding(
                "else",
                f"with room again: {again.sentence}",
                again.code,
                {"first": finding.sentence},
            )
    found = differences(run_folder(folder), whole)
    missing = log_differences(run_folder(folder), whole)
    if (
        finding.outcome == "survived"
        and missing
        and "cannot be written" not in first.out + first.err
    ):
        found += [f"{missing[0]}, and nobody was told"]
    more = {"saved_before": saved, "log": "; ".join(missing) or "complete"}
    return Finding("else", "; ".join(found), 0, more) if found else finding._replace(more=more)


def _can_mount(work: Path) -> bool:
    """Whether we may mount a file system of our own."""
    folder = work / "mount"
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True, capture_output=True)
        subprocess.run(["umount", folder], check=True)
        return True
    return False


def unfinished(work: Path) -> tuple[Path, Path]:
    """A run of PPO that was stopped when its last checkpoint was not its best, and a copy resumed
    to the end.
    """
    for seed in range(20):
        folder = work / f"unfinished-{seed}"
        folder.mkdir()
        # As absolute paths: what relative ones do is seen elsewhere.
        flags = [*program("ppo", seed, 12), f"--out={folder / 'runs'}"]
        process = start(
            [SCRIPTS / "ppo.py", *flags],
            folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and len(_saved(folder)) < 2:
            time.sleep(0.01)
        process.terminate()
        process.wait(120)
        if process.returncode == 143 and len(_saved(folder)) == 2:
            break
    else:
        raise RuntimeError("no run had a best checkpoint that is not its last")
    whole = work / "whole"
    copied(folder, whole)
    ended = forked(run_of("ppo", [f"--resume=runs/{run_folder(whole).name}"]), whole, seconds=120)
    if ended.code != 0:
        raise RuntimeError(f"the undamaged run did not go on:\n{ended.err}")
    base, reference = run_folder(folder), _checked(run_folder(whole), 12)
    shutil.copy(reference / "curve.png", base / "curve.png")  # as a run has that is trained longer
    return base, reference


def _saved(folder: Path) -> list[Path]:
    return list(folder.glob("runs/*/checkpoints/[0-9]*"))

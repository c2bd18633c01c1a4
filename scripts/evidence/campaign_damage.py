"""The part of the fault campaign that damages the files of a run folder and then resumes it.

The run is one of PPO that was stopped half-way, with two checkpoints (the last, and the best, which
is another). A resume must end in the State in which the undamaged run ends, bit for bit, or be
refused in a sentence.
"""

import functools
import hashlib
import json
import os
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from campaign_folders import program, unfinished
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
    run_of,
    start,
)

Damage = Callable[[Path, random.Random], None]


def _truncate(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


def _flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def _zero(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data))
    block = data[start : start + rng.randint(1, 512)]
    data[start : start + len(block)] = bytes(len(block))
    path.write_bytes(data)


def _folder(path: Path, rng: random.Random) -> None:
    del rng
    path.unlink()
    path.mkdir()


KINDS: dict[str, Damage] = {
    "truncate": _truncate,
    "flip a bit": _flip,
    "zero a block": _zero,
    "empty": lambda path, rng: path.write_bytes(b""),
    "delete": lambda path, rng: path.unlink(),
    "append": lambda path, rng: path.write_bytes(
        path.read_bytes() + rng.randbytes(rng.randint(1, 64))
    ),
    "a folder instead": _folder,
    "unreadable": lambda path, rng: path.chmod(0),
    "rename": lambda path, rng: path.rename(path.with_name(path.name + ".old")),
}
_REPEATED = ("truncate", "flip a bit", "zero a block")


def _files(run: Path) -> dict[str, Path]:
    """Every kind of file in a run folder; arrays' files are counted, since their names differ from
    run to run.
    """
    best, last = sorted(run.glob("checkpoints/[0-9]*"))
    found = {name: run / name for name in ("config.json", "metrics.jsonl", "curve.png")}
    found["tensorboard"] = next((run / "tensorboard").iterdir())
    for name, folder, count in (("last", last, 16), ("best", best, 4)):
        arrays = sorted(path for path in (folder / "arrays").rglob("*") if path.is_file())
        found[f"{name}/manifest.json"] = folder / "manifest.json"
        found |= {f"{name}/arrays {i}": arrays[i % len(arrays)] for i in range(count)}
    return found


# Labels of `_files`, and how often the random kinds are repeated.
_LABELS = {
    **dict.fromkeys(("config.json", "metrics.jsonl", "last/manifest.json"), 3),
    **dict.fromkeys(("curve.png", "tensorboard", "best/manifest.json"), 1),
    **{f"last/arrays {i}": 1 for i in range(16)},
    **{f"best/arrays {i}": 1 for i in range(4)},
}

# Hand-made edits of config.json: what is set, "config.x" for the field x of the config; ... removes
# it.
_EDITS = [
    *[
        {key: ...}
        for key in ("algorithm", "env", "env_options", "seed", "num_seeds", "num_logs", "num_evals")
    ],
    *[
        {key: ...}
        for key in (
            "eval_episodes",
            "record",
            "config",
            "commands",
            "versions",
            "changes",
            "save_replay",
        )
    ],
    *[{f"config.{key}": ...} for key in ("gamma", "hidden_sizes", "total_steps", "normalize_obs")],
    *[{"seed": x} for x in (1, "zero", None, 1.5, -1, 2**32, [0], True)],
    *[
        {"env": x}
        for x in (
            "probe/all",
            "gymnax/Pendulum-v1",
            "gymnax/Cart",
            "",
            5,
            None,
            "playground/Go1Getup",
        )
    ],
    *[
        {"env_options": x}
        for x in ({"gravity": 1.0}, {"gravity": "down"}, {"max_steps_in_episode": 30}, {"x": 1})
    ],
    *[{"env_options": x} for x in ({}, [], None, "gravity")],
    *[{"algorithm": x} for x in ("spo", "sac", "nonsense", None, 3)],
    *[{"num_seeds": x} for x in (2, 0, "many", None, 1e9)],
    *[{name: x} for name in ("num_logs", "num_evals", "eval_episodes") for x in (0, -1, None, "2")],
    *[{"eval_episodes": 1e9}, {"record": "maybe"}, {"record": None}, {"out": 5}, {"out": None}],
    *[{"commands": x} for x in ("x", 7, None)],
    *[{"changes": x} for x in ([1], [{"iteration": 1}], [{"iteration": "x", "config": {}}], None)],
    *[{"save_replay": x} for x in (False, "no")],
    *[{"versions": 3}, {"speed": 3}, {"config.speed": 3}, {"config": []}, {"config": None}],
    *[{"config.gamma": x} for x in (0.5, 3, float("nan"), "high", None, [0.9], True)],
    *[{"config.learning_rate": x} for x in (1.0, -1, float("inf"), "inf", "fast")],
    *[{"config.hidden_sizes": x} for x in ([16], 8, [], ["a"], [0], [8.5], None)],
    *[{"config.num_envs": x} for x in (8, 0, 1e30, "4")],
    *[{"config.total_steps": x} for x in (1, 800, "inf", None)],
    *[
        {"config.normalize_obs": False},
        {"config.activation": "relu"},
        {"config.activation": "gelu"},
    ],
]


def _edited(changes: dict) -> Damage:
    def damage(run: Path, rng: random.Random) -> None:
        del rng
        description = json.loads((run / "config.json").read_text())
        for name, value in changes.items():
            place, key = (
                (description["config"], name[7:])
                if name.startswith("config.")
                else (description, name)
            )
            if value is ...:
                del place[key]
            else:
                place[key] = value
        (run / "config.json").write_text(json.dumps(description))

    return damage


def _written(name: str, text: str | bytes) -> Damage:
    data = text.encode() if isinstance(text, str) else text
    return lambda run, rng: (run / name).write_bytes(data)


def _lines(change: Callable[[list[str]], list[str]]) -> Damage:
    """A change of the log's lines."""

    def damage(run: Path, rng: random.Random) -> None:
        del rng
        path = run / "metrics.jsonl"
        path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")

    return damage


def _saves(run: Path) -> tuple[Path, Path]:
    best, last = sorted(run.glob("checkpoints/[0-9]*"))
    return best, last


def _swap(run: Path, rng: random.Random) -> None:
    best, last = _saves(run)
    last.rename(run / "aside")
    best.rename(last)
    (run / "aside").rename(best)


def _replace(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("not a folder")


def _link(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to("nowhere")


def _forged(change: Callable[[dict], None]) -> Damage:
    """A change of the last manifest with a checksum that agrees."""

    def damage(run: Path, rng: random.Random) -> None:
        path = _saves(run)[1] / "manifest.json"
        body = json.loads(path.read_text())
        body.pop("sha256", None)
        change(body)
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({"sha256": digest, **body}))

    return damage


def _read_only(run: Path) -> None:
    for path in [run, *run.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


# What else may happen to a run folder, by hand; what is of the user must be there afterwards.
_MINE = {
    "a folder 000000100.bak": "checkpoints/000000100.bak/x",
    "a folder 2024-notes": "checkpoints/2024-notes/x",
    "a file 7": "checkpoints/7",
    "a file notes.txt": "checkpoints/notes.txt",
    "a file beside": "notes.txt",
    "a file in the last checkpoint": "checkpoints/LAST/notes.txt",
}


def _mine(name: str) -> Damage:
    def damage(run: Path, rng: random.Random) -> None:
        path = run / _MINE[name].replace("LAST", _saves(run)[1].name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")

    return damage


_FOLDERS: dict[str, Damage] = {
    "nothing": lambda run, rng: None,
    "no last checkpoint": lambda run, rng: shutil.rmtree(_saves(run)[1]),
    "no best checkpoint": lambda run, rng: shutil.rmtree(_saves(run)[0]),
    "no checkpoint": lambda run, rng: [shutil.rmtree(each) for each in _saves(run)],
    "no checkpoints folder": lambda run, rng: shutil.rmtree(run / "checkpoints"),
    "checkpoints is a file": lambda run, rng: _replace(run / "checkpoints"),
    "the last checkpoint is a file": lambda run, rng: _replace(_saves(run)[1]),
    "the last checkpoint is a dangling link": lambda run, rng: _link(_saves(run)[1]),
    "the last checkpoint renamed .old": lambda run,
        rng: _saves(run)[1].rename(run / "checkpoints" / "9.old"),
    "the last checkpoint renamed 999999999": lambda run,
        rng: _saves(run)[1].rename(run / "checkpoints/999999999"),
    "the last checkpoint renamed 1000000000": lambda run,
        rng: _saves(run)[1].rename(run / "checkpoints/1000000000"),
    "the last checkpoint copied to 999999999": lambda run, rng: shutil.copytree(
        _saves(run)[1], run / "checkpoints/999999999"
    ),
    "the checkpoints swapped": _swap,
    "arrays of the best in the last": lambda run, rng: shutil.copytree(
        _saves(run)[0] / "arrays", _saves(run)[1] / "arrays", dirs_exist_ok=True
    ),
    "no arrays in the last": lambda run, rng: shutil.rmtree(_saves(run)[1] / "arrays"),
    "the remains of a killed save": lambda run, rng: shutil.copytree(
        _saves(run)[1], run / "checkpoints/.incomplete-000000099-1"
    ),
    "no tensorboard": lambda run, rng: shutil.rmtree(run / "tensorboard"),
    "tensorboard is a file": lambda run, rng: _replace(run / "tensorboard"),
    "tensorboard is a dangling link": lambda run, rng: _link(run / "tensorboard"),
    "the log is a dangling link": lambda run, rng: _link(run / "metrics.jsonl"),
    "config.json is a dangling link": lambda run, rng: _link(run / "config.json"),
    "an empty folder": lambda run, rng: (shutil.rmtree(run), run.mkdir()),
    "all read-only": lambda run, rng: _read_only(run),
    "checkpoints read-only": lambda run, rng: (run / "checkpoints").chmod(0o555),
    "no right to look": lambda run, rng: run.chmod(0),
    "format 99": _forged(lambda body: body.update(format=99)),
    "no format": _forged(lambda body: body.pop("format")),
    "no metadata": _forged(lambda body: body.pop("metadata")),
    "no files": _forged(lambda body: body.pop("files")),
    "an iteration in words": _forged(lambda body: body["metadata"].update(iteration="ten")),
    "a path out of the folder": _forged(lambda body: body["files"].update(
        {"../../config.json": "0"})),
    **{f"manifest {x[:9]}": lambda run, rng, x=x: (_saves(run)[1] / "manifest.json").write_text(x)
       for x in ("null", "[]", "{}", "5", "[" * 100_000)},
    **{f"config {x[:9]!r}": _written("config.json", x)
       for x in ("null", "[]", "{}", "5", '"text"', "[" * 100_000, "9" * 5000, "\ufeff{}",
           b"\xff\xfe\x00")},
    "log: null": _lines(lambda lines: ["null", *lines]),
    "log: no step": _lines(lambda lines: ["{}", *lines]),
    "log: a step in words": _lines(lambda lines: ['{"step": "ten"}', *lines]),
    "log: rows twice": _lines(lambda lines: [*lines, *lines]),
    "log: backwards": _lines(lambda lines: lines[::-1]),
    "log: blank lines": _lines(lambda lines: ["", *lines, ""]),
    "log: rows of the future": _lines(lambda lines: [*lines, '{"step": 1000000000}']),
    "log: half of it": _lines(lambda lines: lines[: len(lines) // 2]),
    "log: bytes": _written("metrics.jsonl", b"\xff\xfe\x00\n"),
    **{name: _mine(name) for name in _MINE},
}  # fmt: skip


def damage(work: Path) -> Iterator[Trial]:
    """Every kind of file, damaged in every way."""

    @functools.cache
    def runs():
        return unfinished(work)

    def of_file(label, kind):
        return lambda run, rng: KINDS[kind](_files(run)[label], rng)

    for label, repeats in _LABELS.items():
        for kind in KINDS:
            for number in range(repeats if kind in _REPEATED else 1):
                name = f"{label}: {kind}" + (f" {number}" if number else "")
                # Without the rights of the superuser, whom nothing is unreadable to; a sample as
                # true command lines.
                options = {
                    "nobody": kind == "unreadable",
                    "true": label == "last/manifest.json" and not number and kind != "unreadable",
                }
                yield Trial(
                    name, functools.partial(_damaged, of_file(label, kind), runs, **options)
                )
    for changes in _EDITS:
        shown = ", ".join(
            f"{k} removed" if v is ... else f"{k}={json.dumps(v)}" for k, v in changes.items()
        )
        yield Trial(f"config.json: {shown}", functools.partial(_damaged, _edited(changes), runs))
    for name, change in _FOLDERS.items():
        options = {"mine": _MINE.get(name), "nobody": "read-only" in name or "no right" in name}
        yield Trial(f"by hand: {name}", functools.partial(_damaged, change, runs, **options))
    for name, way in _WAYS.items():
        yield Trial(
            f"by another way: {name}",
            functools.partial(_damaged, lambda run, rng: None, runs, way=way),
        )
    yield Trial("the State of another seed", functools.partial(_foreign, runs))
    yield Trial("a second process", functools.partial(_second, runs))


# Undamaged, but given in another way: (folder, flags) from the folder that holds runs/x.
_WAYS: dict[str, Callable[[Path], tuple[Path, str]]] = {
    "a slash": lambda folder: (folder, "runs/x/"),
    "from inside": lambda folder: (folder / "runs/x", "."),
    "from below": lambda folder: (folder / "runs/x/checkpoints", ".."),
    "absolute": lambda folder: (folder, str(folder / "runs/x")),
    "config.json itself": lambda folder: (folder, "runs/x/config.json"),
    "checkpoints itself": lambda folder: (folder, "runs/x/checkpoints"),
    "a link": lambda folder: ((folder / "link").symlink_to("runs/x"), (folder, "link"))[1],
    "a linked parent": lambda folder: ((folder / "link").symlink_to("runs"), (folder, "link/x"))[1],
    "dots": lambda folder: (folder, "runs/../runs/./x"),
    "spaces": lambda folder: (
        (folder / "runs/x").rename(folder / "runs/a b"),
        (folder, "runs/a b"),
    )[1],
    "letters": lambda folder: (
        (folder / "runs/x").rename(folder / "runs/λ🤖"),
        (folder, "runs/λ🤖"),
    )[1],
    "a bracket": lambda folder: (
        (folder / "runs/x").rename(folder / "runs/[0-9]*"),
        (folder, "runs/[0-9]*"),
    )[1],
}


def _tree(run: Path) -> dict[str, bytes]:
    """What is in a folder, without names that begin with a dot."""
    files = [
        path
        for path in run.rglob("*")
        if not any(p.startswith(".") for p in path.relative_to(run).parts)
    ]
    return {str(p.relative_to(run)): p.read_bytes() if p.is_file() else b"folder" for p in files}


def _damaged(
    change, runs, folder: Path, seed: int, *, nobody=False, true=False, mine=None, way=None
) -> Finding:
    base, reference = runs()
    run = copied(base, folder / "runs" / "x")
    change(run, random.Random(seed))
    here, given = way(folder) if way else (folder, "runs/x")
    run = (here / given).resolve() if way and (here / given).is_dir() else run
    if nobody and os.geteuid() == 0:
        for path in (folder, folder / "runs", run, *run.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    before = _tree(run)
    if true:
        ended = command([SCRIPTS / "ppo.py", f"--resume={given}"], here, seconds=120)
    else:
        ended = forked(run_of("ppo", [f"--resume={given}"]), here, seconds=60, nobody=nobody)
    finding = judge(ended, refusals=(1, 2, 4))
    if mine and not (run / mine.replace("LAST", _saves(base)[1].name)).is_file():
        return Finding("else", f"the user's own {mine} was removed", ended.code)
    if finding.outcome == "survived":
        if found := differences(run, reference):
            return Finding("else", f"went on to another State: {'; '.join(found)}", 0)
        return finding._replace(
            more={"log": "; ".join(log_differences(run, reference)) or "complete"}
        )
    if finding.outcome == "refused" and ended.code != 4 and _tree(run) != before:
        after = _tree(run)
        names = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n)]
        shown = ", ".join(re.sub(r"[0-9a-f]{32}", "…", name) for name in names[:3])
        return Finding("else", f"refused, but changed {shown}: {finding.sentence}", ended.code)
    return finding


def _foreign(runs, folder: Path, seed: int) -> Finding:
    """Another run's checkpoint under this run's name."""
    base, _ = runs()
    other = forked(run_of("ppo", program("ppo", seed % 1000 + 50, 12)), folder, seconds=120)
    if other.code != 0:
        return Finding("else", "the other run failed", other.code)
    source = next((folder / "runs").iterdir())
    run = copied(base, folder / "runs" / "x")
    last = _saves(run)[1]
    shutil.rmtree(last)
    copied(sorted(source.glob("checkpoints/[0-9]*"))[0], last)
    finding = judge(forked(run_of("ppo", ["--resume=runs/x"]), folder, seconds=60))
    if finding.outcome == "survived":
        return Finding("else", "the State of another seed was taken for this run's", 0)
    return finding


def _second(runs, folder: Path, seed: int) -> Finding:
    """Two processes in one run folder: the second is refused, and the first is not disturbed."""
    del seed
    base, reference = runs()
    run = copied(base, folder / "runs" / "x")
    total = json.loads((base / "config.json").read_text())["config"]["total_steps"]
    first = start(
        [SCRIPTS / "ppo.py", "--resume=runs/x", f"--total_steps={10_000 * total}"], folder
    )
    names = {path.name for path in run.glob("checkpoints/[0-9]*")}
    end = time.time() + 60
    while time.time() < end and first.poll() is None and len(names) < 4:
        names |= {path.name for path in run.glob("checkpoints/[0-9]*")}
        time.sleep(0.05)
    try:
        finding = judge(forked(run_of("ppo", ["--resume=runs/x"]), folder, seconds=60))
        alive = first.poll() is None
    finally:
        first.terminate()
        first.wait(60)
    del reference
    if finding.outcome == "survived":
        return Finding("else", "two processes ran in one folder", 0)
    return (
        finding
        if alive and first.returncode == 143
        else Finding("else", "the first process died", first.returncode)
    )

"""TD3, SAC, CrossQ and PPO on three of Gymnasium's robots: what do few environment steps teach?

`python scripts/evidence/mujoco_table.py --cells=sac_hopper --total_steps=100000` trains three seeds
and writes results/mujoco/CELL.json, with an evaluation (ten deterministic episodes of each seed)
after every 25,000 steps. There the whole State is saved under runs/mujoco too: a cell that was
stopped, or is to run for longer, goes on from there, and one that has run so far is not run again.
A cell without its checkpoint begins anew. From the files it prints the table, beside published
figures. `--times` measures a cell instead, seeds in one program (vmapped) and one after the other,
into results/mujoco/times.json; `VMAPPED` says which a cell takes, the former until it is timed.
`--table` runs nothing.

All have their published hyperparameters, but for the replay, which holds what a run meets and no
more: SAC (arXiv 1812.05905) and TD3 one update with 256 transitions per step; CrossQ (1902.05605)
with critics of 2048, and crossq256 with the critics that SAC has; PPO as in CleanRL's
`ppo_continuous_action.py`.
"""

import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos.core import training
from onejit.algos.host import checkpoint, runner
from onejit.algos.host.run_folder import write_json

ROOT = Path(__file__).parents[2]
EVERY = 25_000  # environment steps from one evaluation to the next
MARKS = (100_000, 200_000, 300_000)  # what the table shows
SEEDS = 3
EPISODES = 10
TASKS = {
    "halfcheetah": "mjx/HalfCheetah-v5",
    "hopper": "mjx/Hopper-v5",
    "walker2d": "mjx/Walker2d-v5",
}
# Schedules, if any, run over the million steps of the published runs.
COMMON = {"total_steps": 1_000_000}
REPLAY = {"buffer_size": MARKS[-1] + EVERY}
ALGORITHMS = {
    "td3": ("td3", REPLAY | {"learning_starts": 25_000}),
    "sac": ("sac", REPLAY),
    "crossq": ("crossq", REPLAY | {"critic_hidden_sizes": (2048, 2048)}),
    "crossq256": ("crossq", REPLAY),
    "ppo": (
        "ppo",
        {
            "num_envs": 1,
            "num_steps": 2048,
            "num_minibatches": 32,
            "update_epochs": 10,
            "vf_clip_eps": 0.2,
            "normalize_obs": True,
            "normalize_reward": True,
        },
    ),
}
CELLS = {f"{name}_{task}": (name, task) for name in ALGORITHMS for task in TASKS}
VMAPPED = dict.fromkeys(CELLS, True)


class Published(NamedTuple):
    """Figures of others: by task, and by thousands of steps, (mean, what it is given ±)."""

    source: str
    figures: dict[str, dict[int, tuple]]


def _at_100k(*figures):
    return {task: {100: (x, None)} for task, x in zip(TASKS, figures, strict=True)}


def _by_mark(*figures):
    return dict(zip((100, 200, 300), figures, strict=True))


PUBLISHED = {
    "SAC": Published(
        "one update per step, ten seeds, Gymnasium v4",
        {
            "halfcheetah": _by_mark((6156, 700), (7679, 852), (8593, 964)),
            "hopper": _by_mark((1103, 368), (2342, 921), (2160, 981)),
            "walker2d": _by_mark((690, 241), (1946, 1279), (2470, 1571)),
        },
    ),
    "CrossQ": Published("arXiv 1902.05605, Gymnasium v4", _at_100k(8153, 2887, 3882)),
    "SimbaV2": Published("arXiv 2502.15280, Gymnasium v4", _at_100k(7328, 2821, 3023)),
    "XQC": Published("arXiv 2509.25174, Gymnasium v4", _at_100k(8597, 2828, 3612)),
}


def algorithm_of(cell: str, **changes) -> algos.Algorithm:
    """The algorithm of a cell on its task."""
    name, task = CELLS[cell]
    module, settings = ALGORITHMS[name]
    module = getattr(algos, module)
    return module.make(envs.make(TASKS[task]), module.Config(**COMMON | settings | changes))


class Programs(NamedTuple):
    """The compiled programs of a cell, of all seeds or of one.

    Attributes:
      groups: keys of what runs together: of the training and of the evaluation, `[S, 2]` or `[2]`.
      shape: the State, by shape.
      init: keys -> State.
      advance: (State, iterations) -> State.
      evaluate: (State, keys) -> metrics.
      compile_s: seconds that init and advance took to compile.
    """

    groups: list
    shape: object
    init: object
    advance: object
    evaluate: object
    compile_s: float


def programs_of(algorithm: algos.Algorithm, seeds: int, vmapped: bool, episodes: int) -> Programs:
    """Compiles what a cell needs."""
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(np.arange(seeds))
    groups = [keys] if vmapped else list(keys)
    evaluator = algos.evaluator(algorithm, num_episodes=episodes)

    def init(pair):
        return algorithm.init(pair[0])

    def advance(state, iterations):
        return training.advance(algorithm, state, iterations)[0]

    def evaluate(state, pair):
        return evaluator(state, pair[1])

    lift = jax.vmap if vmapped else lambda function, in_axes: function
    init, advance, evaluate = (
        lift(function, in_axes=axes)
        for function, axes in ((init, 0), (advance, (0, None)), (evaluate, 0))
    )
    start = time.perf_counter()
    shape = jax.eval_shape(init, groups[0])
    init = jax.jit(init).lower(groups[0]).compile()
    advance = jax.jit(advance, donate_argnums=0).lower(shape, np.int32(0)).compile()
    compile_s = time.perf_counter() - start
    return Programs(groups, shape, init, advance, jax.jit(evaluate), compile_s)


def run_cell(cell: str, seeds: int, total_steps: int, folder: Path, saved: Path) -> None:
    """Trains a cell up to total_steps, from where its checkpoint is, and writes its file after each
    evaluation.

    Args:
      cell: its name.
      seeds: how many, 0 and on.
      total_steps: environment steps of each seed.
      folder: of the result files.
      saved: of the checkpoints of all cells.
    """
    algorithm = algorithm_of(cell)
    programs = programs_of(algorithm, seeds, VMAPPED[cell], EPISODES)
    saved = saved / cell
    saved.mkdir(parents=True, exist_ok=True)
    checkpoint.clean(saved)
    found = checkpoint.checkpoints(saved)
    if not found:
        body = {"rows": [], "init_s": 0.0}
        states = []
        for group in programs.groups:
            start = time.perf_counter()
            states.append(jax.block_until_ready(programs.init(jax.random.clone(group))))
            body["init_s"] += time.perf_counter() - start
    else:
        body = checkpoint.read_metadata(found[-1])
        states = checkpoint.restore(found[-1], [programs.shape] * len(programs.groups))

    def write():
        result = result_of(cell, algorithm, programs, seeds, body)
        write_json(folder / f"{cell}.json", result)

    iterations = 0
    if body["rows"]:
        iterations = body["rows"][-1]["iterations"]
        write()  # it may have been stopped before
    for mark in range(EVERY * (1 + len(body["rows"])), total_steps + 1, EVERY):
        target = algorithm.iterations(mark)
        row = {"iterations": target, "steps": algorithm.steps_after(target), "seconds": 0.0}
        metrics = []
        for i, group in enumerate(programs.groups):
            start = time.perf_counter()
            states[i] = jax.block_until_ready(
                programs.advance(states[i], np.int32(target - iterations))
            )
            row["seconds"] += time.perf_counter() - start
            metrics.append(jax.device_get(programs.evaluate(states[i], jax.random.clone(group))))
            fault = algos.describe_fault(states[i].learner.fault)
            if fault is not None:
                sys.exit(f"{cell}: {fault}")
        for name in ("episodic_return", "episodic_length"):
            values = np.concatenate([np.ravel(each[f"eval/{name}"]) for each in metrics])
            row[name] = np.round(values.astype(float), 2).tolist()
        iterations = target
        body["rows"].append(row)
        checkpoint.prune(saved, [checkpoint.save(saved, target, states, body)])
        print(f"{cell}: {row}", flush=True)
        write()


def result_of(cell, algorithm, programs, seeds, body) -> dict:
    """What the file of a cell holds; seconds are of training, all seeds together, without compiling
    and evaluating.
    """
    rows = body["rows"]
    name, task = CELLS[cell]
    return {
        "cell": cell,
        "algorithm": ALGORITHMS[name][0],
        "env": TASKS[task],
        "config": {key: str(value) for key, value in vars(algorithm.config).items()},
        "seeds": list(range(seeds)),
        "vmapped": VMAPPED[cell],
        "eval_episodes": EPISODES,
        "command": shlex.join(["python", "scripts/evidence/mujoco_table.py", *sys.argv[1:]]),
        "versions": runner.versions(),
        "compile_s": round(programs.compile_s, 1),
        "init_s": round(body["init_s"], 1),
        "steps": [row["steps"] for row in rows],
        "seconds": [round(row["seconds"], 1) for row in rows],
        "returns": np.transpose([row["episodic_return"] for row in rows]).tolist(),
        "lengths": np.transpose([row["episodic_length"] for row in rows]).tolist(),
    }


def times_of(cell: str, seeds: int, iterations: int) -> dict:
    """Environment steps and critic (or PPO's gradient) updates a second, of all seeds together,
    with the seeds in one program and one after the other; the better of two repeats.
    """
    name, _ = CELLS[cell]
    changes = {} if name == "ppo" else {"learning_starts": 300}
    algorithm = algorithm_of(cell, **changes)
    config = algorithm.config
    per_step = (
        config.num_minibatches * config.update_epochs
        if name == "ppo"
        else (config.rows_per_step * config.num_updates)
    )
    found = {}
    for label, vmapped in (("vmapped", True), ("in turn", False)):
        programs = programs_of(algorithm, seeds, vmapped, EPISODES)
        count = 1 if name == "ppo" else iterations
        state = jax.block_until_ready(programs.init(jax.random.clone(programs.groups[0])))
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            state = jax.block_until_ready(programs.advance(state, np.int32(count)))
            seconds.append(time.perf_counter() - start)
        # One of the seeds stands for all where they run in turn.
        rate = count * (seeds if vmapped else 1) / min(seconds)
        found[label] = {
            "steps_per_s": round(rate * algorithm.steps_per_iteration, 1),
            "updates_per_s": round(rate * per_step, 1),
            "compile_s": round(programs.compile_s, 1),
        }
    return found


def table(folder: Path) -> str:
    """Mean ± standard deviation over seeds at the marks, by task, beside what is published."""
    lines = []
    for task, env in TASKS.items():
        lines += [f"| {env} | 100k | 200k | 300k |", "|---|---|---|---|"]
        for name in ALGORITHMS:
            path = folder / f"{name}_{task}.json"
            if not path.exists():
                continue
            result = json.loads(path.read_text())
            returns, columns = np.array(result["returns"], float), []
            for mark in MARKS:
                at = mark // EVERY - 1
                known = at < len(result["steps"])
                columns.append(_cell(returns[:, at].mean(), returns[:, at].std()) if known else "")
            lines.append(f"| {name}, {len(returns)} seeds | {' | '.join(columns)} |")
        for name, published in PUBLISHED.items():
            known = published.figures[task]
            columns = [
                _cell(*known[mark // 1000]) if mark // 1000 in known else "" for mark in MARKS
            ]
            lines.append(f"| *{name}: {published.source}* | {' | '.join(columns)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(mean, spread):
    return f"{mean:.0f}" + ("" if spread is None else f" ± {spread:.0f}")


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    values = flags.FLAGS
    unknown = set(values.cells) - set(CELLS)
    if unknown:
        sys.exit(f"unknown cells {sorted(unknown)}; known: {', '.join(CELLS)}")
    if not EVERY <= values.total_steps <= MARKS[-1]:
        sys.exit(f"total_steps={values.total_steps}: must be between {EVERY} and {MARKS[-1]}")
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    run = partial(run_cell, folder=folder, saved=Path(values.runs))
    for cell in values.cells:
        if values.table:
            break
        if values.times:
            path = folder / "times.json"
            body = json.loads(path.read_text()) if path.exists() else {"cells": {}}
            body["cells"][cell] = times_of(cell, values.seeds, values.iterations)
            print(f"{cell}: {body['cells'][cell]}", flush=True)
            known = {"command": "python scripts/evidence/mujoco_table.py --times"}
            write_json(path, known | {"versions": runner.versions()} | body)
            continue
        path = folder / f"{cell}.json"
        if path.exists() and json.loads(path.read_text())["steps"][-1] >= values.total_steps:
            continue
        run(cell, values.seeds, values.total_steps)
    print(table(folder))


if __name__ == "__main__":
    flags.DEFINE_list("cells", list(CELLS), "Which cells.")
    flags.DEFINE_integer("total_steps", MARKS[-1], "Environment steps of each seed.")
    flags.DEFINE_integer("seeds", SEEDS, "How many seeds.")
    flags.DEFINE_integer("iterations", 200, "Iterations that are timed.")
    flags.DEFINE_bool("times", False, "Whether cells are timed, and not run.")
    flags.DEFINE_bool("table", False, "Whether the table is printed, and nothing run.")
    flags.DEFINE_string("runs", str(ROOT / "runs" / "mujoco"), "Folder of the checkpoints.")
    flags.DEFINE_string("out", str(ROOT / "results" / "mujoco"), "Folder of the result files.")
    app.run(main)

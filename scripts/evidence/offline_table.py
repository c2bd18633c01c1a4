"""What the offline algorithms make of five data sets of a task: normalised scores, cell by cell.

`python scripts/evidence/offline_table.py` makes the data of Pendulum, trains five vmapped seeds of
each cell, writes results/offline/CELL.json and prints the table; what exists is not run again, and
refused where it is of other numbers of seeds, steps or updates. `--env=brax/hopper` does so for
hopper, with three seeds, and files named results/offline/hopper_CELL.json.

A run of SAC with its preset, of 10,000 steps (hopper: 100,000), is cut at intervals of 250
iterations: "expert" is its end, "medium" the first cut whose deterministic return is a third of the
way from random to the best that was seen. Each policy acts for 10,000 steps as in training;
"medium_replay" is the replay at the medium cut, "medium_expert" both policies' data behind each
other, "random" uniform actions. 0 is the mean return of random actions and 100 that of the expert
without exploring.

All algorithms have the preset of the task, in which nothing is tuned for one of them.
"""

import itertools
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags
from learning_curves import measure

from onejit import algos, envs
from onejit.algos import dataset, sac
from onejit.algos.core import training
from onejit.algos.host import dataset_files, plotting, presets
from onejit.algos.host.run_folder import write_json
from onejit.algos.off_policy import replay

ROOT = Path(__file__).parents[2]
DATA = ("random", "medium_replay", "medium", "medium_expert", "expert")
ALGORITHMS = ("bc", "td3_bc", "iql", "rebrac", "prdc", "a2pr", "famo2o")
CUT = 250  # iterations of SAC
EPISODES = 64


class Task(NamedTuple):
    """What the files of an environment are called, its time limit, and sizes by default."""

    prefix: str
    limit: int
    seeds: int
    steps: int
    sac_steps: int


ENV = "gymnax/Pendulum-v1"
TASKS = {
    ENV: Task("", 200, seeds=5, steps=10_000, sac_steps=10_000),
    "brax/hopper": Task("hopper_", 1000, seeds=3, steps=10_000, sac_steps=100_000),
}


@cache
def sac_states(env_id: str, total_steps: int) -> tuple[algos.Algorithm, Any, Any]:
    """SAC, and its states at the medium cut and at the end."""
    config = sac.Config(**presets.get("sac", env_id))
    algorithm = sac.make(envs.make(env_id), config)
    init = jax.jit(algorithm.init)
    advance = jax.jit(lambda state: training.advance(algorithm, state, CUT)[0])
    evaluate = jax.jit(algos.evaluator(algorithm, num_episodes=EPISODES))
    states, returns = [init(jax.random.key(0))], []
    for _ in range(algorithm.iterations(total_steps) // CUT):
        states.append(advance(states[-1]))
        key = jax.random.key(1)
        returns.append(float(evaluate(states[-1], key)["eval/episodic_return"]))
    low = dataset.random_score(algorithm.env, jax.random.key(2), EPISODES)
    if min(max(returns), returns[-1]) <= low:
        sys.exit(f"sac_steps={total_steps}: SAC is no better than random actions by then")
    third = low + (max(returns) - low) / 3.0
    medium = next(i for i, each in enumerate(returns) if each >= third)
    return algorithm, states[1 + medium], states[-1]


def make_data(name: str, total_steps: int, steps: int, env_id: str) -> algos.Dataset:
    """One of the data sets."""
    if name == "medium_expert":
        parts = [make_data(each, total_steps, steps, env_id) for each in name.split("_")]
        return dataset.mix(*parts)
    algorithm, medium, expert = sac_states(env_id, total_steps)
    env = algorithm.env
    score = jax.jit(algos.evaluator(algorithm, num_episodes=EPISODES))(expert, jax.random.key(3))
    known = {
        "env_id": env_id,
        "env_options": getattr(env, "options", {}),
        "random_score": dataset.random_score(env, jax.random.key(2), EPISODES),
        "expert_score": float(score["eval/episodic_return"]),
    }
    taken = {"num_steps": steps, "num_envs": 10}
    key = jax.random.key(4 + DATA.index(name))
    if name == "random":
        return dataset.record_random(env, key, **taken, source="random actions", **known)
    state = expert if name == "expert" else medium
    after = algorithm.steps_after(int(state.learner.iteration))
    words = f"SAC after {after:,} steps"
    if name == "medium_replay":
        rows = replay.in_order(state.replay)
        return dataset.of_steps(rows, env, source=f"the replay of {words}", **known)
    return dataset.record(algorithm, state, key, **taken, source=words, **known)


def data_file(name: str, folder: Path, total_steps: int, steps: int, env_id: str = ENV) -> Path:
    """The file of a data set, made if there is none of these numbers of steps."""
    path = folder / f"{TASKS[env_id].prefix}{name}_{steps}_of_{total_steps}.npz"
    if not path.exists():
        dataset_files.save(path, make_data(name, total_steps, steps, env_id))
    return path


def data_of(
    name: str, folder: Path, total_steps: int, steps: int, env_id: str = ENV
) -> algos.Dataset:
    """A data set, made if need be."""
    return dataset_files.load(data_file(name, folder, total_steps, steps, env_id))


def mean_return(data: algos.Dataset) -> float:
    """Of the episodes that are whole in the data."""
    rows = data.transitions
    ends = np.flatnonzero(rows.terminated | rows.truncated)
    totals = np.diff(np.cumsum(rows.reward, dtype=np.float64)[ends], prepend=0.0)
    lengths = np.diff(ends, prepend=-1)
    return float(totals[rows.terminated[ends] | (lengths == TASKS[data.env_id].limit)].mean())


def settings(values: flags.FlagValues) -> dict[str, int | None]:
    """What a cell is made with: cells of one table have the same."""
    task = TASKS[values.env]
    given = {name: values[name].value for name in ("seeds", "steps", "sac_steps", "updates")}
    return {
        name: getattr(task, name, None) if value is None else value for name, value in given.items()
    }


def require_same_settings(path: Path, wanted: dict[str, int | None]) -> None:
    """Exits in a sentence if a cell is there and was made with other settings."""
    found = json.loads(path.read_text()).get("settings", {}) if path.exists() else wanted
    for name, value in wanted.items():
        if found.get(name) != value:
            sys.exit(f"{path}: is of {name}={found.get(name)}, not {value}: name another --out")


def run_cell(name: str, data: algos.Dataset, seeds: int, updates: int | None) -> dict:
    """Trains all seeds on a data set and returns what the result file holds."""
    module = getattr(algos, name)
    changes = {} if updates is None else {"total_steps": updates}
    config = module.Config(**presets.get(name, data.env_id) | changes)
    algorithm = module.make(envs.make(data.env_id), config, data=data)
    measured = measure(algorithm, seeds, vmapped=True, eval_episodes=EPISODES // 2, rows=10)
    about = {"source": data.source, "transitions": len(data), "scores": data.scores}
    about |= {"mean_return": mean_return(data), "checksum": data.checksum}
    return {"algorithm": name, "env": data.env_id, "data": about, **measured}


def score_of(result: dict) -> np.ndarray:
    """The normalised scores of the last evaluation, `[seeds]`."""
    low, high = result["data"]["scores"]
    return 100.0 * (np.array(result["returns"], float)[:, -1] - low) / (high - low)


def table(paths: dict[tuple[str, str], Path]) -> list[str]:
    """The lines of the table, of the cells of (algorithm, data) that have been run."""
    names = list(dict.fromkeys(name for name, _ in paths))
    lines = [f"| data | its own | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for each in dict.fromkeys(each for _, each in paths):
        cells = {name: paths[name, each] for name in names}
        found = {n: json.loads(p.read_text()) for n, p in cells.items() if p.exists()}
        if not found:
            continue
        about = next(iter(found.values()))["data"]
        own = score_of({"data": about, "returns": [[about["mean_return"]]]})[0]
        columns = []
        for name in names:
            if name not in found:
                columns.append("not run")
                continue
            scores = score_of(found[name])
            low, high = plotting.interval_of_mean(scores[None])
            columns.append(f"{scores.mean():.1f} ({low[0]:.1f} to {high[0]:.1f})")
        lines.append(f"| {each} | {own:.1f} | {' | '.join(columns)} |")
    return lines


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    values = flags.FLAGS
    unknown = {*values.data, *values.algorithms} - {*DATA, *ALGORITHMS}
    if unknown:
        sys.exit(f"{min(unknown)} is none of {', '.join((*DATA, *ALGORITHMS))}")
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    cells = itertools.product(values.algorithms, values.data)
    prefix, wanted = TASKS[values.env].prefix, settings(values)
    paths = {(name, each): folder / f"{prefix}{name}_{each}.json" for name, each in cells}
    for path in paths.values():
        require_same_settings(path, wanted)
    for (name, each), path in paths.items():
        if not path.exists():
            steps = wanted["sac_steps"], wanted["steps"]
            data = data_of(each, Path(values.files), *steps, values.env)
            cell = run_cell(name, data, wanted["seeds"], wanted["updates"])
            write_json(path, cell | {"settings": wanted})
            print(f"{path.name}: {score_of(json.loads(path.read_text())).mean():.1f}", flush=True)
    print("\n".join(table(paths)))


if __name__ == "__main__":
    flags.DEFINE_enum("env", ENV, list(TASKS), "Which environment.")
    flags.DEFINE_list("data", list(DATA), "Which data sets.")
    flags.DEFINE_list("algorithms", list(ALGORITHMS), "Which algorithms.")
    flags.DEFINE_integer("seeds", None, "How many seeds; by default what the task has, as below.")
    flags.DEFINE_integer("steps", None, "Environment steps of each policy.")
    flags.DEFINE_integer("sac_steps", None, "Environment steps of SAC.")
    flags.DEFINE_integer("updates", None, "Updates of each cell, for a try.")
    flags.DEFINE_string("files", str(ROOT / "runs" / "offline_data"), "Folder of the data.")
    flags.DEFINE_string("out", str(ROOT / "results" / "offline"), "Folder of the result files.")
    app.run(main)

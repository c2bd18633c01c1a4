"""What networks that remember can do that others cannot: tasks in which what is seen is not enough.

`python scripts/evidence/compare_memory.py` trains five vmapped seeds of each cell (a task and a
variant of an algorithm) and writes results/memory/CELL.json; what exists is not run again. From all
files it draws results/memory.png, return against steps, and prints a table. `--tasks=recall_16
--seeds=3` runs a part.

The tasks: `probe/recall` asks for an observation seen 1, 4 and 16 steps before, which no policy
without a memory answers better than by chance; bsuite's memory chain (gymnax's version) asks for a
bit that was shown first; and CartPole and Pendulum are shown without their velocities, beside
themselves as they are. Settings were tuned in none of the memoryless cells to their harm: both
kinds have the same but for the cell.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags
from learning_curves import measure, plot

from onejit import algos, envs
from onejit.algos.host import plotting
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"


class Task(NamedTuple):
    """An environment, with what is shown of it, and what it is called."""

    title: str
    env: str
    options: dict[str, Any] = {}
    entries: tuple[int, ...] = ()


class Variant(NamedTuple):
    """An algorithm and what its Config has beside the defaults."""

    algorithm: str
    changes: dict[str, Any]
    seen: bool = False  # whether all is shown
    written: int = 0  # numbers that are remembered by being an action, see `envs.Stateful`


_PPO = {"learning_rate": 1e-3, "num_envs": 32, "num_steps": 64, "ent_coef": 0.01}
_LONG = {"num_envs": 64, "num_steps": 64, "learning_rate": 1e-3, "reward_scale": 0.1}
_SAC = {
    "num_envs": 4,
    "learning_rate": 1e-3,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
    "batch_size": 512,
    "reward_scale": 0.1,  # a cell puts out at most 1, far below returns of -1,500
    "total_steps": 80_000,
}
_CELL = {"memory_size": 64}


def _chance(steps: int) -> dict[str, Variant]:
    changes = _PPO | {"total_steps": steps}
    return {
        "ppo": Variant("ppo", changes),
        "ppo_gru": Variant("ppo", changes | _CELL | {"memory": "gru"}),
        "ppo_lstm": Variant("ppo", changes | _CELL | {"memory": "lstm"}),
        "ppo_written": Variant("ppo", changes, written=8),
    }


_CARTPOLE = _LONG | {"total_steps": 1_000_000}
_WINDOWS = {"memory": "gru", "sequence_length": 16, "burn_in": 4} | _CELL
CASES = {
    "recall_1": (Task("a bit 1 step ago", "probe/recall", {"steps": 1}), _chance(100_000)),
    "recall_4": (Task("a bit 4 steps ago", "probe/recall", {"steps": 4}), _chance(200_000)),
    "recall_16": (Task("a bit 16 steps ago", "probe/recall", {"steps": 16}), _chance(500_000)),
    "memory_chain": (
        Task("MemoryChain-bsuite", "gymnax/MemoryChain-bsuite"),
        _chance(200_000),
    ),
    "cartpole": (
        Task("CartPole without velocities", "gymnax/CartPole-v1", entries=(0, 2)),
        {
            "ppo": Variant("ppo", _CARTPOLE),
            "ppo_gru": Variant("ppo", _CARTPOLE | _CELL | {"memory": "gru"}),
            "ppo_lstm": Variant("ppo", _CARTPOLE | _CELL | {"memory": "lstm"}),
            "ppo_written": Variant("ppo", _CARTPOLE, written=8),
            "ppo_seen": Variant("ppo", _CARTPOLE, seen=True),
        },
    ),
    "pendulum": (
        Task("Pendulum without velocity", "gymnax/Pendulum-v1", entries=(0, 1)),
        {
            "sac": Variant("sac", _SAC),
            "sac_gru": Variant("sac", _SAC | _WINDOWS),
            "sac_seen": Variant("sac", _SAC, seen=True),
        },
    ),
}
SUFFIXES = {"gru": "GRU", "lstm": "LSTM", "written": "written memory", "seen": "all shown"}


def make_env(task: Task, variant: Variant) -> envs.Environment:
    """The environment of a task, all of it shown or not, perhaps with a memory to be written."""
    env = envs.make(task.env, **task.options)
    if task.entries and not variant.seen:
        env = envs.PartialObservations(env, task.entries)
    return envs.Stateful(env, variant.written) if variant.written else env


def run_cell(name: str, variant_name: str, seeds: int, total_steps: int | None = None) -> dict:
    """Trains all seeds of a cell and returns what the result file holds."""
    task, variants = CASES[name]
    variant = variants[variant_name]
    module = getattr(algos, variant.algorithm)
    changes = variant.changes | ({"total_steps": total_steps} if total_steps else {})
    algorithm = module.make(make_env(task, variant), module.Config(**changes))
    return {
        "task": name,
        "variant": variant_name,
        "title": task.title,
        **measure(algorithm, seeds, vmapped=True, eval_episodes=32),
    }


def label(variant: str) -> str:
    """A variant's name in figures."""
    algorithm, *suffix = variant.split("_")
    return " ".join([algorithm.upper(), *(SUFFIXES[each] for each in suffix)])


def draw(results: list[dict], path: Path) -> None:
    """A panel for each task: return of evaluations against steps, mean over seeds with a 95 %
    interval and every seed as a thin line.
    """
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(result["title"] for result in results))
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.3 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in panels[len(titles) :]:
        axes.set_axis_off()
    for axes, title in zip(panels, titles, strict=False):
        for i, result in enumerate(result for result in results if result["title"] == title):
            returns = np.array(result["returns"]).T
            plot(axes, np.array(result["steps"]), returns, f"C{i}", label(result["variant"]))
            if result["variant"].endswith("lstm"):  # both cells may be at the top
                axes.lines[-1].set_linestyle("--")
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="environment steps", ylabel="return")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(3, 3), useMathText=True)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
        axes.legend(loc="best", frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def table(results: list[dict]) -> str:
    """Returns of the last evaluation: the mean over seeds with a 95 % interval, and each seed."""
    lines = ["| task | variant | steps | return | each seed |", "|---|---|---|---|---|"]
    for result in results:
        final = np.array(result["final_returns"])
        low, high = plotting.interval_of_mean(final[None])
        each = ", ".join(f"{x:.4g}" for x in final)
        lines.append(
            f"| {result['title']} | {label(result['variant'])} | {result['total_steps']:,} |"
            f" {final.mean():.4g} ({low[0]:.4g} to {high[0]:.4g}) | {each} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    unknown = set(flags.FLAGS.tasks) - set(CASES)
    if unknown:
        sys.exit(f"unknown tasks {sorted(unknown)}; known: {', '.join(CASES)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in flags.FLAGS.tasks:
        for variant in flags.FLAGS.variants or CASES[name][1]:
            path = folder / f"{name}_{variant}.json"
            if not path.exists():
                result = run_cell(name, variant, flags.FLAGS.seeds, flags.FLAGS.total_steps)
                write_json(path, result)
                print(f"{path.stem}: {np.array(result['returns'])[:, -1]}", flush=True)
    paths = [folder / f"{name}_{variant}.json" for name in CASES for variant in CASES[name][1]]
    results = [json.loads(path.read_text()) for path in paths if path.exists()]
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("tasks", list(CASES), "Which tasks to run.")
    flags.DEFINE_list("variants", [], "Which variants to run; all by default.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("total_steps", None, "Environment steps; by default each task's own.")
    flags.DEFINE_string(
        "out", str(RESULTS / "memory"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

"""StaQ with a short, a medium and a long memory beside PPO: does the return of a run oscillate?

`python scripts/evidence/compare_staq.py` trains five seeds of each on CartPole-v1 for 300k steps,
evaluates the greedy policy some seventy times a run and writes results/staq/NAME.json; what exists
is not run again. From all files it draws results/staq.png and prints a table. The oscillation of a
run is the mean absolute difference of the returns of consecutive evaluations in its second half.
Both algorithms run with their presets, PPO's annealing ends at 300k steps.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags
from learning_curves import iqm, measure

from onejit import algos, envs
from onejit.algos.host import presets
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
ENV = "gymnax/CartPole-v1"
VARIANTS = {
    "StaQ, M = 1": ("staq", {"memory": 1}),
    "StaQ, M = 30": ("staq", {"memory": 30}),
    "StaQ, M = 300": ("staq", {"memory": 300}),
    "PPO": ("ppo", {}),
}


def run(title: str, seeds: int, total_steps: int, rows: int) -> dict:
    """Trains all seeds of a variant and returns what the result file holds."""
    name, changes = VARIANTS[title]
    module = getattr(algos, name)
    config = module.Config(**presets.get(name, ENV) | changes | {"total_steps": total_steps})
    algorithm = module.make(envs.make(ENV), config)
    measured = measure(algorithm, seeds, vmapped=False, eval_episodes=16, rows=rows)
    return {"title": title, "env": ENV, "algorithm": name, **measured}


def oscillation(result: dict) -> np.ndarray:
    """For each seed, the mean absolute difference of consecutive returns in the second half of the
    run.
    """
    returns = np.array(result["returns"])
    return np.abs(np.diff(returns[:, returns.shape[1] // 2 :], axis=1)).mean(axis=1)


def draw(results: list[dict], path: Path) -> None:
    """A panel for each variant, every seed a line; and the oscillation of every run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 2.9), layout="constrained")
    panels = figure.subplots(1, len(results) + 1)
    for i, (axes, result) in enumerate(zip(panels, results, strict=False)):
        axes.plot(
            result["steps"], np.array(result["returns"]).T, color=f"C{i}", alpha=0.6, linewidth=0.9
        )
        axes.set(title=result["title"], xlabel="environment steps", ylim=(0, 520))
        axes.locator_params(axis="x", nbins=4)
        panels[-1].plot(
            np.full(len(result["seeds"]), i), oscillation(result), "o", color=f"C{i}", alpha=0.6
        )
    panels[0].set_ylabel("return of the greedy policy")
    panels[-1].set(title="oscillation", xticks=range(len(results)))
    panels[-1].set_xticklabels([result["title"].removeprefix("StaQ, ") for result in results])
    for axes in panels:
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)


def table(results: list[dict]) -> str:
    """Returns and oscillation, over seeds."""
    lines = [
        (
            "| | IQM of the return at the end | lowest seed there | mean in the second half |"
            " oscillation, mean (range) |"
        ),
        "|---|---|---|---|---|",
    ]
    for result in results:
        returns = np.array(result["returns"])
        each = oscillation(result)
        half = returns[:, returns.shape[1] // 2 :]
        lines.append(
            f"| {result['title']} | {iqm(returns[:, -1]):.1f} | {returns[:, -1].min():.1f} |"
            f" {half.mean():.1f} | {each.mean():.1f} ({each.min():.1f} to {each.max():.1f}) |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for title in VARIANTS:
        path = folder / f"{title.lower().replace(', m = ', '_')}.json"
        if not path.exists():
            write_json(
                path, run(title, flags.FLAGS.seeds, flags.FLAGS.total_steps, flags.FLAGS.rows)
            )
            print(f"{path.stem}: written", flush=True)
        results.append(json.loads(path.read_text()))
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("total_steps", 300_000, "Environment steps of each.")
    flags.DEFINE_integer("rows", 60, "Evaluations in a run, at least.")
    flags.DEFINE_string(
        "out", str(RESULTS / "staq"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

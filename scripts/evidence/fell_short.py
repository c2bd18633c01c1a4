"""Why was a return lower than it should be? One experiment a cell, one small file each.

`python scripts/evidence/fell_short.py` trains five seeds of each cell side by side and writes
results/fell_short/CELL.json; what exists is not run again. From the files it prints a table.
`--cells=swingup_sac_held` runs that one.

* swingup_*: MuJoCo Playground's CartpoleSwingup, which takes a hundred decisions a second: PPO with
  its preset, whose γ, λ and rollouts reach far; as for CartpoleBalance, where they do not; with γ
  alone reaching far, and rollouts alone; and with none, but each action held for four steps, which
  makes all of them reach as far in time. SAC with its actions held too.
"""

import json
from pathlib import Path

from absl import app, flags
from learning_curves import Case, run_case

from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results" / "fell_short"


def _swingup(algorithm: str, title: str, *, held: int = 1, **changes) -> Case:
    return Case(
        algorithm,
        "playground/CartpoleSwingup",
        title,
        seeds=5,
        env_options={"action_repeat": held},
        changes=changes,
    )


_NEAR = {"gamma": 0.99, "gae_lambda": 0.95, "num_steps": 64}  # as for CartpoleBalance
CELLS = {
    "swingup_ppo_far": _swingup("ppo", "PPO, its preset: γ = 0.9975, λ = 0.987, rollouts of 256"),
    "swingup_ppo": _swingup(
        "ppo", "PPO, γ = 0.99, λ = 0.95, rollouts of 64", **_NEAR, total_steps=2_000_000
    ),
    "swingup_ppo_gamma": _swingup(
        "ppo", "as the second, γ = 0.9975", **_NEAR | {"gamma": 0.9975}, total_steps=2_000_000
    ),
    "swingup_ppo_rollouts": _swingup(
        "ppo", "as the second, rollouts of 256", **_NEAR | {"num_steps": 256}, total_steps=2_000_000
    ),
    "swingup_ppo_held": _swingup(
        "ppo", "as the second, each action for four steps", held=4, **_NEAR, total_steps=500_000
    ),
    "swingup_sac_held": _swingup("sac", "SAC, its preset, each action for four steps", held=4),
}


def table(results: list[dict]) -> str:
    """IQM of the seeds' returns at the end, and their range."""
    lines = ["| | decisions | IQM of the return | lowest seed | highest |", "|---|---|---|---|---|"]
    for result in results:
        final = result["final_returns"]
        lines.append(
            f"| {result['title']} | {result['total_steps']:,} | {result['final_iqm']:.0f} |"
            f" {min(final):.0f} | {max(final):.0f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in flags.FLAGS.cells:
        case, path = CELLS[name], folder / f"{name}.json"
        if path.exists():
            continue
        if flags.FLAGS.total_steps:
            case = case._replace(changes=case.changes | {"total_steps": flags.FLAGS.total_steps})
        write_json(path, run_case(case))
        print(f"{name}: written", flush=True)
    files = [folder / f"{name}.json" for name in CELLS]
    print(table([json.loads(path.read_text()) for path in files if path.exists()]))


if __name__ == "__main__":
    flags.DEFINE_multi_enum("cells", list(CELLS), list(CELLS), "Which cells to run.")
    flags.DEFINE_integer("total_steps", None, "Decisions of each, in place of the cell's own.")
    flags.DEFINE_string("out", str(RESULTS), "Folder of the result files.")
    app.run(main)

"""EXPO beside SAC with the same data (RLPD): does an edited clone learn from fewer steps?

`python scripts/evidence/compare_expo.py` makes the data of `offline_table.py` that SAC's medium
policy takes, trains three vmapped seeds of each cell on Pendulum for 3,000 steps, and writes
results/expo/CELL.json; what exists is not run again. From the files it prints the mean return of
all evaluations and of the last, with 95 % intervals over seeds. `--cells=sac` runs those named.

  sac     half of each minibatch is data
  expo    the same, with four samples of the base and four edits
  clone   EXPO without edits and with one sample: what acts is the clone alone

Sizes, step size and four updates per step are the same for all; nothing is tuned.
"""

import json
import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from learning_curves import measure
from offline_table import ENV, data_of

from onejit import envs
from onejit.algos import expo, sac
from onejit.algos.host import plotting
from onejit.algos.host.run_folder import write_json

ROOT = Path(__file__).parents[2]
SIZES = {
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "buffer_size": 20_000,
    "learning_starts": 200,
    "batch_size": 64,
    "num_updates": 4,
    "policy_delay": 4,
    "layer_norm": True,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
}
CHOICE = {"num_samples": 4, "num_edits": 4, "flow_steps": 5}
CELLS = {
    "sac": (sac, {}),
    "expo": (expo, CHOICE),
    "clone": (expo, CHOICE | {"num_samples": 1, "num_edits": 0}),
}
EPISODES = 16


def run_cell(name: str, data, seeds: int, steps: int) -> dict:
    """Trains all seeds of a cell and returns what the result file holds."""
    module, changes = CELLS[name]
    config = module.Config(**SIZES | changes, total_steps=steps)
    algorithm = module.make(envs.make(ENV), config, data=data, data_share=0.5)
    measured = measure(algorithm, seeds, vmapped=True, eval_episodes=EPISODES, rows=10)
    about = {"source": data.source, "transitions": len(data), "checksum": data.checksum}
    return {"cell": name, "env": ENV, "data": about, **measured}


def table(results: list[dict]) -> str:
    """Of each cell the mean return of all evaluations, and that of the last."""
    lines = ["| | mean of the run | at its end |", "|---|---|---|"]
    for result in results:
        returns = np.array(result["returns"], float)
        ranges = []
        for each in (returns.mean(axis=1), returns[:, -1]):
            low, high = plotting.interval_of_mean(each[None])
            ranges.append(f"{each.mean():.0f} ({low[0]:.0f} to {high[0]:.0f})")
        lines.append(f"| {result['cell']} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    values = flags.FLAGS
    unknown = set(values.cells) - set(CELLS)
    if unknown:
        sys.exit(f"unknown cells {sorted(unknown)}; known: {', '.join(CELLS)}")
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in values.cells:
        path = folder / f"{name}.json"
        if not path.exists():
            data = data_of("medium", Path(values.files), values.sac_steps, values.data_steps)
            write_json(path, run_cell(name, data, values.seeds, values.steps))
        results.append(json.loads(path.read_text()))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("cells", list(CELLS), "Which cells.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.")
    flags.DEFINE_integer("steps", 3_000, "Environment steps of each cell.")
    flags.DEFINE_integer("data_steps", 10_000, "Environment steps of the data.")
    flags.DEFINE_integer("sac_steps", 10_000, "Environment steps of the SAC that takes the data.")
    flags.DEFINE_string("files", str(ROOT / "runs" / "offline_data"), "Folder of the data.")
    flags.DEFINE_string("out", str(ROOT / "results" / "expo"), "Folder of the result files.")
    app.run(main)

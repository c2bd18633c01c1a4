"""TD3+BC and IQL beside two peers, JAX-CORL and unifloral, on the same data: `python
scripts/evidence/bench_offline.py`, one JSON line per run.

The data are the "medium_expert" of `offline_table.py`, made if need be. Sides alternate, and each
run is a process of its own, `bench_offline_run.py`, in this environment: jax, flax and optax are
the same for all. Run it with nothing else running. The peers' code is that of git checkouts, which
are cloned unless --corl and --unifloral name theirs. Lines also go to results/offline_peers.jsonl;
a table of medians, and of mean scores with 95 % intervals over seeds, is printed at the end.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
from absl import app, flags
from bench_peers import timed
from offline_table import data_file

from onejit.algos.host import plotting

ROOT = Path(__file__).parents[2]
ALGORITHMS = ("td3_bc", "iql")
PEERS = {
    "corl": (
        "https://github.com/nissymori/JAX-CORL",
        "d747dd8ad4fcc088ff9f1ade49a6be43a60f6556",
    ),
    "unifloral": (
        "https://github.com/EmptyJackson/unifloral",
        "f2dc1278eae18ed3e22c92255119c54885414d17",
    ),
}


def checkout(peer: str) -> Path:
    """The folder of a peer's code, which is cloned if need be."""
    if flags.FLAGS[peer].value:
        return Path(flags.FLAGS[peer].value)
    folder, (url, commit) = ROOT / "runs" / "peers" / peer, PEERS[peer]
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", url, folder], check=True)
        subprocess.run(["git", "-C", folder, "checkout", "--quiet", commit], check=True)
    return folder


def table(lines: list[dict]) -> list[str]:
    """The lines of the table, a row for each algorithm and side."""
    found = ["| | | updates/s | compile s | score |", "|---|---|---|---|---|"]
    for name, side in dict.fromkeys((line["algorithm"], line["peer"]) for line in lines):
        rows = [line for line in lines if (line["algorithm"], line["peer"]) == (name, side)]
        speed = median(row["updates_per_s"] for row in rows)
        compiling = median(row["compile_s"] for row in rows)
        scores = np.array([row["normalized_score"] for row in rows])
        low, high = plotting.interval_of_mean(scores[None])
        score = f"{scores.mean():.1f} ({low[0]:.1f} to {high[0]:.1f})"
        found.append(f"| {name} | {side} | {speed:,.0f} | {compiling:.1f} | {score} |")
    return found


def main(argv: list[str]) -> None:
    """Alternates the sides and prints a line for each run."""
    del argv
    values = flags.FLAGS
    if values.updates % 200:
        sys.exit(f"updates={values.updates}: must be a multiple of 200, of what each side compiles")
    data = values.data or data_file(
        "medium_expert", Path(values.files), values.sac_steps, values.steps
    )
    folders = {peer: checkout(peer) for peer in values.peers if peer in PEERS}
    script = Path(__file__).with_name("bench_offline_run.py")
    lines = []
    for seed in range(values.repeats):
        for algorithm in values.algorithms:
            for peer in values.peers:
                about = [peer, algorithm, str(seed), str(values.updates), data]
                command = [sys.executable, script, *about, folders.get(peer, "")]
                line = timed(command)
                if line is None:
                    sys.exit(f"{peer}, {algorithm}, seed {seed}: nothing within --timeout seconds")
                lines.append(line)
                print(json.dumps(lines[-1]), flush=True)
                with Path(values.out).open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print("\n".join(table(lines)))


if __name__ == "__main__":
    flags.DEFINE_multi_enum("algorithms", list(ALGORITHMS), list(ALGORITHMS), "Which algorithms.")
    flags.DEFINE_multi_enum(
        "peers",
        ["onejit", *PEERS],
        ["onejit", *PEERS],
        "Which sides to run, in this order.",
    )
    for name in PEERS:
        flags.DEFINE_string(name, None, f"Folder of a checkout of {name}.")
    flags.DEFINE_integer("timeout", 900, "Seconds after which a run is killed.")
    flags.DEFINE_integer("repeats", 3, "Runs of each algorithm and side, a seed each.")
    flags.DEFINE_integer("updates", 5_000, "Critic updates of a run.")
    flags.DEFINE_string("data", None, "File of other data of Pendulum.")
    flags.DEFINE_integer("steps", 10_000, "Environment steps of each policy in the data.")
    flags.DEFINE_integer("sac_steps", 10_000, "Environment steps of SAC.")
    flags.DEFINE_string("files", str(ROOT / "runs" / "offline_data"), "Folder of the data.")
    flags.DEFINE_string("out", str(ROOT / "results" / "offline_peers.jsonl"), "Where lines go.")
    app.run(main)

"""Training speed beside peers: `python scripts/evidence/bench_peers.py --cases=ppo_cartpole`, one
JSON line per run.

Builds rejax 0.1.3 a virtual environment of its own (.venv-rejax; it needs gymnax 0.0.9, current
gymnax breaks it), then alternates cases and sides, each run a process of its own, so that all meet
the same machine. Run it with nothing else running. purejaxrl runs in that same environment from a
git checkout, which is cloned unless --purejaxrl names one. Lines also go to results/peers.jsonl; a
table of medians is printed at the end.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from statistics import median

from absl import app, flags

ROOT = Path(__file__).parents[2]
REJAX = ("rejax==0.1.3", "gymnax==0.0.9", "six", "brax==0.14.2", "jax==0.10.2")
PUREJAXRL = ("https://github.com/luchris429/purejaxrl", "31756b197773a52db763fdbe6d635e4b46522a73")
PUREJAXRL_CASES = ("ppo_cartpole", "ppo_halfcheetah")
CASES = (
    "ppo_cartpole",
    "ppo_pendulum",
    "ppo_halfcheetah",
    "ppo_halfcheetah_bank",
    "ppo_cartpole_16_seeds",
    "td3_pendulum",
    "sac_pendulum",
    "td3_pendulum_buffer_1e4",
    "td3_pendulum_buffer_1e6",
    "td3_pendulum_128_envs",
)


def rejax_python() -> Path:
    """The Python of rejax's environment, which is made if need be."""
    folder = ROOT / ".venv-rejax"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REJAX], check=True)
        (folder / ".installed").touch()
    return python


def purejaxrl_checkout() -> Path:
    """The folder of purejaxrl's code, which is cloned if need be."""
    if flags.FLAGS.purejaxrl:
        return Path(flags.FLAGS.purejaxrl)
    folder, (url, commit) = ROOT / ".venv-rejax" / "purejaxrl", PUREJAXRL
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", url, folder], check=True)
        subprocess.run(["git", "-C", folder, "checkout", "--quiet", commit], check=True)
    return folder


def timed(command: list) -> dict:
    """Runs a benchmark without a compilation cache and returns its line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=environment
    ).stdout
    return json.loads(output.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Alternates the two sides and prints a line for each run."""
    del argv
    out = Path(flags.FLAGS.out)
    lines = []
    peers = flags.FLAGS.peers
    scripts = ROOT / "scripts"
    python = rejax_python() if set(peers) != {"onejit"} else None
    checkout = purejaxrl_checkout() if "purejaxrl" in peers else None
    for seed in range(flags.FLAGS.repeats):
        for case in flags.FLAGS.cases:
            commands = {
                "onejit": [
                    sys.executable,
                    scripts / "bench_train.py",
                    f"--cases={case}",
                    f"--seed={seed}",
                ],
                "rejax": [python, scripts / "bench_rejax.py", case, str(seed)],
                "purejaxrl": [python, scripts / "bench_purejaxrl.py", case, str(seed), checkout],
            }
            for peer in peers:
                if peer == "purejaxrl" and case not in PUREJAXRL_CASES:
                    continue
                lines.append(timed(commands[peer]))
                print(json.dumps(lines[-1]), flush=True)
                with out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print(
        f"{'case':24}{'peer':10}{'steps/s':>10}{'run s':>8}{'cpu s':>8}{'compile s':>11}"
        f"{'return':>9}   (medians)"
    )
    for case in flags.FLAGS.cases:
        for peer in peers:
            rows = [line for line in lines if (line["case"], line["peer"]) == (case, peer)]
            if not rows:
                continue
            keys = ("steps_per_s", "run_s", "cpu_s", "compile_s", "final_return")
            speed, run, cpu, compiling, score = (median(row[key] for row in rows) for key in keys)
            print(
                f"{case:24}{peer:10}{speed:>10,.0f}{run:>8.2f}{cpu:>8.2f}{compiling:>11.1f}{score:>9.1f}"
            )


if __name__ == "__main__":
    flags.DEFINE_list("cases", list(CASES), "Which cases to run.")
    flags.DEFINE_multi_enum(
        "peers",
        ["onejit", "rejax"],
        ["onejit", "rejax", "purejaxrl"],
        "Which sides to run, in this order.",
    )
    flags.DEFINE_string("purejaxrl", None, "Folder of a checkout of purejaxrl.")
    flags.DEFINE_integer("repeats", 5, "Runs of each case and side.")
    flags.DEFINE_string("out", str(ROOT / "results" / "peers.jsonl"), "Where lines are added.")
    app.run(main)

"""Two checkouts of onejit, timed in turns: `python scripts/evidence/compare_checkouts.py OTHER`.

OTHER is the folder of another checkout, before a change, say; this one is "here". Each run is a
process of its own with the Python of this one, and the two sides alternate, so that both see the
same moods of the machine. Lines are appended to results/checkouts.jsonl, with the keys of
bench_train.py and "side"; the table of medians is printed. Runs that are in the file with the same
commit of each side are not made again.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

ROOT = Path(__file__).parents[2]
CASES = {"ppo_cartpole": 3, "td3_pendulum": 2, "sac_pendulum": 2}  # and how often each is run
MEASURES = ("compile_s", "run_s", "cpu_s", "steps_per_s", "final_return")


def commit_of(root: Path) -> str:
    """The commit that a checkout stands at."""
    command = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def run(root: Path, case: str, seed: int) -> dict:
    """One line of bench_train.py of a checkout."""
    scripts = (
        root / "scripts" / "evidence" / "bench_train.py",
        root / "scripts" / "bench_train.py",
    )
    script = next(each for each in scripts if each.is_file())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "onejit").symlink_to(root.resolve())
        command = [sys.executable, script, f"--cases={case}", f"--seed={seed}"]
        environment = os.environ | {"PYTHONPATH": folder}
        result = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment, cwd=folder
        )
    return json.loads(result.stdout)


def table(lines: list[dict]) -> str:
    """The medians of both sides, and here over there."""
    rows = ["| case | measure | there | here | here / there |", "|---|---|---|---|---|"]
    for case in dict.fromkeys(line["case"] for line in lines):
        for measure in MEASURES:
            there, here = (
                statistics.median(
                    line[measure] for line in lines if (line["case"], line["side"]) == (case, side)
                )
                for side in ("there", "here")
            )
            rows.append(f"| {case} | {measure} | {there:g} | {here:g} | {here / there:.3f} |")
    return "\n".join(rows)


def main(argv: list[str]) -> None:
    """Runs what is missing, and prints the table."""
    if len(argv) != 2 or not (Path(argv[1]) / "setup.cfg").is_file():
        sys.exit("give the folder of another checkout")
    sides = {"there": Path(argv[1]), "here": ROOT}
    commits = {side: commit_of(root) for side, root in sides.items()}
    path = Path(flags.FLAGS.out)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    lines = [line for line in known if line["commits"] == commits]
    done = {(line["case"], line["seed"], line["side"]) for line in lines}
    for case, repeats in CASES.items():
        for seed in range(repeats):
            for side, root in sides.items():
                if (case, seed, side) not in done:
                    line = {"side": side, "commits": commits, **run(root, case, seed)}
                    lines.append(line)
                    with path.open("a") as file:
                        file.write(json.dumps(line) + "\n")
    print(table(lines))


if __name__ == "__main__":
    flags.DEFINE_string("out", str(ROOT / "results" / "checkouts.jsonl"), "The file of lines.")
    app.run(main)

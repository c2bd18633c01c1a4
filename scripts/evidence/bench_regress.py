"""Two commits of onejit, timed in turns: `python scripts/evidence/bench_regress.py BEFORE [AFTER]`.

Says which cases of bench_train.py have become slower beyond noise, and then ends with 1. AFTER is
HEAD by default; what is not committed is not timed. Each run is a process of its own with the
Python of this one and each commit's own bench_train.py, compiles all anew, and has a neighbour of
the other side with the same seed; who comes first changes from pair to pair, so that both sides see
the same moods of the machine. Lines are appended to results/regress.jsonl: the keys of
bench_train.py, `side`, `commits` and `command`. What is in the file already is not run again.

Of each case and measure the mean log-ratio of the pairs is judged by Student's t-interval. All
intervals of a table hold together with 95 % (Bonferroni); they are wide on a busy machine and with
few pairs, and what they do not exclude has not been shown. Run it with nothing else running.
"""

import io
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from absl import app, flags
from scipy import stats

ROOT = Path(__file__).parents[2]
SIDES = ("before", "after")
MEASURES = ("compile_s", "run_s", "cpu_s")  # less is better
CASES = ("ppo_cartpole", "ppo_cartpole_16_seeds", "ppo_pendulum", "td3_pendulum", "sac_pendulum")
LEVEL = 0.05  # the chance of a false verdict in a table of equals


class Change(NamedTuple):
    """A measure of a case after, over before.

    Attributes:
      ratio: the geometric mean of the pairs' ratios.
      low: lower end of its interval.
      high: upper end.
    """

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What is shown: slower, faster, or neither."""
        if self.low > 1.0:
            return "slower"
        return "faster" if self.high < 1.0 else "within noise"


def change(before: list[float], after: list[float], level: float) -> Change:
    """The interval of the ratio of pairs, which misses the true one with probability `level`.

    Args:
      before: seconds, at least two.
      after: seconds of their neighbours.
      level: in (0, 1).
    """
    logs = [math.log(y / x) for x, y in zip(before, after, strict=True)]
    mean = statistics.fmean(logs)
    quantile = float(stats.t.ppf(1.0 - level / 2.0, len(logs) - 1))
    half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return Change(*(math.exp(x) for x in (mean, mean - half, mean + half)))


def changes(lines: list[dict]) -> dict[tuple[str, str], Change]:
    """Of each case and measure, over the seeds that both sides have."""
    pairs = {}
    for case in dict.fromkeys(line["case"] for line in lines):
        runs = {
            side: {
                line["seed"]: line for line in lines if (line["case"], line["side"]) == (case, side)
            }
            for side in SIDES
        }
        seeds = sorted(runs["before"].keys() & runs["after"].keys())
        if len(seeds) > 1:
            for measure in MEASURES:
                pairs[case, measure] = [
                    [runs[side][seed][measure] for seed in seeds] for side in SIDES
                ]
    return {key: change(*values, LEVEL / len(pairs)) for key, values in pairs.items()}


def table(lines: list[dict]) -> str:
    """Medians of both sides, and the verdicts."""
    rows = [
        "| case | measure | before | after | after / before | interval | |",
        "|---|---|---|---|---|---|---|",
    ]
    for (case, measure), found in changes(lines).items():
        medians = (
            statistics.median(
                line[measure] for line in lines if (line["case"], line["side"]) == (case, side)
            )
            for side in SIDES
        )
        cells = [case, measure, *(f"{median:g}" for median in medians), f"{found.ratio:.3f}"]
        cells += [f"{found.low:.3f} to {found.high:.3f}", found.verdict]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def commit_of(repository: Path, revision: str) -> str:
    """The short name of the commit that a revision names."""
    command = [
        "git",
        "-C",
        repository,
        "rev-parse",
        "--short",
        "--verify",
        f"{revision}^{{commit}}",
    ]
    result = subprocess.run(command, check=False, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"{revision}: is no commit of {repository.name}")
    return result.stdout.strip()


def unpack(repository: Path, commit: str, folder: Path) -> None:
    """Writes the files of a commit into a folder."""
    command = ["git", "-C", repository, "archive", "--format=tar", commit]
    archive = subprocess.run(command, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as file:
        file.extractall(folder, filter="data")


def run(checkout: Path, case: str, seed: int) -> dict:
    """One line of bench_train.py of a checkout, whose folder is called onejit."""
    script = checkout / "scripts" / "evidence" / "bench_train.py"
    command = [sys.executable, script, f"--cases={case}", f"--seed={seed}"]
    environment = {
        name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name
    } | {"PYTHONPATH": str(checkout.parent)}
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=checkout.parent
    )
    if result.returncode:
        sys.exit(f"{case}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Runs what is missing, prints the table, and ends with 1 if something has become slower."""
    values = flags.FLAGS
    if not 2 <= len(argv) <= 3:
        sys.exit("give a commit, or two")
    repository = Path(values.repository)
    revisions = (argv[1], argv[2] if len(argv) == 3 else "HEAD")
    commits = {
        side: commit_of(repository, name) for side, name in zip(SIDES, revisions, strict=True)
    }
    path = Path(values.out)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    lines = [line for line in known if line["commits"] == commits and line["case"] in values.cases]
    done = {(line["case"], line["seed"], line["side"]) for line in lines}
    with tempfile.TemporaryDirectory() as work:
        checkouts = {side: Path(work, side, "onejit") for side in SIDES}
        for side, checkout in checkouts.items():
            checkout.mkdir(parents=True)
            unpack(repository, commits[side], checkout)
        for case in values.cases:
            for seed in range(values.repeats):
                for side in SIDES if seed % 2 == 0 else reversed(SIDES):
                    if (case, seed, side) not in done:
                        line = {"side": side, "commits": commits}
                        line |= run(checkouts[side], case, seed)
                        line["command"] = shlex.join(
                            ["python", "scripts/evidence/bench_regress.py", *commits.values()]
                        )
                        lines.append(line)
                        with path.open("a") as file:
                            file.write(json.dumps(line) + "\n")
    print(table(lines))
    slower = [
        f"{case} ({measure})"
        for (case, measure), found in changes(lines).items()
        if found.verdict == "slower"
    ]
    print(f"slower beyond noise: {', '.join(slower) or 'nothing'}")
    sys.exit(1 if slower else 0)


if __name__ == "__main__":
    flags.DEFINE_list("cases", list(CASES), "Cases of bench_train.py, known to both commits.")
    flags.DEFINE_integer("repeats", 5, "Pairs of runs of each case.", lower_bound=2)
    flags.DEFINE_string("repository", str(ROOT), "The repository that the commits are of.")
    flags.DEFINE_string("out", str(ROOT / "results" / "regress.jsonl"), "The file of lines.")
    app.run(main)

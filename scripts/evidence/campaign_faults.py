"""Tries what breaks in a user's hands: `python scripts/evidence/campaign_faults.py` fills
results/faults.jsonl.

The parts, each of which is a list of trials:

* kills: runs of PPO, SAC and StaQ that are killed at random moments and resumed; State and log must
  be complete.
* damage: every kind of file in a run folder, damaged, and then resumed: the same State, or a
  sentence.
* disk: full disks and files that may not grow; training goes on, or ends in a sentence, and can be
  resumed.
* numbers: NaN, infinities and 1e20 in rewards and observations, of every algorithm; named, and kept
  out.
* hostile: values that no flag, field, environment or network should have; refused in a sentence, or
  they work.

Keys of a line: part, trial, seed, outcome ("survived", "refused" in a sentence with the right exit
code, or "else"), code (the exit code), sentence (what was said, or what is wrong), seconds, and
what the part adds. The first line has the versions, the device and the command. Trials that have a
line are not run again; --again repeats those that were "else". The table at the end counts, and
names all that is neither. Linux; a superuser tries full disks, too.
"""

import collections
import json
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

import campaign_damage
import campaign_folders
import campaign_inputs
import jax
from absl import flags
from campaign_trial import SCRIPTS, Finding, forked, preload, scrub

from onejit.algos.host import runner

PARTS = {
    "kills": campaign_folders.kills,
    "damage": campaign_damage.damage,
    "disk": campaign_folders.disk,
    "numbers": campaign_inputs.numbers,
    "hostile": campaign_inputs.hostile,
}


def table(lines: list[dict]) -> str:
    """The counts of each part as Markdown, and below it every trial that was neither survived nor
    refused.
    """
    counts = collections.Counter((line["part"], line["outcome"]) for line in lines)
    text = [
        "| part | trials | survived | refused in a sentence | anything else |",
        "|---|---|---|---|---|",
    ]
    for part in PARTS:
        numbers = [counts[part, outcome] for outcome in ("survived", "refused", "else")]
        if sum(numbers):
            killed = sum(len(line.get("kills", [])) for line in lines if line["part"] == part)
            shown = f"{part} ({killed} of them)" if killed else part
            text.append(f"| {shown} | {sum(numbers)} | " + " | ".join(map(str, numbers)) + " |")
    for line in lines:
        if line["outcome"] == "else":
            text.append(
                f"* {line['part']}, {line['trial']} (exit {line['code']}): {line['sentence']}"
            )
    return "\n".join(text)


def _read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _header(work: Path) -> dict:
    """Versions and device, found out in a fork: this process is to start no backend."""
    versions = json.loads(
        forked(lambda: print(json.dumps(runner.versions())), work, seconds=60).out
    )
    return {
        "what": "the fault campaign",
        "command": "python scripts/evidence/campaign_faults.py",
        "versions": versions,
    }


def _matching(names: list[str], trial: str) -> bool:
    return not names or any(name in trial for name in names)


def main() -> None:
    """Runs the trials that have no line yet, and prints the table."""
    values = flags.FLAGS
    path = Path(values.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Fast to compile, and compiled once for all trials.
    os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(SCRIPTS.parent / ".jax_cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    os.environ["JAX_TRACEBACK_FILTERING"] = "off"  # so that an error is seen where it was raised
    jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_traceback_filtering", "off")
    lines = _read(path)
    if values.again:
        lines = [line for line in lines if line.get("outcome") != "else"]
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    done = {(line["part"], line["trial"]) for line in lines if "part" in line}
    with tempfile.TemporaryDirectory() as work, path.open("a") as file:
        work = Path(work)
        os.environ["MPLCONFIGDIR"] = str(work / "matplotlib")
        work.chmod(0o755)
        preload()

        def add(line):
            lines.append(line)
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()

        if not lines:
            add(_header(work))
        for part in values.parts:
            trials = [each for each in PARTS[part](work) if _matching(values.only, each.name)]
            for trial in trials[: values.limit]:
                if (part, trial.name) in done:
                    continue
                seed = zlib.crc32(f"{part} {trial.name}".encode())
                start = time.perf_counter()
                with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as folder:
                    folder = Path(folder)
                    folder.chmod(0o755)
                    finding: Finding = trial.run(folder, seed)
                sentence = scrub(finding.sentence, folder)
                line = {"part": part, "trial": trial.name, "seed": seed, "outcome": finding.outcome}
                line |= {"code": finding.code, "sentence": sentence}
                add(line | {"seconds": round(time.perf_counter() - start, 1)} | finding.more)
                print(
                    f"{part}, {trial.name}: {finding.outcome} ({finding.code}) {sentence}",
                    flush=True,
                )
    print(table([line for line in lines if "part" in line]))


if __name__ == "__main__":
    flags.DEFINE_string(
        "out", str(SCRIPTS.parent / "results" / "faults.jsonl"), "The file of results."
    )
    flags.DEFINE_multi_enum("parts", list(PARTS), list(PARTS), "Which parts; may be repeated.")
    flags.DEFINE_list("only", [], "Trials whose name contains one of these.")
    flags.DEFINE_integer("limit", None, "At most so many trials of a part.", lower_bound=1)
    flags.DEFINE_bool("again", False, "Repeat the trials that were neither survived nor refused.")
    flags.FLAGS(sys.argv)  # and not app.run, which turns on logging in all that is forked
    main()

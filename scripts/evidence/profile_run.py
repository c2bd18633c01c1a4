"""Where a training's processor time goes: `python scripts/evidence/profile_run.py`, one JSON line
per case.

Runs bench_train.py twice under a compilation cache of its own, and samples the second run, which
traces and compiles nothing anew, with Linux `perf`. Samples of the interpreter and of the compiler
do not count; of the others the line has the shares of matrix products, of packing their operands,
of kernels that XLA compiled, of the thread pool, and of what else there is. Run it with nothing
else running. Lines go to results/profile.jsonl, written anew.
"""

import collections
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

from onejit.algos.host import runner

ROOT = Path(__file__).parents[2]
BENCH = Path(__file__).with_name("bench_train.py")
REPEATS = {"ppo_cartpole": 6}
# Of a sample's program and function, the first that fits; None does not count.
KINDS = (
    ("packing operands", r"gemm_pack|pack_colmajor|pack_rowmajor"),
    ("products", r"ynn::|gebp|gemm|Contract"),
    ("the thread pool", r"ThreadPool|RunQueue|thread::|EventCount"),
    ("XLA's runtime", r"libjax|jaxlib"),
    (None, r"python|Py_|_Py"),
    ("operating system", r"kernel|vmlinux|hypercall"),
    ("copies", r"memmove|memcpy|memset"),
    ("allocation", r"alloc|free|operator new|operator delete|unlink_chunk|memalign"),
    ("compiled kernels", r"^\[unknown\] "),
    ("rest", r""),
)


def kind_of(program: str, function: str) -> str | None:
    """Which of `KINDS` a sample is."""
    text = f"{function} {program}"
    return next(kind for kind, pattern in KINDS if re.search(pattern, text))


def profile(case: str) -> dict:
    """The line of a case."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": folder,
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        command = [sys.executable, BENCH, f"--cases={case}", f"--repeats={REPEATS.get(case, 1)}"]
        quiet = {"env": environment, "check": True, "capture_output": True, "text": True}
        subprocess.run(command, **quiet)
        data = Path(folder) / "perf.data"
        record = ["perf", "record", "-q", "-F", "499", "-e", "cpu-clock", "-o", data, "--"]
        done = subprocess.run([*record, *command], **quiet)
        script = ["perf", "script", "-i", data, "-F", "ip,sym,dso", "-G"]
        samples = subprocess.run(script, **quiet).stdout.splitlines()
    counts: collections.Counter = collections.Counter()
    functions: collections.Counter = collections.Counter()
    for sample in filter(None, map(str.strip, samples)):
        _, _, rest = sample.partition(" ")
        function, _, program = rest.rstrip(")").rpartition(" (")
        kind = kind_of(program, function)
        if kind is not None:
            counts[kind] += 1
            functions[f"{kind}: {function[:60]}"] += 1
    total = sum(counts.values())
    print(*functions.most_common(25), sep="\n", file=sys.stderr)
    run = json.loads(done.stdout.splitlines()[-1])
    return {
        "what": "shares of a training's processor time",
        "case": case,
        "samples": total,
        "shares": {kind: round(count / total, 3) for kind, count in counts.most_common()},
        "steps_per_s": run["steps_per_s"],
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Prints a line for each case."""
    del argv
    with Path(flags.FLAGS.out).open("w") as file:
        for case in flags.FLAGS.cases:
            line = json.dumps(profile(case))
            print(line, flush=True)
            file.write(line + "\n")


if __name__ == "__main__":
    cases = ["ppo_cartpole", "sac_pendulum_4k"]
    flags.DEFINE_list("cases", cases, "Which cases of bench_train.py.")
    flags.DEFINE_string("out", str(ROOT / "results" / "profile.jsonl"), "The file of the lines.")
    app.run(main)

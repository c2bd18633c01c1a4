"""What the non-finite guard costs: `python scripts/evidence/bench_guard.py`, one JSON line.

Compiles the same training run with the guard and with its checks and selects taken out, and
alternates the two. Keys: what, case, guarded_s and bare_s (medians of the run), cost (their ratio −
1), repeats, versions.
"""

import json
import statistics
import time
from unittest import mock

import jax
from absl import app, flags
from bench_train import CASES

from onejit import algos, envs
from onejit.algos.core import guard
from onejit.algos.host import runner


def compiled(case):
    """The training run of a case, compiled."""
    algorithm = case.algorithm.make(
        envs.make(case.env), case.config.replace(total_steps=case.steps)
    )
    iterations = algorithm.iterations(case.steps)
    return (
        jax.jit(lambda key: algos.train(algorithm, key, num_iterations=iterations))
        .lower(jax.random.key(0))
        .compile()
    )


def main(argv: list[str]) -> None:
    """Measures and prints the line."""
    del argv
    case = CASES[flags.FLAGS.case]
    guarded = compiled(case)
    nothing = {
        "in_rollout": lambda *_: guard.init(),
        "in_reset": lambda *_: guard.init(),
        "in_update": lambda *_: guard.init(),
        "first": lambda *_: guard.init(),
        "keep": lambda condition, new, old: new,
    }
    with mock.patch.multiple(guard, **nothing):
        bare = compiled(case)
    seconds = {"guarded": [], "bare": []}
    for seed in range(flags.FLAGS.repeats):
        for name, run in (("guarded", guarded), ("bare", bare)):
            start = time.perf_counter()
            jax.block_until_ready(run(jax.random.key(seed)))
            seconds[name].append(time.perf_counter() - start)
    guarded_s, bare_s = (statistics.median(seconds[name]) for name in ("guarded", "bare"))
    line = {
        "what": "the cost of the non-finite guard",
        "case": flags.FLAGS.case,
        "guarded_s": round(guarded_s, 4),
        "bare_s": round(bare_s, 4),
        "cost": round(guarded_s / bare_s - 1.0, 4),
        "repeats": flags.FLAGS.repeats,
        "versions": runner.versions(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    flags.DEFINE_string("case", "ppo_cartpole", "A case of bench_train.py.")
    flags.DEFINE_integer("repeats", 20, "Runs of each.")
    app.run(main)

"""One whole iteration of the published recipes on a small machine: `python
scripts/evidence/dry_run.py` appends JSON lines to results/dry_run.jsonl.

A line is of an algorithm and a robot, in a process of its own. What the published hyperparameters
count in environments (minibatches, replay, steps before learning starts) shrinks with their number
to --num_envs of them; networks, updates per step and passes stay. Keys: algorithm, env, changes
(what is not as published), init_s and step_s (seconds of the initial state, prefill included, and
of the first iteration, both with compiling), again_s (seconds of the second iteration), rss_mb
(largest memory of the process, MB), losses (all finite), xla_flags (of the compiler), versions.
What is there is not run again.

    python scripts/evidence/dry_run.py --cells=fast_td3:playground/T1JoystickFlatTerrain
"""

import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from onejit import algos, envs
from onejit.algos.host import presets, runner

CELLS = [f"{name}:playground/G1JoystickFlatTerrain" for name in ("ppo", "fast_td3", "fast_sac")]
PER_ENVIRONMENT = ("batch_size", "buffer_size", "learning_starts")


def shrunk(config: Any, num_envs: int) -> dict[str, int]:
    """What changes of a Config with so many environments.

    Raises:
      ValueError: a count does not shrink to an integer.
    """
    changes = {"num_envs": num_envs}
    for name in PER_ENVIRONMENT:
        if hasattr(config, name):
            whole = getattr(config, name) * num_envs
            if whole % config.num_envs:
                raise ValueError(f"num_envs={num_envs}: {name} does not shrink to an integer")
            changes[name] = whole // config.num_envs
    return changes


def measure(name: str, env_id: str, num_envs: int) -> dict[str, Any]:
    """What the line of a cell holds; compiles and takes two iterations."""
    module = getattr(algos, name)
    config = module.Config(**presets.get(name, env_id))
    changes = shrunk(config, num_envs)
    algorithm = module.make(envs.make(env_id), config.replace(**changes))
    start = time.perf_counter()
    state = jax.block_until_ready(jax.jit(algorithm.init)(jax.random.key(0)))
    seconds = {"init_s": time.perf_counter() - start}
    step = jax.jit(algorithm.step, donate_argnums=0)
    for each in ("step_s", "again_s"):
        start = time.perf_counter()
        state, metrics = jax.block_until_ready(step(state))
        seconds[each] = time.perf_counter() - start
    losses = {each: float(value) for each, value in metrics.items() if each.startswith("losses/")}
    if not all(map(math.isfinite, losses.values())):
        raise SystemExit(f"{name} on {env_id}: {losses}")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KB on Linux
    return {
        "changes": changes,
        **{each: round(value, 3) for each, value in seconds.items()},
        "rss_mb": round(rss),
        "losses": {each: round(value, 4) for each, value in losses.items()},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Measures what is missing, or prints the line of one cell."""
    values = flags.FLAGS
    path = Path(values.out)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = [(line["algorithm"], line["env"], line["changes"]["num_envs"]) for line in lines]
    if values.here:
        [cell] = values.cells
        name, _, env_id = cell.partition(":")
        line = {"algorithm": name, "env": env_id, **measure(name, env_id, values.num_envs)}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        return
    for cell in values.cells:
        if (*cell.split(":"), values.num_envs) not in done:
            flag = [f"--num_envs={values.num_envs}", f"--out={path}", f"--cells={cell}", "--here"]
            subprocess.run([sys.executable, argv[0], *flag], check=True)


if __name__ == "__main__":
    flags.DEFINE_list("cells", CELLS, "Pairs algorithm:environment.")
    flags.DEFINE_integer("num_envs", 8, "Environments.", lower_bound=1)
    flags.DEFINE_bool("here", False, "The one cell, in this process.")
    results = Path(__file__).parents[2] / "results"
    flags.DEFINE_string("out", str(results / "dry_run.jsonl"), "The file of lines.")
    app.run(main)

"""Ten million transitions of 50 floats, written and sampled, one JSON line per case.

Run by `python scripts/evidence/bench_replay.py`.

As FastTD3 has it: 1,024 environments, minibatches of 32,768. Observations are stored in float32 or
bfloat16, actions, rewards and discounts in float32. `write_ms` is a row of all environments,
`sample_ms` a minibatch, each the median of 20 calls after the ring is full; `bytes` is the ring,
and `temporary_bytes` what compiled programs take beside their inputs and outputs. `copies` counts
the instructions of a compiled loop of writes and samples that copy or convert an array as large as
a leaf of the ring, which must be none.
Lines also go to results/replay.jsonl; run it with nothing else running.
"""

import json
import re
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from absl import app, flags

from onejit.algos.core.device_memory import tree_bytes
from onejit.algos.host import runner
from onejit.algos.off_policy import replay

ENVS, BATCH = 1024, 32_768
OBS, ACTION = 22, 4  # 2 × 22 + 4 + reward + discount = 50


def row_of(dtype: jnp.dtype) -> dict[str, jax.ShapeDtypeStruct]:
    """What a row of the ring is like."""
    shapes = {"obs": OBS, "next_obs": OBS, "action": ACTION}
    row = {
        name: jax.ShapeDtypeStruct((ENVS, size), dtype if "obs" in name else jnp.float32)
        for name, size in shapes.items()
    }
    return row | dict.fromkeys(("reward", "discount"), jax.ShapeDtypeStruct((ENVS,), jnp.float32))


def copies(program: jax.stages.Compiled, ring: replay.Replay) -> int:
    """Instructions of a program that copy or convert an array as large as a leaf of the ring."""
    shapes = {",".join(map(str, leaf.shape)) for leaf in jax.tree.leaves(ring.rows)}
    found = re.findall(r"= \w+\[([\d,]*)\]\S* (?:copy|copy-start|convert)\(", program.as_text())
    return sum(shape in shapes for shape in found)


def milliseconds(function, *inputs) -> tuple[float, object]:
    """Median of 20 calls, and what the last one returned; a first input is given back each time."""
    times = []
    for _ in range(22):
        start = time.perf_counter()
        result = jax.block_until_ready(function(*inputs))
        times.append(1e3 * (time.perf_counter() - start))
        if isinstance(result, replay.Replay):
            inputs = (result, *inputs[1:])
    return round(statistics.median(times[2:]), 3), inputs[0]


def measure(size: int, dtype: str) -> dict:
    """One case: a ring of so many transitions."""
    row = row_of(jnp.dtype(dtype))
    ring = jax.eval_shape(lambda: replay.init(row, size // ENVS))
    key = jax.eval_shape(lambda: jax.random.key(0))

    def sample(ring, key):
        return replay.take(ring.rows, *replay.sample_places(ring, key, (BATCH,)))

    def loop(ring, row, key):
        def both(ring, key):
            ring = replay.add(ring, row)
            return ring, sample(ring, key)["obs"].sum()

        return jax.lax.scan(both, ring, jax.random.split(key, 4))

    write = jax.jit(replay.add, donate_argnums=0).lower(ring, row).compile()
    read = jax.jit(sample).lower(ring, key).compile()
    both = jax.jit(loop, donate_argnums=0).lower(ring, row, key).compile()
    full = replay.init(row, size // ENVS)._replace(size=jnp.int32(size // ENVS))
    rows = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), row)
    write_ms, full = milliseconds(write, full, rows)
    sample_ms, _ = milliseconds(read, full, jax.random.key(1))
    return {
        "transitions": size // ENVS * ENVS,
        "observations": dtype,
        "bytes": tree_bytes(ring),
        "write_ms": write_ms,
        "sample_ms": sample_ms,
        "temporary_bytes": both.memory_analysis().temp_size_in_bytes,
        "copies": copies(both, ring),
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Measures and prints the lines."""
    del argv
    for size in map(int, map(float, flags.FLAGS.sizes)):
        for dtype in ("float32", "bfloat16"):
            line = json.dumps(measure(size, dtype))
            print(line, flush=True)
            with Path(flags.FLAGS.out).open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    flags.DEFINE_list("sizes", ["1e5", "1e6", "1e7"], "Transitions in the ring.")
    results = Path(__file__).parents[2] / "results"
    flags.DEFINE_string("out", str(results / "replay.jsonl"), "Where lines are added.")
    app.run(main)

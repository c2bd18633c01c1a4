"""How near the estimate of a population's memory is to what XLA's program takes.

`python scripts/evidence/memory_estimate.py` writes results/memory_estimate.jsonl, a line for each
case and number of members that has none there yet. Nothing is run: programs are traced and
compiled. Keys of a line: case, size, estimated and taken (bytes of a member: as `algos.sweep`
estimates it before anything compiles, and as XLA says of the compiled program), ratio, versions.
"""

import json
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from onejit import algos, envs
from onejit.algos import ppo, sac
from onejit.algos.core import device_memory
from onejit.algos.core.sweep import stacked
from onejit.algos.host import runner

RESULT = Path(__file__).parents[2] / "results" / "memory_estimate.jsonl"
_SMALL = {"num_envs": 16, "num_steps": 32, "hidden_sizes": (32, 32)}
_TINY = {"num_envs": 4, "num_steps": 16, "num_minibatches": 2, "hidden_sizes": (8,)}
CASES = {
    "PPO, CartPole, defaults": (ppo, "gymnax/CartPole-v1", {}),
    "PPO, CartPole, two layers of 32": (ppo, "gymnax/CartPole-v1", _SMALL),
    "PPO, CartPole, a layer of 8": (ppo, "gymnax/CartPole-v1", _TINY),
    "SAC, Pendulum, 20,000 rows": (sac, "gymnax/Pendulum-v1", {"buffer_size": 20_000}),
}


def compare(case: str, size: int) -> dict[str, Any]:
    """The line of a case with so many members."""
    module, name, changes = CASES[case]
    algorithm = module.make(envs.make(name), module.Config(**changes))

    def run(key, config):
        return algos.train(algorithm, key, config=config, num_iterations=20, log_every=20)

    config = stacked(algorithm, algos.grid(learning_rate=[1e-3]))

    def arguments(number):
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), number))
        configs = jax.tree.map(lambda x: jax.ShapeDtypeStruct((number,), x.dtype), config)
        return keys, configs

    estimated = device_memory.peak_bytes(jax.vmap(run), *arguments(1))
    program = jax.jit(jax.vmap(run)).lower(*arguments(size)).compile()
    taken = device_memory.program_bytes(program) / size
    line = {"case": case, "size": size, "estimated": round(estimated), "taken": round(taken)}
    return line | {"ratio": round(estimated / taken, 2), "versions": runner.versions()}


def main(argv: list[str]) -> None:
    del argv
    lines = RESULT.read_text().splitlines() if RESULT.exists() else []
    there = {(line["case"], line["size"]) for line in map(json.loads, lines)}
    for case in CASES:
        for size in map(int, flags.FLAGS.sizes):
            if (case, size) not in there:
                line = json.dumps(compare(case, size))
                print(line, flush=True)
                with RESULT.open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    flags.DEFINE_list("sizes", ["1", "16", "64", "256"], "Numbers of members.")
    app.run(main)

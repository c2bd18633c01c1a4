"""Times populations of PPO agents on CartPole: `python scripts/evidence/bench_population.py
--sizes=1,4,16,64,256`; one JSON line for each size.

All agents of a population are one compiled program, with learning rates drawn at random and keys of
their own. Keys of a line: size, steps (of each agent), compile_s (wall clock of tracing and
compiling), run_s, s_per_agent (run_s / size), steps_per_s (of all agents together), MiB (that XLA
says the program takes), estimated_MiB (as `algos.sweep` estimates it before anything compiles),
mean_training_return (over the whole run), seed, versions. There is no evaluation.
"""

import json
import time

import jax
import jax.numpy as jnp
from absl import app, flags

from onejit import algos, envs
from onejit.algos import population, ppo
from onejit.algos.core import device_memory
from onejit.algos.core.sweep import stacked
from onejit.algos.host import runner

CONFIG = ppo.Config(num_envs=16, num_steps=32, hidden_sizes=(32, 32), anneal_lr=False)


def bench(size: int, steps: int, seed: int) -> dict:
    """Compiles and runs one population; the result of a line."""
    algorithm = ppo.make(envs.make("gymnax/CartPole-v1"), CONFIG.replace(total_steps=steps))
    iterations = algorithm.iterations(steps)
    drawn = algos.draw(seed, size, learning_rate=population.log_uniform(1e-4, 1e-2))
    configs = stacked(algorithm, drawn)
    keys = jax.random.split(jax.random.key(seed), size)

    @jax.vmap
    def run(key, config):
        state, history = algos.train(
            algorithm, key, config=config, num_iterations=iterations, log_every=iterations
        )
        return state.learner.params, history["charts/episodic_return"]

    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype), (keys, configs))
    estimate = size * device_memory.peak_bytes(run, *one)
    start = time.perf_counter()
    program = jax.jit(run).lower(keys, configs).compile()
    compile_s = time.perf_counter() - start
    start = time.perf_counter()
    _, returns = jax.block_until_ready(program(keys, configs))
    run_s = time.perf_counter() - start
    taken = algorithm.steps_after(iterations)
    return {
        "peer": "onejit",
        "size": size,
        "steps": taken,
        "compile_s": round(compile_s, 2),
        "run_s": round(run_s, 3),
        "s_per_agent": round(run_s / size, 4),
        "steps_per_s": round(size * taken / run_s),
        "MiB": round(device_memory.program_bytes(program) / 2**20, 2),
        "estimated_MiB": round(estimate / 2**20, 2),
        "mean_training_return": round(float(jnp.nanmean(returns)), 1),
        "seed": seed,
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Runs the sizes and prints a line for each."""
    del argv
    for size in flags.FLAGS.sizes:
        print(json.dumps(bench(int(size), flags.FLAGS.steps, flags.FLAGS.seed)), flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("sizes", ["1", "4", "16", "64", "256"], "Agents of each population.")
    flags.DEFINE_integer("steps", 25_600, "Environment steps of each agent.", 1)
    flags.DEFINE_integer("seed", 0, "Of keys and learning rates.")
    app.run(main)

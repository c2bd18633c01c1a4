"""Arithmetic of the off-policy updates: `python scripts/evidence/bench_updates.py`, one JSON line
per algorithm.

Times one critic and one actor update on a minibatch of 256 with 2×256 networks, counts the
floating-point operations of their matrix products, and compares with the rate of a plain matrix
product on the same machine. Keys: what, gflop_per_update, ms_per_update, cpu_ms_per_update,
gflop_per_s, matmul_gflop_per_s, fraction, versions.
"""

import json
import math
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app

from onejit import envs
from onejit.algos import sac, td3
from onejit.algos.host import runner


def dot_flops(jaxpr) -> float:
    """Twice the multiplications of all matrix products in a program, those in scans as often as
    they run.
    """
    total = 0.0
    for equation in jaxpr.eqns:
        repeats = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += repeats * dot_flops(inner)
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            inputs = equation.invars[0].aval.shape
            total += (
                2.0
                * math.prod(equation.outvars[0].aval.shape)
                * math.prod(inputs[i] for i in contracted)
            )
    return total


def timed(function, *inputs, repeats: int = 30) -> tuple[float, float]:
    """Medians of wall and processor seconds of one call."""
    jax.block_until_ready(function(*inputs))
    walls, cpus = [], []
    for _ in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(*inputs))
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def main(argv: list[str]) -> None:
    """Measures and prints the lines."""
    del argv
    size = 2048
    square = jnp.ones((size, size))
    matmul = 2.0 * size**3 / timed(jax.jit(jnp.matmul), square, square)[0] / 1e9
    env = envs.make("gymnax/Pendulum-v1")
    for module, config in ((td3, td3.Config(policy_delay=1)), (sac, sac.Config())):
        networks = module.make_networks(env, config)
        learner = module.init_learner(jax.random.key(0), env=env, networks=networks, config=config)
        count = 50  # updates in one call, as in a scan over a training run
        shape = (count, config.batch_size)
        batch = module.Batch(*(jnp.ones((*shape, *rest)) for rest in ((3,), (1,), (), (), (3,))))

        def update(learner, batch, module=module, networks=networks, config=config):
            return module.update(
                learner, batch, jax.random.key(1), networks=networks, config=config
            )

        flops = dot_flops(jax.make_jaxpr(update)(learner, batch).jaxpr) / count
        wall, cpu = (seconds / count for seconds in timed(jax.jit(update), learner, batch))
        line = {
            "what": (
                f"{module.__name__.rpartition('.')[2]}: one update of critics and actor, batch 256,"
                " 2×256"
            ),
            "gflop_per_update": round(flops / 1e9, 3),
            "ms_per_update": round(1e3 * wall, 2),
            "cpu_ms_per_update": round(1e3 * cpu, 2),
            "gflop_per_s": round(flops / wall / 1e9, 1),
            "matmul_gflop_per_s": round(matmul, 1),
            "fraction": round(flops / wall / 1e9 / matmul, 3),
            "versions": runner.versions(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    app.run(main)

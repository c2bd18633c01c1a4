"""How fast could PPO be? `python scripts/evidence/bench_products.py`, one JSON line per case.

Times the matrix products of bench_train.py's `ppo_cartpole` and `ppo_pendulum` alone: as many, of
the same shapes and in the same order as an iteration has, with nothing between them, so that
environments, random numbers, activations, losses, shuffles and Adam would be for nothing. The
median of --repeats; `limit_steps_per_s` is what would come of it, `gflops` the rate at which these
products run, `large_gflops` that of one product of 1024 by 1024 by 1024. Run it with nothing else
running. Lines go to results/products.jsonl, written anew.
"""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from onejit.algos.host import runner

ROOT = Path(__file__).parents[2]
NUM_ENVS, NUM_STEPS, NUM_MINIBATCHES, EPOCHS = 64, 32, 4, 4
WIDTHS = {
    "ppo_cartpole": ((4, 64, 64, 2), (4, 64, 64, 1)),
    "ppo_pendulum": ((3, 64, 64, 1), (3, 64, 64, 1)),
}


def product(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    """The products of a network's forward pass."""
    for weight in weights:
        x = x @ weight
    return x


def iteration(networks: list[list[jax.Array]], minibatch: jax.Array) -> list[list[jax.Array]]:
    """The products of a rollout, and of the gradient steps on it."""
    rows = minibatch[:NUM_ENVS]

    def act(rows, _):
        # What comes next depends on what came before, as an observation does.
        outputs = sum(jnp.mean(product(weights, rows)) for weights in networks)
        return rows + 1e-9 * outputs, None

    def gradient_step(networks, _):
        gradient = jax.grad(lambda x: sum(jnp.sum(product(each, minibatch) ** 2) for each in x))
        return jax.tree.map(lambda x, g: x - 1e-9 * g, networks, gradient(networks)), None

    rows, _ = jax.lax.scan(act, rows, length=NUM_STEPS)
    networks, _ = jax.lax.scan(gradient_step, networks, length=EPOCHS * NUM_MINIBATCHES)
    return jax.tree.map(lambda x: x + 0.0 * rows[0, 0], networks)


def flops(widths: tuple[tuple[int, ...], ...]) -> int:
    """Floating-point operations of an iteration's products, two for each multiplication."""
    per_row = backward = 0
    for each in widths:
        layers = [a * b for a, b in zip(each, each[1:], strict=False)]
        per_row += sum(layers)
        backward += 2 * sum(layers) - layers[0]  # nobody asks for the gradient of the input
    steps = NUM_ENVS * NUM_STEPS
    return 2 * steps * (per_row + EPOCHS * (per_row + backward))


def seconds(function: Callable[..., Any], repeats: int, *arguments: Any) -> float:
    """The median of so many calls, compiled."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        taken.append(time.perf_counter() - start)
    return median(taken)


def main(argv: list[str]) -> None:
    """Prints a line for each case."""
    del argv
    repeats = flags.FLAGS.repeats
    large = jnp.ones((1024, 1024))
    large_s = seconds(lambda x: x @ x, repeats, large)
    with Path(flags.FLAGS.out).open("w") as file:
        for name, widths in WIDTHS.items():
            normal = functools.partial(jax.random.normal, jax.random.key(0))
            networks = [
                [0.1 * normal(shape) for shape in zip(each, each[1:], strict=False)]
                for each in widths
            ]
            rows = normal((NUM_ENVS * NUM_STEPS // NUM_MINIBATCHES, widths[0][0]))
            taken = seconds(iteration, repeats, networks, rows)
            line = {
                "case": name,
                "repeats": repeats,
                "iteration_ms": round(1e3 * taken, 3),
                "limit_steps_per_s": round(NUM_ENVS * NUM_STEPS / taken),
                "gflops": round(flops(widths) / taken / 1e9, 1),
                "large_gflops": round(2 * 1024**3 / large_s / 1e9, 1),
                "versions": runner.versions(),
            }
            print(json.dumps(line), flush=True)
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("repeats", 50, "Calls of each.", lower_bound=1)
    flags.DEFINE_string("out", str(ROOT / "results" / "products.jsonl"), "The file of the lines.")
    app.run(main)

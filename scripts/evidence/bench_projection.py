"""Two ways to project a categorical distribution, timed, one JSON line per size.

Run by `python scripts/evidence/bench_projection.py`.

"scatter" is `losses.categorical_projection`, which adds each atom's mass to its two neighbours;
"dense" weighs all K×K pairs of atoms with a triangular kernel, without indices. Keys: what, batch,
atoms, scatter_ms, dense_ms, versions.
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app

from onejit import losses
from onejit.algos.host import runner


def dense(probs, reward, discount, *, support):
    """The same projection for `[B, K]`, as a sum over all pairs of atoms."""
    place = jnp.clip(
        reward[:, None] + jnp.multiply.outer(discount, support), support[0], support[-1]
    )
    place = (place - support[0]) / (support[1] - support[0])
    distance = jnp.abs(jnp.subtract.outer(place, jnp.arange(support.size, dtype=place.dtype)))
    return jnp.sum(jnp.maximum(0.0, 1.0 - distance) * probs[..., None], axis=-2)


def milliseconds(function, *inputs) -> float:
    """Median of 20 calls."""
    jax.block_until_ready(function(*inputs))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        times.append(1e3 * (time.perf_counter() - start))
    return round(statistics.median(times), 3)


def main(argv: list[str]) -> None:
    """Measures and prints the lines."""
    del argv
    for batch, atoms in ((256, 51), (256, 101), (1024, 101), (32_768, 101)):
        support = jnp.linspace(-10.0, 10.0, atoms)
        keys = jax.random.split(jax.random.key(0), 2)
        probs = jax.nn.softmax(jax.random.normal(keys[0], (batch, atoms)))
        reward, discount = jax.random.normal(keys[1], (batch,)), jnp.full(batch, 0.97)
        scatter = jax.jit(
            lambda p, r, d, z=support: losses.categorical_projection(p, r, d, support=z)
        )
        kernel = jax.jit(lambda p, r, d, z=support: dense(p, r, d, support=z))
        line = {
            "what": "projection of a categorical distribution",
            "batch": batch,
            "atoms": atoms,
            "scatter_ms": milliseconds(scatter, probs, reward, discount),
            "dense_ms": milliseconds(kernel, probs, reward, discount),
            "versions": runner.versions(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    app.run(main)

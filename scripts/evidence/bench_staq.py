"""What StaQ's memory costs: `python scripts/evidence/bench_staq.py`, one JSON line for each length
M of the stack.

CartPole-v1 with 16 environments, 2×64 networks, ensembles of two and minibatches of 256, on a full
stack and a full replay with the entropy weight at its end, as in most of a run. The committed lines
are results/staq_memory.jsonl. Keys: what, memory, ms_per_act (the stack's logits for 16
observations), s_per_iteration (64 vector steps, 1024 gradient steps, the cache advanced by one
Q-function), both medians; steps_per_s; versions.
"""

import json
import statistics
import time

import jax
import jax.numpy as jnp
from absl import app

from onejit import envs
from onejit.algos import staq
from onejit.algos.core import training
from onejit.algos.host import runner

MEMORIES = (5, 50, 300, 500)


def full_state(algorithm, key):
    """A state whose stack and replay are full."""
    state = jax.jit(algorithm.init)(key)
    learner = state.learner
    memory = algorithm.config.memory
    filled = jax.tree.map(lambda x: jnp.broadcast_to(x, (memory, *x.shape)), learner.params)
    stack = learner.stack._replace(params=filled, pushed=jnp.int32(memory + 1))
    state = state._replace(learner=learner._replace(stack=stack))
    fill = -(-algorithm.config.buffer_size // algorithm.steps_per_iteration)
    return jax.jit(lambda state: training.advance(algorithm, state, fill)[0], donate_argnums=0)(
        state
    )


def seconds(function, *inputs) -> float:
    """Of one call."""
    start = time.perf_counter()
    jax.block_until_ready(function(*inputs))
    return time.perf_counter() - start


def main(argv: list[str]) -> None:
    """Measures and prints the lines."""
    del argv
    env = envs.make("gymnax/CartPole-v1")
    for memory in MEMORIES:
        algorithm = staq.make(env, staq.Config(memory=memory, anneal_fraction=0.0))
        state = full_state(algorithm, jax.random.key(0))
        act = jax.jit(algorithm.logits)
        step = jax.jit(algorithm.step, donate_argnums=0)
        obs = jax.random.normal(jax.random.key(1), (16, 4))
        jax.block_until_ready(act(state, obs))
        acting = statistics.median(seconds(act, state, obs) for _ in range(100))
        state, _ = jax.block_until_ready(step(state))
        iterations = []
        for _ in range(9):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state))
            iterations.append(time.perf_counter() - start)
        line = {
            "what": "StaQ on CartPole-v1, 16 environments × 64 steps, 2×64 networks",
            "memory": memory,
            "ms_per_act": round(1e3 * acting, 3),
            "s_per_iteration": round(statistics.median(iterations), 3),
            "steps_per_s": round(algorithm.steps_per_iteration / statistics.median(iterations)),
            "versions": runner.versions(),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    app.run(main)

"""How fast environments are: `python scripts/evidence/bench_env.py` appends JSON lines to
results/env_speed.jsonl.

A line is of an environment with its options, a number of copies, and a way to reset; what is there
is not run again. Keys: env, options, num_envs, reset, device, precision (float64 where
JAX_ENABLE_X64=1 is set; earlier lines do not say float32), compile_s (tracing included),
steps_per_s (environment steps with uniform random actions, resets included; median of three runs of
at least --min_seconds each, after WARM_UP steps), versions.

    python scripts/evidence/bench_env.py --envs=mjx/Hopper-v5 --num_envs=1,64,1024 \
        --resets=full,bank --options=solver=fast
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from onejit import envs
from onejit.algos.host import cli, runner

WARM_UP = 20  # steps after which robots that fall have fallen: contacts cost time


def measure(
    env_id: str, options: dict[str, Any], num_envs: int, reset: str, min_seconds: float
) -> dict[str, Any]:
    """What the line of a cell holds; a run takes at least min_seconds."""
    env = envs.VectorEnv(envs.make(env_id, **options), num_envs, reset)
    space = env.action_space

    def actions(key):
        if isinstance(space, envs.Discrete):
            return jax.random.randint(key, (num_envs,), 0, space.n)
        return jax.random.uniform(
            key, (num_envs, *space.shape), minval=space.low, maxval=space.high
        )

    def advance(carry, num_steps):
        def step(_, carry):
            key, state = carry
            key, action_key, step_key = jax.random.split(key, 3)
            return key, env.step(step_key, state, actions(action_key))[0]

        return jax.lax.fori_loop(0, num_steps, step, carry)

    start = time.perf_counter()
    carry = jax.jit(lambda key: (key, env.reset(jax.random.fold_in(key, 1))[0]))(jax.random.key(0))
    run = jax.jit(advance).lower(carry, jnp.int32(0)).compile()
    compile_s = time.perf_counter() - start

    def seconds(num_steps):
        nonlocal carry
        start = time.perf_counter()
        carry = jax.block_until_ready(run(carry, jnp.int32(num_steps)))
        return time.perf_counter() - start

    seconds(WARM_UP)
    num_steps = 1
    while seconds(num_steps) < min_seconds:
        num_steps *= 2
    speed = num_envs * num_steps / statistics.median(seconds(num_steps) for _ in range(3))
    return {
        "compile_s": round(compile_s, 1),
        "steps_per_s": round(speed, 1),
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Measures what is missing."""
    del argv
    values = flags.FLAGS
    path = Path(values.out)
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    keys = ("env", "options", "num_envs", "reset", "device", "precision")
    done = [{key: line.get(key, "float32") for key in keys} for line in lines]
    precision = "float64" if jax.config.jax_enable_x64 else "float32"
    options = cli.named_values(values.options, "options")
    for env_id in values.envs or envs.env_ids("mjx"):
        for num_envs in map(int, values.num_envs):
            for reset in values.resets:
                cell = dict(
                    zip(
                        keys,
                        (env_id, options, num_envs, reset, jax.devices()[0].device_kind, precision),
                        strict=True,
                    )
                )
                if cell not in done:
                    line = json.dumps(
                        cell | measure(env_id, options, num_envs, reset, values.min_seconds)
                    )
                    with path.open("a") as file:
                        file.write(line + "\n")
                    print(line, flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("envs", None, "Environments; all of mjx/ by default.")
    flags.DEFINE_list("num_envs", ["1", "32", "256"], "Numbers of copies.")
    flags.DEFINE_list("resets", ["full"], "Ways to reset: full, bank, first.")
    flags.DEFINE_list("options", [], "Options of the environments, name=value.")
    flags.DEFINE_float("min_seconds", 1.0, "That a run takes at least.", lower_bound=0.0)
    results = Path(__file__).parents[2] / "results"
    flags.DEFINE_string("out", str(results / "env_speed.jsonl"), "The file of lines.")
    app.run(main)

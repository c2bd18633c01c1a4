"""Times whole training runs, one JSON line per run: `python scripts/evidence/bench_train.py
--cases=ppo_cartpole`.

A case is compiled ahead of time, then run. Keys of a line: peer, case, seed, compile_s (wall clock
of tracing and compiling), run_s (of running), cpu_s (processor seconds of running), steps_per_s
(all seeds together), updates_per_s and updates_per_cpu_s (critic updates, for off-policy
algorithms), final_return (mean return of the trained policies, sampled, over whole episodes),
versions. Evaluation is not timed.
"""

import json
import sys
import time
from types import ModuleType
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos import ppo, sac, td3
from onejit.algos.core.config import BaseConfig
from onejit.algos.host import runner

# 64 environments × 32 steps, 4 minibatches, 4 epochs, two separate 2×64 tanh MLPs, and all else as
# rejax has it.
COMMON = ppo.Config(
    learning_rate=1e-3,
    anneal_lr=False,
    ent_coef=0.01,
    vf_clip_eps=0.2,
    adam_eps=1e-8,
    num_envs=64,
    num_steps=32,
    num_minibatches=4,
    update_epochs=4,
    initialiser="lecun",
)

PENDULUM = COMMON.replace(normalize_reward=True)

# One environment, one update per step, minibatches of 256, 2×256: the published sizes of TD3 and
# SAC.
OFF_POLICY = {
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "learning_starts": 1_000,
    "buffer_size": 100_000,
}


class Case(NamedTuple):
    """A training run of `steps` environment steps for each of `seeds` vmapped seeds (0: one seed,
    not vmapped).
    """

    env: str
    steps: int
    seeds: int = 0
    algorithm: ModuleType = ppo
    config: BaseConfig = COMMON
    eval_episodes: int = 128


def _td3(steps: int, **changes) -> Case:
    config = td3.Config(**{**OFF_POLICY, **changes})
    return Case("gymnax/Pendulum-v1", steps, algorithm=td3, config=config)


def _width(steps: int, num_envs: int, memory: str) -> Case:
    """PPO with layers of 128 units, and a cell of 128 between them or none."""
    config = COMMON.replace(
        num_envs=num_envs, hidden_sizes=(128, 128), memory=memory, memory_size=128
    )
    return Case("gymnax/CartPole-v1", steps, config=config)


CASES = {
    "ppo_cartpole": Case("gymnax/CartPole-v1", 499_712),
    "ppo_pendulum": Case("gymnax/Pendulum-v1", 499_712, config=PENDULUM),
    # Peers reset to one cached state: so does the first of these. The bank starts episodes at
    # random.
    "ppo_halfcheetah": Case(
        "brax/halfcheetah", 102_400, config=COMMON.replace(reset="first"), eval_episodes=16
    ),
    "ppo_halfcheetah_bank": Case(
        "brax/halfcheetah", 102_400, config=COMMON.replace(reset="bank"), eval_episodes=16
    ),
    "ppo_cartpole_16_seeds": Case("gymnax/CartPole-v1", 499_712, 16),
    "ppo_pendulum_16_agents": Case("gymnax/Pendulum-v1", 102_400, 16, config=PENDULUM),
    "ppo_cartpole_256_seeds": Case("gymnax/CartPole-v1", 24_576, 256),
    "ppo_pendulum_256_seeds": Case("gymnax/Pendulum-v1", 24_576, 256, config=PENDULUM),
    **{
        f"ppo_{agents}_agents": Case("gymnax/CartPole-v1", 102_400, agents)
        for agents in (1, 4, 16, 64, 256)
    },
    "td3_pendulum": _td3(10_000),
    "sac_pendulum": Case(
        "gymnax/Pendulum-v1", 10_000, algorithm=sac, config=sac.Config(**OFF_POLICY)
    ),
    # Too short to learn, and as long as it takes to see how fast it is.
    "td3_pendulum_4k": _td3(4_000),
    "sac_pendulum_4k": Case(
        "gymnax/Pendulum-v1", 4_000, algorithm=sac, config=sac.Config(**OFF_POLICY)
    ),
    "td3_pendulum_buffer_1e4": _td3(10_000, buffer_size=10_000),
    "td3_pendulum_buffer_1e6": _td3(10_000, buffer_size=1_000_000),
    "td3_pendulum_128_envs": _td3(102_400, num_envs=128, num_updates=2),
    "ppo_64_envs_none": _width(131_072, 64, "none"),
    "ppo_64_envs_gru": _width(131_072, 64, "gru"),
    "ppo_64_envs_lstm": _width(131_072, 64, "lstm"),
    "ppo_1024_envs_none": _width(524_288, 1024, "none"),
    "ppo_1024_envs_gru": _width(524_288, 1024, "gru"),
    "ppo_1024_envs_lstm": _width(524_288, 1024, "lstm"),
}


def bench(name: str, case: Case, repeats: int, first_seed: int):
    """Yields the result of each run of a case."""
    config = case.config.replace(total_steps=case.steps)
    env = envs.make(case.env)  # imports the suite, which is not to be timed
    start = time.perf_counter()
    algorithm = case.algorithm.make(env, config)
    iterations = algorithm.iterations(case.steps)

    evaluate = algos.evaluator(algorithm, num_episodes=case.eval_episodes, deterministic=False)

    def train(key):
        return algos.train(algorithm, key, num_iterations=iterations)

    def keys(seed):
        key = jax.random.key(seed)
        return jax.random.split(key, case.seeds) if case.seeds else key

    compiled = jax.jit(jax.vmap(train) if case.seeds else train).lower(keys(0)).compile()
    compile_s = time.perf_counter() - start
    evaluate = jax.jit(jax.vmap(evaluate, in_axes=(0, None)) if case.seeds else evaluate)
    for repeat in range(repeats):
        start, cpu = time.perf_counter(), time.process_time()
        state, _ = jax.block_until_ready(compiled(keys(first_seed + repeat)))
        run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        returns = np.asarray(evaluate(state, jax.random.key(1_000_000))["eval/episodic_return"])
        updates = (
            iterations * getattr(config, "rows_per_step", 0) * getattr(config, "num_updates", 0)
        )
        yield {
            "peer": "onejit",
            "case": name,
            "seed": first_seed + repeat,
            "seeds": max(1, case.seeds),
            "steps": case.steps,
            "compile_s": round(compile_s, 2),
            "run_s": round(run_s, 3),
            "cpu_s": round(cpu_s, 3),
            "steps_per_s": round(case.steps * max(1, case.seeds) / run_s),
            **({"updates_per_s": round(updates / run_s, 1)} if updates else {}),
            **({"updates_per_cpu_s": round(updates / cpu_s, 1)} if updates else {}),
            "final_return": round(float(returns.mean()), 1),
            "versions": runner.versions(),
        }


def main(argv: list[str]) -> None:
    """Runs the cases and prints a line for each run."""
    del argv
    unknown = set(flags.FLAGS.cases or []) - set(CASES)
    if unknown:
        sys.exit(f"unknown cases {sorted(unknown)}; known: {', '.join(CASES)}")
    for name in flags.FLAGS.cases or CASES:
        for result in bench(name, CASES[name], flags.FLAGS.repeats, flags.FLAGS.seed):
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("cases", None, "Which cases to run; all by default.")
    flags.DEFINE_integer("repeats", 1, "Runs of each case, with different seeds; compiled once.")
    flags.DEFINE_integer("seed", 0, "Of the first run.")
    app.run(main)

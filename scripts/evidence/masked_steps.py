"""Does any algorithm ever take a masked action? A million environment steps of each on
`probe/mask`, where one costs 10,000.

`python scripts/evidence/masked_steps.py` trains each algorithm and appends a line to
results/masks.jsonl: environment steps in training, in a prefill that is as long, and in greedy and
exploring evaluations that are; the errors among each, and the return that was learned, of which 8
is the best. Errors are counted from the sum of the returns of an iteration, or of a group of
episodes: what is paid in all of them is less than one costs.
"""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos.core import training
from onejit.algos.host import runner
from onejit.envs.masks import ERROR, STEPS

RESULTS = Path(__file__).parents[2] / "results"
EVALUATED = 1024  # episodes of a group
ON_POLICY = {"num_envs": 64, "learning_rate": 3e-3, "gamma": 0.5, "hidden_sizes": (16, 16)}
REPLAY = {
    "num_envs": 64,
    "learning_rate": 3e-3,
    "gamma": 0.5,
    "learning_starts": 10_240,
    "buffer_size": 20_480,
    "batch_size": 64,
}
SAC = REPLAY | {
    "actor_hidden_sizes": (16, 16),
    "critic_hidden_sizes": (16, 16),
    "initial_alpha": 0.1,
    "target_entropy": 0.05,
}
GRU = {"memory": "gru", "memory_size": 16}
CONFIGS = {
    "ppo": ON_POLICY,
    "spo": ON_POLICY,
    "mdpo": ON_POLICY,
    "sac": SAC,
    "staq": REPLAY | {"hidden_sizes": (16, 16), "memory": 20, "reward_scale": 1.0},
    "ppo_gru": ON_POLICY | GRU,
    "sac_gru": SAC | GRU | {"sequence_length": 8, "burn_in": 4},
}


def errors_in(returns: np.ndarray, episodes: np.ndarray) -> int:
    """Masked actions in groups of so many episodes each, by the mean returns of these."""
    assert np.max(episodes) * STEPS < -ERROR
    sums = np.where(episodes > 0, returns * episodes, 0.0)
    return int(np.sum(np.ceil(np.maximum(0.0, sums / ERROR))))


def prefilled(name: str, total_steps: int) -> tuple[int, int]:
    """Steps, and errors among them, of a prefill of that length; (0, 0) of who has none."""
    if "learning_starts" not in CONFIGS[name]:
        return 0, 0
    sizes = {"learning_starts": total_steps, "buffer_size": total_steps}
    algorithm = made(name, 2 * total_steps, **sizes)
    state = jax.jit(algorithm.init)(jax.random.key(1))
    rewards = np.asarray(state.replay.rows.reward[: int(state.replay.size)])
    return rewards.size, int(np.sum(rewards < 0.0))


def evaluated(algorithm: algos.Algorithm, state: Any, total_steps: int, **how: bool) -> np.ndarray:
    """Mean returns of groups of `EVALUATED` episodes, of at least that many steps together."""
    evaluate = jax.jit(algos.evaluator(algorithm, num_episodes=EVALUATED, **how))
    keys = jax.random.split(jax.random.key(2), -(-total_steps // (EVALUATED * STEPS)))
    return np.asarray([evaluate(state, key)["eval/episodic_return"] for key in keys], float)


def made(name: str, total_steps: int, **changes: int) -> algos.Algorithm:
    """The algorithm of a line."""
    module = getattr(algos, name.split("_")[0])
    config = module.Config(**CONFIGS[name] | changes, total_steps=total_steps)
    return module.make(envs.make("probe/mask"), config)


def count(name: str, total_steps: int) -> dict:
    """Trains an algorithm, and returns its line."""
    algorithm = made(name, total_steps)
    iterations = algorithm.iterations(total_steps)
    step = jax.jit(lambda state: training.advance(algorithm, state, 1), donate_argnums=0)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    returns, episodes = [], []
    for _ in range(iterations):
        state, metrics = step(state)
        returns.append(metrics["charts/episodic_return"])
        episodes.append(metrics["charts/episodes"])
    returns, episodes = np.asarray(returns, float), np.asarray(episodes, float)
    prefill, errors_in_prefill = prefilled(name, total_steps)
    greedy, exploring = (
        evaluated(algorithm, state, total_steps, deterministic=each) for each in (True, False)
    )
    return {
        "algorithm": name,
        "steps": algorithm.steps_after(iterations),
        "errors_in_training": errors_in(returns, episodes),
        "mean_return": round(float(np.nansum(returns * episodes) / episodes.sum()), 3),
        "steps_of_prefill": prefill,
        "errors_in_prefill": errors_in_prefill,
        "steps_evaluated_each": greedy.size * EVALUATED * STEPS,
        "errors_greedy": errors_in(greedy, np.full(greedy.shape, EVALUATED)),
        "errors_exploring": errors_in(exploring, np.full(exploring.shape, EVALUATED)),
        "return_greedy": round(float(np.mean(greedy)), 3),
        "return_exploring": round(float(np.mean(exploring)), 3),
        "fault": algos.describe_fault(metrics["charts/fault"]),
        "versions": runner.versions(),
    }


def main(argv: list[str]) -> None:
    """Runs what has no line yet."""
    del argv
    out = Path(flags.FLAGS.out)
    lines = out.read_text().splitlines() if out.exists() else []
    done = {json.loads(line)["algorithm"] for line in lines}
    for name in flags.FLAGS.algorithms:
        if name not in done:
            line = json.dumps(count(name, flags.FLAGS.total_steps))
            print(line, flush=True)
            with out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    flags.DEFINE_list("algorithms", list(CONFIGS), "Which to run.")
    flags.DEFINE_integer("total_steps", 1_000_000, "Environment steps of each.")
    flags.DEFINE_string("out", str(RESULTS / "masks.jsonl"), "Where the lines go.")
    app.run(main)

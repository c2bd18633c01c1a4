"""Does any algorithm ever take a masked action? A million environment steps of each on
`probe/mask`, where one costs 10,000.

`python scripts/evidence/masked_steps.py` trains each algorithm and appends a line to
results/masks.jsonl: environment steps, with those of the prefill, the errors among them and among
those of evaluations, greedy and exploring, and the return that was learned, of which 8 is the best.
Errors are counted from the sum of an iteration's returns: what is paid in all its episodes is less
than one costs.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos.core import training
from onejit.algos.host import runner
from onejit.envs.masks import ERROR, STEPS

RESULTS = Path(__file__).parents[2] / "results"
EVALUATED = 1024  # episodes of each kind
ON_POLICY = {"num_envs": 64, "learning_rate": 3e-3, "gamma": 0.5, "hidden_sizes": (16, 16)}
REPLAY = {
    "num_envs": 64,
    "learning_rate": 3e-3,
    "gamma": 0.5,
    "learning_starts": 10_240,
    "buffer_size": 20_480,
    "batch_size": 64,
}
CONFIGS = {
    "ppo": ON_POLICY,
    "spo": ON_POLICY,
    "mdpo": ON_POLICY,
    "sac": REPLAY
    | {
        "actor_hidden_sizes": (16, 16),
        "critic_hidden_sizes": (16, 16),
        "initial_alpha": 0.1,
        "target_entropy": 0.05,
    },
    "staq": REPLAY
    | {"hidden_sizes": (16, 16), "memory": 20, "updates_per_step": 1, "reward_scale": 1.0},
    "ppo_gru": ON_POLICY | {"memory": "gru", "memory_size": 16},
    "sac_gru": REPLAY
    | {
        "actor_hidden_sizes": (16, 16),
        "critic_hidden_sizes": (16, 16),
        "initial_alpha": 0.1,
        "target_entropy": 0.05,
        "memory": "gru",
        "memory_size": 16,
        "sequence_length": 8,
        "burn_in": 4,
    },
}


def count(name: str, total_steps: int) -> dict:
    """Trains an algorithm, and returns its line."""
    module = getattr(algos, name.split("_")[0])
    env = envs.make("probe/mask")
    algorithm = module.make(env, module.Config(**CONFIGS[name], total_steps=total_steps))
    iterations = algorithm.iterations(total_steps)
    step = jax.jit(lambda state: training.advance(algorithm, state, 1), donate_argnums=0)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    in_prefill = 0
    if algorithm.initial_steps:
        rows = state.replay.rows.reward[: int(state.replay.size)]
        in_prefill = int(np.sum(np.asarray(rows) < 0.0))
    returns, episodes = [], []
    for _ in range(iterations):
        state, metrics = step(state)
        returns.append(metrics["charts/episodic_return"])
        episodes.append(metrics["charts/episodes"])
    returns, episodes = np.asarray(returns, float), np.asarray(episodes, float)
    sums = np.where(episodes > 0, returns * episodes, 0.0)
    assert np.max(episodes) * STEPS < -ERROR
    finished = {
        label: jax.jit(
            algos.evaluator(algorithm, num_episodes=EVALUATED, deterministic=deterministic)
        )(state, jax.random.key(1))["eval/episodic_return"]
        for label, deterministic in (("greedy", True), ("exploring", False))
    }
    return {
        "algorithm": name,
        "steps": algorithm.steps_after(iterations),
        "of_prefill": algorithm.initial_steps,
        "errors_in_prefill": in_prefill,
        "errors_in_training": int(np.sum(np.ceil(np.maximum(0.0, -sums / -ERROR)))),
        "mean_return": round(float(sums.sum() / episodes.sum()), 3),
        "evaluated_steps": 2 * EVALUATED * STEPS,
        **{f"return_{label}": round(float(value), 3) for label, value in finished.items()},
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

"""Where PPO under `envs.RiskAverse` leaves the gamble of `probe/gamble` for the sure cost: `python
scripts/evidence/risk_gamble.py`.

Eight aversions λ and five seeds each are one program, for each range that thresholds may have; the
result is results/risk_gamble.json, a table of how many seeds take the sure cost is printed. By the
measure itself it is better above λ = 2/27 = 0.074, whatever the range.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from onejit import algos, envs
from onejit.algos import ppo
from onejit.algos.host import runner

OUT = Path(__file__).parents[2] / "results" / "risk_gamble.json"
AVERSIONS = (0.0, 0.04, 0.06, 0.09, 0.12, 0.15, 0.3, 1.0)
RANGES = ((0.0, 2.0), (0.0, 6.0))
CONFIG = ppo.Config(
    num_envs=64, num_steps=32, learning_rate=3e-3, ent_coef=0.01, total_steps=400_000
)
SEEDS = 5


def sure_and_threshold(key, lam, low, high):
    """Whether a trained policy takes the sure cost, and the threshold that it chooses before."""
    env = envs.RiskAverse(
        envs.make("probe/gamble"), lam=lam, gamma=CONFIG.gamma, low=low, high=high
    )
    algorithm = ppo.make(env, CONFIG)
    train_key, key = jax.random.split(key)
    iterations = algorithm.iterations(CONFIG.total_steps)
    state, _ = algos.train(algorithm, train_key, num_iterations=iterations)
    first_key, step_key, second_key = jax.random.split(key, 3)
    env_state, obs = env.reset(jax.random.key(0))
    first = algorithm.act(state, obs[None], first_key, True)[0]
    _, result = env.step(step_key, env_state, first)
    second = algorithm.act(state, result.obs[None], second_key, True)[0]
    return jnp.argmax(second[:-1]) == 0, first[-1]


def main() -> None:
    """Trains all, writes the file and prints the table."""
    cells = []
    for low, high in RANGES:

        def run(key, lam, low=low, high=high):
            return sure_and_threshold(key, lam, low, high)

        keys = jax.random.split(jax.random.key(0), SEEDS)
        all_of_them = jax.jit(jax.vmap(jax.vmap(run, (0, None)), (None, 0)))
        sure, thresholds = all_of_them(keys, jnp.array(AVERSIONS))
        cells.append(
            {
                "thresholds_from": low,
                "thresholds_to": high,
                "sure": np.asarray(sure).sum(axis=1).tolist(),
                "threshold": np.asarray(thresholds, float).round(2).tolist(),
            }
        )
        for lam, count in zip(AVERSIONS, cells[-1]["sure"], strict=True):
            print(
                f"thresholds in [{low}, {high}], λ = {lam}: {count} of {SEEDS} take the sure cost"
            )
    result = {
        "aversions": AVERSIONS,
        "seeds": SEEDS,
        "cells": cells,
        "config": {name: str(value) for name, value in vars(CONFIG).items()},
        "command": "python " + " ".join(["scripts/evidence/risk_gamble.py", *sys.argv[1:]]),
        "versions": runner.versions(),
    }
    OUT.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

"""PPO of Stable-Baselines3 on gymnax's CartPole through the bridge: `python
scripts/evidence/sb3_cartpole.py`, one JSON line a seed.

Needs the extra sb3. The hyperparameters are those of RL Baselines3 Zoo for CartPole-v1, without its
schedules. Lines go to results/sb3.jsonl, written anew.
"""

import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import app, flags

from onejit import envs
from onejit.algos.host import runner

ROOT = Path(__file__).parents[2]
NUM_ENVS = 8


def measure(seed: int, total_steps: int) -> dict[str, Any]:
    """Trains and evaluates one seed."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecMonitor

    torch.set_num_threads(1)  # small networks
    env = envs.make("gymnax/CartPole-v1")
    model = PPO(
        "MlpPolicy",
        VecMonitor(envs.to_stable_baselines3(env, NUM_ENVS)),
        n_steps=32,
        batch_size=256,
        n_epochs=20,
        gamma=0.98,
        gae_lambda=0.8,
        ent_coef=0.0,
        learning_rate=1e-3,
        seed=seed,
        device="cpu",
    )
    start = time.perf_counter()
    model.learn(total_steps)
    seconds = time.perf_counter() - start
    test = VecMonitor(envs.to_stable_baselines3(env, NUM_ENVS))
    test.seed(1000 + seed)
    mean, std = evaluate_policy(model, test, n_eval_episodes=32, deterministic=True)
    return {
        "what": "sb3",
        "algorithm": "PPO of Stable-Baselines3",
        "environment": "gymnax/CartPole-v1",
        "seed": seed,
        "steps": model.num_timesteps,
        "seconds": round(seconds, 1),
        "episodes": 32,
        "mean_return": float(mean),
        "std_return": float(std),
        "versions": runner.versions()
        | {name: metadata.version(name) for name in ("stable-baselines3", "gymnasium", "torch")},
    }


def main(argv: list[str]) -> None:
    """Prints a line for each seed."""
    del argv
    with Path(flags.FLAGS.out).open("w") as file:
        for seed in range(flags.FLAGS.seeds):
            line = measure(seed, flags.FLAGS.total_steps)
            print(json.dumps(line), flush=True)
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("seeds", 3, "How many seeds.")
    flags.DEFINE_integer("total_steps", 50_000, "Environment steps of each.")
    flags.DEFINE_string("out", str(ROOT / "results" / "sb3.jsonl"), "Where lines go.")
    app.run(main)

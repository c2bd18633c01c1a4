"""Times sbx (Stable-Baselines3 on JAX) on a case of bench_train.py; run by bench_peers.py with the
Python of sbx's own environment.

`python scripts/evidence/bench_sbx.py CASE SEED` prints one JSON line with the keys of
bench_train.py. Its environments are Gymnasium's, in Python; its updates are compiled where they are
first called, in the first piece of a run: `compile_s` is what that took longer than a piece as long
does later. Policies are evaluated by Stable-Baselines3, with sampled actions.
"""

import sys
import time
from typing import Any, NamedTuple

import bench_line
import flax.linen as nn
import numpy as np
from sbx import PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize


class Case(NamedTuple):
    """A case of bench_train.py in sbx's words; the first `piece` steps are those that compile."""

    algorithm: type
    env: str
    steps: int
    settings: dict[str, Any]
    piece: int
    num_envs: int = 1
    normalize_reward: bool = False
    updates_from: int = 0


ON_POLICY = {
    "n_steps": 32,
    "batch_size": 512,
    "n_epochs": 4,
    "learning_rate": 1e-3,
    "ent_coef": 0.01,
    "policy_kwargs": {"net_arch": [64, 64], "activation_fn": nn.tanh},
}
OFF_POLICY = {
    "learning_rate": 1e-3,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
    "batch_size": 256,
    "gamma": 0.98,
}
CASES = {
    "ppo_cartpole": Case(PPO, "CartPole-v1", 499_712, ON_POLICY, 2048, 64),
    "ppo_pendulum": Case(PPO, "Pendulum-v1", 499_712, ON_POLICY, 2048, 64, True),
    "td3_pendulum": Case(
        TD3,
        "Pendulum-v1",
        10_000,
        OFF_POLICY | {"action_noise": NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))},
        1_100,
        updates_from=1_000,
    ),
    "sac_pendulum": Case(SAC, "Pendulum-v1", 10_000, OFF_POLICY, 1_100, updates_from=1_000),
}


def main(name: str, seed: int) -> None:
    """Runs a case and prints its line."""
    case = CASES[name]
    env = make_vec_env(case.env, case.num_envs, seed=seed)  # not timed, as ours is not
    if case.normalize_reward:
        env = VecNormalize(env, norm_obs=False, norm_reward=True)
    model = case.algorithm("MlpPolicy", env, seed=seed, **case.settings)
    first_updates = case.piece - case.updates_from
    # Of all pieces the first is timed alone.
    start = time.perf_counter()
    model.learn(case.piece)
    first_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    model.learn(case.steps - case.piece, reset_num_timesteps=False)
    rest_s, rest_cpu_s = time.perf_counter() - start, time.process_time() - cpu
    # Steps without an update cost next to nothing off-policy.
    share = 1.0 + first_updates / (case.steps - case.piece)
    env = make_vec_env(case.env, 1, seed=1_000_000)
    returns, _ = evaluate_policy(model, env, 32, deterministic=False, return_episode_rewards=True)
    bench_line.show(
        "sbx",
        name,
        seed,
        steps=case.steps,
        compile_s=first_s - (share - 1.0) * rest_s,
        run_s=share * rest_s,
        cpu_s=share * rest_cpu_s,
        updates=case.steps - case.updates_from if case.updates_from else 0,
        returns=np.asarray(returns),
        packages=(
            *("sbx-rl", "stable-baselines3", "jax", "jaxlib", "flax", "optax"),
            *("gymnasium", "torch"),
        ),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

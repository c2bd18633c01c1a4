"""Times rejax 0.1.3 on a case of bench_train.py; run by bench_peers.py with the Python of rejax's
own environment.

`python scripts/evidence/bench_rejax.py CASE SEED` prints one JSON line with the keys of
bench_train.py. rejax's evaluation inside the training is switched off; its policies are evaluated
afterwards, on as many sampled episodes as ours.
"""

import sys
import time
from typing import Any, NamedTuple

import bench_line
import jax
import numpy as np
from rejax import PPO, SAC, TD3
from rejax.compat import create
from rejax.networks import DeterministicPolicy, QNetwork, SquashedGaussianPolicy


class Case(NamedTuple):
    """A case of bench_train.py in rejax's words; `seeds` vmapped seeds (0: one, not vmapped)."""

    algorithm: type
    env: str
    steps: int
    settings: dict[str, Any]
    seeds: int = 0
    eval_episodes: int = 128
    env_options: dict[str, Any] = {}


ON_POLICY = {
    "agent_kwargs": {"activation": "tanh", "hidden_layer_sizes": (64, 64)},
    "num_envs": 64,
    "num_steps": 32,
    "num_minibatches": 4,
    "num_epochs": 4,
    "learning_rate": 1e-3,
    "max_grad_norm": 0.5,
}
PENDULUM = {**ON_POLICY, "normalize_rewards": True}
OFF_POLICY = {
    "num_envs": 1,
    "num_epochs": 1,
    "batch_size": 256,
    "buffer_size": 100_000,
    "fill_buffer": 1_000,
    "learning_rate": 1e-3,
    "gamma": 0.98,
    "polyak": 0.995,
}
NOISE = {"exploration_noise": 0.1}
HALFCHEETAH = Case(
    PPO, "brax/halfcheetah", 102_400, ON_POLICY, eval_episodes=16, env_options={"backend": "spring"}
)
CASES = {
    "ppo_cartpole": Case(PPO, "CartPole-v1", 499_712, ON_POLICY),
    "ppo_pendulum": Case(PPO, "Pendulum-v1", 499_712, PENDULUM),
    "ppo_halfcheetah": HALFCHEETAH,
    "ppo_halfcheetah_bank": HALFCHEETAH,
    "ppo_cartpole_16_seeds": Case(PPO, "CartPole-v1", 499_712, ON_POLICY, seeds=16),
    "ppo_pendulum_16_agents": Case(PPO, "Pendulum-v1", 102_400, PENDULUM, seeds=16),
    "ppo_cartpole_256_seeds": Case(PPO, "CartPole-v1", 24_576, ON_POLICY, seeds=256),
    "ppo_pendulum_256_seeds": Case(PPO, "Pendulum-v1", 24_576, PENDULUM, seeds=256),
    **{
        f"ppo_{agents}_agents": Case(PPO, "CartPole-v1", 102_400, ON_POLICY, seeds=agents)
        for agents in (1, 4, 16, 64, 256)
    },
    "td3_pendulum": Case(TD3, "Pendulum-v1", 10_000, {**OFF_POLICY, **NOISE}),
    "sac_pendulum": Case(SAC, "Pendulum-v1", 10_000, OFF_POLICY),
    "td3_pendulum_4k": Case(TD3, "Pendulum-v1", 4_000, {**OFF_POLICY, **NOISE}),
    "sac_pendulum_4k": Case(SAC, "Pendulum-v1", 4_000, OFF_POLICY),
    "td3_pendulum_buffer_1e4": Case(
        TD3, "Pendulum-v1", 10_000, {**OFF_POLICY, **NOISE, "buffer_size": 10_000}
    ),
    "td3_pendulum_buffer_1e6": Case(
        TD3, "Pendulum-v1", 10_000, {**OFF_POLICY, **NOISE, "buffer_size": 1_000_000}
    ),
    "td3_pendulum_128_envs": Case(
        TD3, "Pendulum-v1", 102_400, {**OFF_POLICY, **NOISE, "num_envs": 128, "num_epochs": 2}
    ),
}


def make(case: Case, env: Any, env_params: Any):
    """The algorithm of a case, with its evaluation switched off, and that evaluation."""
    algorithm = case.algorithm.create(
        env=env,
        env_params=env_params,
        total_timesteps=case.steps,
        eval_freq=case.steps,
        skip_initial_evaluation=True,
        **case.settings,
    )
    if case.algorithm is not PPO:  # their makers leave the networks at 64×64
        space = env.action_space(env_params)
        layers = {"hidden_layer_sizes": (256, 256), "activation": jax.nn.relu}
        actor = int(np.prod(space.shape))
        bounds = (space.low, space.high)
        if case.algorithm is TD3:
            actor = DeterministicPolicy(actor, bounds, **layers)
        else:
            actor = SquashedGaussianPolicy(actor, bounds, log_std_range=(-10, 2), **layers)
        algorithm = algorithm.replace(actor=actor, critic=QNetwork(**layers))
    evaluate = algorithm.eval_callback
    return algorithm.replace(eval_callback=lambda algorithm, state, key: np.float32(0.0)), evaluate


def main(name: str, seed: int) -> None:
    """Compiles, runs and evaluates a case, and prints its line."""
    case = CASES[name]
    env, env_params = create(case.env, **case.env_options)  # not timed, as ours is not
    start = time.perf_counter()
    algorithm, evaluate = make(case, env, env_params)
    seeds = case.seeds

    def train(key):
        return algorithm.train(key)[0]

    def keys(seed):
        return (
            jax.random.split(jax.random.PRNGKey(seed), seeds) if seeds else jax.random.PRNGKey(seed)
        )

    compiled = jax.jit(jax.vmap(train) if seeds else train).lower(keys(seed)).compile()
    compile_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    state = jax.block_until_ready(compiled(keys(seed)))
    run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu

    def returns(state):
        return evaluate(algorithm, state, jax.random.PRNGKey(1_000_000))[1][: case.eval_episodes]

    evaluated = np.asarray((jax.jit(jax.vmap(returns)) if seeds else jax.jit(returns))(state))
    updates = 0
    if case.algorithm is not PPO:
        settings = case.settings
        updates = (case.steps - settings["fill_buffer"]) // settings["num_envs"]
        updates *= settings["num_epochs"]
    bench_line.show(
        "rejax",
        name,
        seed,
        seeds=max(1, seeds),
        steps=case.steps,
        compile_s=compile_s,
        run_s=run_s,
        cpu_s=cpu_s,
        updates=updates,
        returns=evaluated,
        packages=("rejax", "jax", "jaxlib", "flax", "optax", "brax", "gymnax"),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

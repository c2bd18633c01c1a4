"""Times Ajax (ajax-rl 0.4.0) on a case of bench_train.py; run by bench_peers.py with the Python of
Ajax's own environment.

`python scripts/evidence/bench_ajax.py CASE SEED` prints one JSON line with the keys of
bench_train.py. Nothing is logged or evaluated during the training; the policies are evaluated
afterwards by Ajax itself, with their most probable actions.
"""

import sys
import time
from typing import Any, NamedTuple

import bench_line
import jax
import numpy as np
from ajax import PPO, SAC, TD3
from ajax.evaluate import evaluate

LAYERS = {f"{each}_architecture": ("64", "tanh", "64", "tanh") for each in ("actor", "critic")}
WIDE = {f"{each}_architecture": ("128", "tanh", "128", "tanh") for each in ("actor", "critic")}
COMMON = {
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "ent_coef": 0.01,
    "n_steps": 32,
    "num_minibatches": 4,
    "n_epochs": 4,
}


class Case(NamedTuple):
    """A case of bench_train.py in Ajax's words, for each of `seeds` vmapped seeds."""

    env: str
    steps: int
    settings: dict[str, Any]
    seeds: int = 1
    algorithm: type = PPO


def _width(steps: int, num_envs: int, memory: str | None) -> Case:
    cell = memory and {"kind": memory, "hidden_size": 128}
    return Case("CartPole-v1", steps, COMMON | WIDE | {"n_envs": num_envs, "memory": cell})


SMALL = COMMON | LAYERS | {"n_envs": 64}
PENDULUM = SMALL | {"normalize_rewards": True}
OFF_POLICY = {
    "actor_learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "gamma": 0.98,
    "batch_size": 256,
    "buffer_size": 100_000,
    "learning_starts": 1_000,
}
CASES = {
    "ppo_cartpole": Case("CartPole-v1", 499_712, SMALL),
    "ppo_pendulum": Case("Pendulum-v1", 499_712, PENDULUM),
    "ppo_cartpole_16_seeds": Case("CartPole-v1", 499_712, SMALL, 16),
    "ppo_pendulum_16_agents": Case("Pendulum-v1", 102_400, PENDULUM, 16),
    "ppo_cartpole_256_seeds": Case("CartPole-v1", 24_576, SMALL, 256),
    "ppo_pendulum_256_seeds": Case("Pendulum-v1", 24_576, PENDULUM, 256),
    "td3_pendulum": Case("Pendulum-v1", 10_000, OFF_POLICY, algorithm=TD3),
    "td3_pendulum_4k": Case("Pendulum-v1", 4_000, OFF_POLICY, algorithm=TD3),
    "sac_pendulum_4k": Case("Pendulum-v1", 4_000, OFF_POLICY, algorithm=SAC),
    "sac_pendulum": Case("Pendulum-v1", 10_000, OFF_POLICY, algorithm=SAC),
    **{
        f"ppo_{agents}_agents": Case("CartPole-v1", 102_400, SMALL, agents)
        for agents in (1, 4, 16, 64, 256)
    },
    "ppo_64_envs_none": _width(131_072, 64, None),
    "ppo_64_envs_gru": _width(131_072, 64, "gru"),
    "ppo_64_envs_lstm": _width(131_072, 64, "lstm"),
    "ppo_1024_envs_none": _width(524_288, 1024, None),
    "ppo_1024_envs_gru": _width(524_288, 1024, "gru"),
    "ppo_1024_envs_lstm": _width(524_288, 1024, "lstm"),
}


def main(name: str, seed: int) -> None:
    """Compiles, runs and evaluates a case, and prints its line."""
    case = CASES[name]
    agent = case.algorithm(
        case.env, **case.settings
    )  # makes the environment: not timed, as ours is not
    start = time.perf_counter()
    train = agent.get_make_train()(
        env_args=agent.env_args,
        actor_optimizer_args=agent.actor_optimizer_args,
        critic_optimizer_args=agent.critic_optimizer_args,
        network_args=agent.network_args,
        agent_config=agent.agent_config,
        total_timesteps=case.steps,
        num_episode_test=1,
    )
    keys = jax.random.split(jax.random.PRNGKey(seed), case.seeds)
    index = np.arange(case.seeds)
    compiled = jax.jit(jax.vmap(train)).lower(keys, index).compile()
    compile_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    state, _ = jax.block_until_ready(compiled(keys, index))
    run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu

    def returns(actor):
        env = agent.env_args
        recurrent = bool(case.settings.get("memory"))
        key = jax.random.PRNGKey(1_000_000)
        return evaluate(env.env, actor, 128, key, env.env_params, recurrent=recurrent)[0]

    evaluated = np.asarray(jax.jit(jax.vmap(returns))(state.actor_state))
    updates = 0
    if case.algorithm is not PPO:
        updates = case.steps - case.settings["learning_starts"]
    bench_line.show(
        "ajax",
        name,
        seed,
        seeds=case.seeds,
        steps=case.steps,
        compile_s=compile_s,
        run_s=run_s,
        cpu_s=cpu_s,
        updates=updates,
        returns=evaluated,
        packages=("ajax-rl", "jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""Times rejax 0.1.3 on a case of bench_train.py; run by bench_peers.py with the Python of rejax's own environment.

`python scripts/bench_rejax.py CASE SEED` prints one JSON line with the keys of bench_train.py. rejax's evaluation
inside the training is switched off; its policies are evaluated afterwards, on as many sampled episodes as ours.
"""

import json
import platform
import sys
import time
from importlib import metadata

import jax
import numpy as np
from rejax import PPO
from rejax.compat import create

# case: (environment, its parameters, steps, vmapped seeds or 0, evaluation episodes)
CASES = {
    "ppo_cartpole": ("CartPole-v1", {}, 499_712, 0, 128),
    "ppo_pendulum": ("Pendulum-v1", {}, 499_712, 0, 128),
    "ppo_halfcheetah": ("brax/halfcheetah", {"backend": "spring"}, 102_400, 0, 16),
    "ppo_cartpole_16_seeds": ("CartPole-v1", {}, 499_712, 16, 128),
}


def main(name: str, seed: int) -> None:
    """Compiles, runs and evaluates a case, and prints its line."""
    env_id, options, steps, seeds, eval_episodes = CASES[name]
    env, env_params = create(env_id, **options)  # not timed, as ours is not
    start = time.perf_counter()
    agent = {"activation": "tanh", "hidden_layer_sizes": (64, 64)}
    algorithm = PPO.create(
        env=env,
        env_params=env_params,
        agent_kwargs=agent,
        num_envs=64,
        num_steps=32,
        num_minibatches=4,
        num_epochs=4,
        learning_rate=1e-3,
        max_grad_norm=0.5,
        normalize_rewards=name == "ppo_pendulum",
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
    )
    evaluate = algorithm.eval_callback
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: np.float32(0.0))

    def train(key):
        return algorithm.train(key)[0]

    def keys(seed):
        return jax.random.split(jax.random.PRNGKey(seed), seeds) if seeds else jax.random.PRNGKey(seed)

    compiled = jax.jit(jax.vmap(train) if seeds else train).lower(keys(seed)).compile()
    compile_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    state = jax.block_until_ready(compiled(keys(seed)))
    run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu

    def returns(state):
        return evaluate(algorithm, state, jax.random.PRNGKey(1_000_000))[1][:eval_episodes]

    evaluated = np.asarray((jax.jit(jax.vmap(returns)) if seeds else jax.jit(returns))(state))
    packages = ("rejax", "jax", "jaxlib", "flax", "optax", "brax", "gymnax")
    versions = {"python": platform.python_version(), **{each: metadata.version(each) for each in packages}}
    result = {
        "peer": "rejax",
        "case": name,
        "seed": seed,
        "seeds": max(1, seeds),
        "steps": steps,
        "compile_s": round(compile_s, 2),
        "run_s": round(run_s, 3),
        "cpu_s": round(cpu_s, 3),
        "steps_per_s": round(steps * max(1, seeds) / run_s),
        "final_return": round(float(evaluated.mean()), 1),
        "versions": versions | {"device": jax.devices()[0].device_kind},
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

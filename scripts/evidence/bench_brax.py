"""Times Brax's trainers on a case of bench_train.py; run by bench_peers.py with the Python of
Brax's own environment.

`python scripts/evidence/bench_brax.py CASE SEED` prints one JSON line with the keys of
bench_train.py. Brax trains on environments of its own kind, so that gymnax's Pendulum is made one
here, and has no discrete actions. A run is four epochs of as many steps, of which Brax times each:
`run_s` is four times the last, `compile_s` what all of them and filling the replay took longer (the
second compiles again). `cpu_s` is of the last with its evaluation. Policies are evaluated by Brax,
with sampled actions. Rewards of Pendulum are scaled by a tenth, since Brax's do not normalise
themselves. Its trainers need a jax before 0.10.
"""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import bench_line
import gymnax
import jax
import jax.numpy as jnp
from brax import envs
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac

EPOCHS = 4


class Pendulum(envs.Env):
    """gymnax's Pendulum-v1, as Brax has environments; its time limit is Brax's wrapper's."""

    def __init__(self):
        self.env, self.params = gymnax.make("Pendulum-v1")

    def reset(self, rng):
        """A first state."""
        obs, state = self.env.reset_env(rng, self.params)
        return envs.State(state, obs, jnp.float32(0.0), jnp.float32(0.0))

    def step(self, state, action):
        """One step, actions in [−1, 1]; draws nothing."""
        torque = self.params.max_torque * action[0]
        key = jax.random.PRNGKey(0)
        obs, new, reward, _, _ = self.env.step_env(key, state.pipeline_state, torque, self.params)
        return state.replace(pipeline_state=new, obs=obs, reward=reward)

    @property
    def observation_size(self):
        """Of cosine, sine and speed."""
        return 3

    @property
    def action_size(self):
        """Of the torque."""
        return 1

    @property
    def backend(self):
        """Whose physics it is."""
        return "gymnax"


class Case(NamedTuple):
    """A case of bench_train.py in Brax's words."""

    train: Callable[..., Any]
    env: Callable[[], envs.Env]
    steps: int
    settings: dict[str, Any]
    updates: int = 0


ON_POLICY = {
    "num_envs": 64,
    "unroll_length": 32,
    "batch_size": 16,  # of pieces of 32 steps
    "num_minibatches": 4,
    "num_updates_per_batch": 4,
    "learning_rate": 1e-3,
    "entropy_cost": 0.01,
    "discounting": 0.99,
    "gae_lambda": 0.95,
    "clipping_epsilon": 0.2,
    "max_grad_norm": 0.5,
    "network_factory": functools.partial(
        ppo_networks.make_ppo_networks,
        policy_hidden_layer_sizes=(64, 64),
        value_hidden_layer_sizes=(64, 64),
        activation=jnp.tanh,
    ),
}
PENDULUM = {"episode_length": 200, "reward_scaling": 0.1, "num_eval_envs": 128}
CASES = {
    "ppo_pendulum": Case(ppo.train, Pendulum, 499_712, {**ON_POLICY, **PENDULUM}),
    "ppo_halfcheetah": Case(
        ppo.train,
        lambda: envs.get_environment("halfcheetah", backend="spring"),
        102_400,
        {**ON_POLICY, "episode_length": 1000, "num_eval_envs": 16},
    ),
    "sac_pendulum": Case(
        sac.train,
        Pendulum,
        10_000,
        {
            **PENDULUM,
            "num_envs": 1,
            "learning_rate": 1e-3,
            "discounting": 0.98,
            "batch_size": 256,
            "min_replay_size": 1_000,
            "max_replay_size": 100_000,
            "network_factory": functools.partial(
                sac_networks.make_sac_networks, hidden_layer_sizes=(256, 256)
            ),
        },
        updates=9_000,
    ),
}


def main(name: str, seed: int) -> None:
    """Runs a case and prints its line."""
    case = CASES[name]
    env = case.env()  # not timed, as ours is not
    seen = []  # at the start, and after each epoch

    def progress(steps, metrics):
        seen.append((steps, time.process_time(), metrics))

    case.train(
        environment=env,
        num_timesteps=case.steps,
        num_evals=1 + EPOCHS,
        seed=seed,
        progress_fn=progress,
        **case.settings,
    )
    (first, begin, _), (last, end, metrics) = seen[-2:]
    epoch_s = (last - first) / metrics["training/sps"]
    share = case.steps / (last - first)  # of the last epoch's cost, for the whole run
    bench_line.show(
        "brax",
        name,
        seed,
        steps=case.steps,
        compile_s=float(metrics["training/walltime"]) - EPOCHS * epoch_s,
        run_s=float(share * epoch_s),
        cpu_s=share * (end - begin),
        updates=case.updates,
        returns=metrics["eval/episode_reward"],
        packages=("brax", "jax", "jaxlib", "flax", "optax", "gymnax"),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

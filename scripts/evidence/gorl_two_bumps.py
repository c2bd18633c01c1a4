"""A task of one step whose reward has two bumps in the plane of actions, which turn with the
observation: does a Gaussian policy find one, and GoRL both?

`python scripts/evidence/gorl_two_bumps.py` trains five vmapped seeds of each cell and writes
results/gorl_two_bumps/CELL.json; what exists is not run again. From the files it prints a table
with 95 % intervals over seeds. `--cells=ppo` runs those that are named.

  ppo          PPO with a tanh of a Gaussian
  gorl_long    GoRL with two stages of 100 iterations
  gorl_short   its first stage has 10 iterations, when the Gaussian is still wide
  gorl_entropy the latter with an entropy bonus of 0.1, and
  ppo_entropy  PPO with the same bonus
  gorl_state   the first, with an encoder whose standard deviation depends on the observation, as in
               the published code
  gorl_beta    a fit that takes actions by their advantage (fit_beta = 2) from 40 iterations, and an
               encoder that is held near the noise by 1·KL(encoder‖N(0, I)), in both of two stages
  gorl_held    the same without fit_beta, and
  ppo_held     a single stage of it, which is PPO with a Gaussian that is held so

All take 200 iterations of 1024 steps with PPO's preset for Pendulum where nothing else is said.
After the training 256 actions are drawn at each of 64 observations. "near" is the share within two
spreads of a bump; "both" is the mean over observations of twice the smaller of the two bumps'
shares: 1 where both are visited alike, 0 where one is.
"""

import json
import shlex
import sys
import time
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from compare_objectives import summary

from onejit import algos, envs
from onejit.algos import gorl, ppo
from onejit.algos.core.heads import Gaussian
from onejit.algos.core.networks import MLP
from onejit.algos.host import runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results" / "gorl_two_bumps"
SPREAD = 0.15
RADIUS = 0.6
ITERATIONS = 200
SIZES = {
    "learning_rate": 1e-3,
    "num_envs": 64,
    "num_steps": 16,
    "anneal_lr": False,
    "total_steps": ITERATIONS * 1024,
}
DECODER = {"decoder_learning_rate": 1e-3, "decoder_hidden_sizes": (64, 64)}
SHORT = DECODER | {"num_stages": 2, "stage_iterations": 10}
# The encoder's size is a mean over the two dimensions, and its entropy a sum.
HELD = DECODER | {
    "num_stages": 2,
    "stage_iterations": 40,
    "kept_rollouts": 40,
    "fit_steps": 4_000,
    "ent_coef": 1.0,
    "latent_coef": 1.0,
}
CELLS = {
    "ppo": (ppo, {"policy": "tanh_gaussian"}),
    "gorl_long": (gorl, DECODER | {"num_stages": 2, "stage_iterations": 100}),
    "gorl_short": (gorl, SHORT),
    "ppo_entropy": (ppo, {"policy": "tanh_gaussian", "ent_coef": 0.1}),
    "gorl_entropy": (gorl, SHORT | {"ent_coef": 0.1}),
    "gorl_state": (gorl, DECODER | {"num_stages": 2, "stage_iterations": 100}),
    "gorl_beta": (gorl, HELD | {"fit_beta": 2.0}),
    "gorl_held": (gorl, HELD),
    "ppo_held": (gorl, HELD | {"num_stages": 1}),
}


class StateDeviation(nn.Module):
    """An encoder whose mean and standard deviation, softplus(·) + 0.001 and at most 10, both depend
    on the observation.
    """

    @nn.compact
    def __call__(self, obs: chex.Array) -> Gaussian:
        size = 2
        output = nn.Dense(2 * size, kernel_init=nn.initializers.orthogonal(0.01))(
            MLP((64, 64))(obs)
        )
        std = jnp.minimum(nn.softplus(output[..., size:]) + 1e-3, 10.0)
        return Gaussian(output[..., :size], jnp.log(std))


def bumps(obs: chex.Array) -> chex.Array:
    """The centres, at opposite sides of the origin: obs `[..., 1]` to `[..., 2, 2]`."""
    angle = 0.5 * jnp.pi * obs[..., 0]
    centre = RADIUS * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    return jnp.stack([centre, -centre], axis=-2)


def distances(obs: chex.Array, action: chex.Array) -> chex.Array:
    """From an action `[..., 2]` to each bump, `[..., 2]`."""
    return jnp.linalg.norm(action[..., None, :] - bumps(obs), axis=-1)


class TwoBumps:
    """One step, which pays e^(−½·(distance/0.15)²) for the nearer bump."""

    def __init__(self):
        self.observation_space = envs.Box(-1.0, 1.0, (1,))
        self.action_space = envs.Box(-1.0, 1.0, (2,))

    def reset(self, key: chex.PRNGKey):
        """Draws an observation."""
        obs = jax.random.uniform(key, (1,), jnp.float32, -1.0, 1.0)
        return obs, obs

    def step(self, key: chex.PRNGKey, state: chex.Array, action: chex.Array):
        """Pays, and ends."""
        del key
        nearest = jnp.min(distances(state, action))
        reward = jnp.exp(-0.5 * jnp.square(nearest / SPREAD))
        return state, envs.Step(state, reward, jnp.bool_(True), jnp.bool_(False), {})


def measure(algorithm: algos.Algorithm, state, key: chex.PRNGKey) -> dict:
    """Of what the policy draws: reward, and how it is spread over the bumps."""
    obs = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 64)[:, None, None], (64, 256, 1))
    action = algorithm.act(state, obs, key, False)
    away = distances(obs, action)
    shares = jnp.mean(away < 2.0 * SPREAD, axis=1)
    return {
        "reward": jnp.mean(jnp.exp(-0.5 * jnp.square(jnp.min(away, axis=-1) / SPREAD))),
        "near": jnp.mean(jnp.sum(shares, axis=-1)),
        "both": jnp.mean(2.0 * jnp.min(shares, axis=-1)),
    }


def run_cell(name: str, seeds: int, iterations: int) -> dict:
    """Trains all seeds of a cell in one program, and returns what the result file holds."""
    module, changes = CELLS[name]
    env, config = TwoBumps(), module.Config(**SIZES | changes)
    networks = module.make_networks(env, config)
    if name == "gorl_state":
        networks = networks._replace(policy=StateDeviation())
    algorithm = module.make(env, config, networks)

    def train(key):
        train_key, key = jax.random.split(key)
        state, _ = algos.train(
            algorithm, train_key, num_iterations=iterations, log_every=iterations
        )
        return state.learner.fault, measure(algorithm, state, key)

    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    compiled = jax.jit(jax.vmap(train)).lower(keys).compile()
    start = time.perf_counter()
    fault, found = jax.device_get(compiled(keys))
    end = time.perf_counter()
    if fault[:, 0].any():
        raise RuntimeError(f"{name}: {algos.describe_fault(fault[fault[:, 0] > 0][0])}")
    script = "scripts/evidence/" + Path(sys.argv[0]).name
    return {
        "cell": name,
        "config": SIZES | changes,
        "iterations": iterations,
        "seeds": list(range(seeds)),
        "command": shlex.join(["python", script, *sys.argv[1:]]),
        "versions": runner.versions(),
        "run_s": round(end - start, 2),
        **{each: summary(x) for each, x in found.items()},
    }


def table(results: list[dict]) -> str:
    """Means over seeds with 95 % intervals."""
    lines = ["| | reward | near a bump | both |", "|---|---|---|---|"]
    for result in results:
        numbers = (result[each] for each in ("reward", "near", "both"))
        ranges = (f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in numbers)
        lines.append(f"| {result['cell']} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    values = flags.FLAGS
    unknown = set(values.cells) - set(CELLS)
    if unknown:
        sys.exit(f"unknown cells {sorted(unknown)}; known: {', '.join(CELLS)}")
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for name in values.cells:
        path = folder / f"{name}.json"
        if not path.exists():
            write_json(path, run_cell(name, values.seeds, values.iterations))
        results.append(json.loads(path.read_text()))
        print(table(results[-1:]).splitlines()[-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("cells", list(CELLS), "Which cells.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("iterations", ITERATIONS, "Iterations of each cell.")
    flags.DEFINE_string("out", str(RESULTS), "Folder of the result files.")
    app.run(main)

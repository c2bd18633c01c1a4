"""One run of TD3+BC or IQL, ours or a peer's, on a file of data; run by bench_offline.py.

`python scripts/evidence/bench_offline_run.py SIDE ALGORITHM SEED UPDATES FILE [CHECKOUT]` prints
one JSON line: peer, algorithm, data, seed, updates (of the critics), compile_s (wall clock from
data in memory to the first update: making the learner, tracing and compiling), run_s (of all
updates), cpu_s (processor seconds of that), updates_per_s, final_return (64 episodes, without
exploring, the same for all sides), normalized_score, versions.

All have two layers of 256, minibatches of 256, Adam with 1e-3, γ 0.98, τ 0.005 and normalised
observations; α 2.5, expectile 0.7 and inverse temperature 3. Each is run as its authors run it:
onejit as one program, JAX-CORL as a loop in Python over programs of 8 updates, unifloral as scans
of 2,500 steps. The peers' files are imported with stand-ins for what they need for logging and for
D4RL's data. Differences that no setting removes: JAX-CORL's TD3+BC normalises the layers of its
critics and takes every end of an episode for a termination; unifloral's takes its two critic
updates on one minibatch, and its IQL anneals all step sizes by a cosine.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onejit import algos, envs
from onejit.algos.core.evaluation import normalized_score
from onejit.algos.host import dataset_files, runner

LEARNING_RATE, GAMMA, BATCH_SIZE, CHUNK = 1e-3, 0.98, 256, 2_500
EPISODES = 64


class Run(NamedTuple):
    """What is timed, and what it makes.

    Attributes:
      run: () -> the final state; takes all updates.
      act: (state, obs `[N, ...]`) -> actions in [−1, 1], `[N, d]`.
    """

    run: Callable[[], Any]
    act: Callable[[Any, Any], Any]


def onejit(name: str, data: algos.Dataset, seed: int, updates: int, folder: Path):
    """Ours; returns () -> Run, which is timed as compiling."""
    del folder
    env = envs.make(data.env_id)

    def compiled() -> Run:
        module = getattr(algos, name)
        config = module.Config(
            learning_rate=LEARNING_RATE, gamma=GAMMA, batch_size=BATCH_SIZE, total_steps=updates
        )
        algorithm = module.make(env, config, data=data)
        iterations = algorithm.iterations(updates)
        train = jax.jit(lambda key: algos.train(algorithm, key, num_iterations=iterations)[0])
        program = train.lower(jax.random.key(0)).compile()

        def act(state, obs):
            action = algorithm.act(state, obs, jax.random.key(0), True)
            return env.action_space.to_unit(action)

        return Run(lambda: program(jax.random.key(seed)), act)

    return compiled


def corl(name: str, data: algos.Dataset, seed: int, updates: int, folder: Path):
    """JAX-CORL's, as `onejit`."""
    kind = {"td3_bc": "TD3BC", "iql": "IQL"}[name]
    module = load(folder / "algos" / f"{kind.lower()}.py", data)
    rates = dict.fromkeys(("actor_lr", "critic_lr", "value_lr"), LEARNING_RATE)
    changes = {"normalize_reward": False, "layer_norm": False, "opt_decay_schedule": False}
    shared = {"batch_size": BATCH_SIZE, "discount": GAMMA, "normalize_state": True, "seed": seed}
    Config = getattr(module, f"{kind}Config")  # noqa: N806 - a class
    known = Config.__annotations__.keys()
    config = Config(
        **{each: x for each, x in (rates | changes | shared).items() if each in known},
        max_steps=updates,
    )
    rows, mean, std = jax.block_until_ready(module.get_dataset(None, config))
    learner = getattr(module, kind)()

    def compiled() -> Run:
        key, init_key = jax.random.split(jax.random.PRNGKey(seed))
        create = getattr(module, f"create_{kind.lower()}_train_state")
        first = create(init_key, rows.observations[0], rows.actions[0], config)
        update = jax.jit(learner.update_n_times, static_argnums=3)
        update = update.lower(first, rows, key, config).compile()

        def run():
            state, rng = first, key
            for _ in range(updates // config.n_jitted_updates):
                rng, update_key = jax.random.split(rng)
                state, _ = update(state, rows, update_key)
            return state

        def act(state, obs):
            more = {"seed": jax.random.PRNGKey(0), "temperature": 0.0} if name == "iql" else {}
            return learner.get_action(state, (obs - mean) / (std + 1e-5), **more)

        return Run(run, act)

    return compiled


def unifloral(name: str, data: algos.Dataset, seed: int, updates: int, folder: Path):
    """unifloral's, as `onejit`."""
    module = load(folder / "algorithms" / f"{name}.py", data)
    args = module.Args(lr=LEARNING_RATE, batch_size=BATCH_SIZE, gamma=GAMMA, seed=seed)
    steps = updates // getattr(args, "num_critic_updates_per_step", 1)
    args = dataclasses.replace(args, num_updates=steps)
    length = steps if steps % CHUNK else CHUNK
    given = sys.modules["d4rl"].qlearning_dataset(None)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    rows = module.Transition(*(jnp.array(given[each]) for each in names))

    def compiled() -> Run:
        moments = rows.obs.mean(axis=0), jnp.nan_to_num(rows.obs.std(axis=0), nan=1.0)
        obs, action = jnp.zeros(rows.obs.shape[1:]), jnp.zeros(rows.action.shape[1:])
        num_actions = rows.action.shape[1]
        if name == "td3_bc":
            networks = {"actor": module.DeterministicTanhActor(num_actions, *moments)}
        else:
            networks = {"actor": module.TanhGaussianActor(num_actions, *moments)}
        networks["dual_q"] = module.DualQNetwork(*moments)
        if name == "iql":
            networks["value"] = module.StateValueFunction(*moments)
        inputs = {"actor": [obs], "dual_q": [obs, action], "value": [obs]}
        rng, *keys = jax.random.split(jax.random.PRNGKey(seed), 1 + len(networks))
        keys = dict(zip(networks, keys, strict=True))

        def part(field):
            each = field.removesuffix("_target")
            return module.create_train_state(args, keys[each], networks[each], inputs[each])

        fields = module.AgentTrainState._fields
        first = rng, module.AgentTrainState(*map(part, fields))
        applied = [network.apply for network in networks.values()]
        step = module.make_train_step(args, *applied, rows)
        scan = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length)[0])
        scan = scan.lower(first).compile()

        def run():
            carry = first
            for _ in range(steps // length):
                carry = scan(carry)
            return carry

        def act(carry, obs):
            actor, more = carry[1].actor, {"eval": True} if name == "iql" else {}
            return actor.apply_fn(actor.params, obs, **more).sample(seed=jax.random.PRNGKey(0))

        return Run(run, act)

    return compiled


class Settings:
    """What a peer's config needs of pydantic: annotated defaults, and changes to them."""

    def __init__(self, **changes):
        vars(self).update(changes)

    def __repr__(self):
        return repr({name: getattr(self, name) for name in type(self).__annotations__})


def load(path: Path, data: algos.Dataset) -> ModuleType:
    """The module in a file of a peer, with stand-ins for the packages that it names and that have
    no part in the update; d4rl's gives `data`.
    """
    rows = data.transitions
    given = {
        "observations": rows.obs,
        "actions": rows.action,
        "rewards": rows.reward,
        "next_observations": rows.next_obs,
        "terminals": rows.terminated.astype(np.float32),
    }
    stand_ins = {
        "d4rl": {"qlearning_dataset": lambda env: dict(given)},
        "gym": {"Env": type("Env", (), {})},
        "omegaconf": {"OmegaConf": type("OmegaConf", (), {"from_cli": staticmethod(dict)})},
        "pydantic": {"BaseModel": Settings},
        **dict.fromkeys(("tqdm", "tyro", "wandb"), {}),
    }
    for name, contents in stand_ins.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(contents)
    jax.devices()  # before it, because the file changes XLA_FLAGS, with what XLA may not know
    flags = os.environ.get("XLA_FLAGS")
    spec = importlib.util.spec_from_file_location("peer", path)
    module = sys.modules["peer"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    os.environ.pop("XLA_FLAGS", None)
    if flags is not None:
        os.environ["XLA_FLAGS"] = flags
    return module


SIDES = {"onejit": onejit, "corl": corl, "unifloral": unifloral}


def main(side: str, name: str, seed: int, updates: int, file: Path, folder: Path) -> None:
    """Compiles, runs and evaluates, and prints the line."""
    data = dataset_files.load(file)
    env = envs.make(data.env_id)
    compiled = SIDES[side](name, data, seed, updates, folder)
    start = time.perf_counter()
    made = compiled()
    compile_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    state = jax.block_until_ready(made.run())
    run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu

    @jax.jit
    def play(state):
        def act(obs, key):
            del key
            return env.action_space.from_unit(made.act(state, obs))

        return algos.evaluate(env, act, jax.random.key(1_000_000), num_episodes=EPISODES)

    final_return = float(np.mean(play(state).returns))
    versions = runner.versions() | {"distrax": metadata.version("distrax")}
    if side != "onejit":
        command = ["git", "-C", folder, "rev-parse", "HEAD"]
        commit = subprocess.run(command, capture_output=True, text=True, check=False)
        versions[side] = commit.stdout.strip()
    result = {
        "peer": side,
        "algorithm": name,
        "data": {"source": data.source, "transitions": len(data), "checksum": data.checksum},
        "seed": seed,
        "updates": updates,
        "compile_s": round(compile_s, 2),
        "run_s": round(run_s, 3),
        "cpu_s": round(cpu_s, 3),
        "updates_per_s": round(updates / run_s, 1),
        "final_return": round(final_return, 1),
        "normalized_score": round(float(normalized_score(final_return, data.scores)), 1),
        "versions": versions,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    side, name, seed, updates, file, *folder = sys.argv[1:]
    main(side, name, int(seed), int(updates), Path(file), Path(*folder))

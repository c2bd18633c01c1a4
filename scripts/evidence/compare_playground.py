"""Compares the robots of `playground/` with MuJoCo Playground's own environments, step by step.

`python scripts/evidence/compare_playground.py` begins episodes of each robot from the same keys in
both, then plays random actions: every step is taken by both from the same state. It writes
results/playground/TASK.json: the largest and the median difference of observations, rewards,
positions and `info` (commands, phases of the gait, what the reward remembers), and the flags that
differ; `envs.check` has passed. `own_` is how far Playground's step is from itself if positions
change in their last digit: contacts and a solver that stops early make that more than rounding.
With --randomize both have the same draws of the physics too, and Playground's go through its own
wrapper: TASK_randomized.json. With --precision=float64, in which they should be the same but for
rounding: TASK_float64.json. What exists is not run again.
"""

import functools
import importlib.metadata
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from mujoco_playground import registry, wrapper

from onejit import envs
from onejit.algos.host import runner
from onejit.algos.host.run_folder import write_json

TASKS = [
    "G1JoystickFlatTerrain",
    "T1JoystickFlatTerrain",
    "BerkeleyHumanoidJoystickFlatTerrain",
    "H1InplaceGaitTracking",
    "H1JoystickGaitTracking",
    "ApolloJoystickFlatTerrain",
    "Op3Joystick",
]


def difference(ours: Any, theirs: Any, rows: np.ndarray) -> np.ndarray:
    """How far two pytrees are apart in each of the rows that are asked for.

    A row's difference is the largest of its entries, relative where the entry is above 1.

    Args:
      ours: a pytree, leaves `[N, ...]`.
      theirs: another of the same structure.
      rows: bool `[N]`.
    """
    worst = np.zeros(rows.sum())
    for x, y in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        x, y = (np.asarray(each, np.float64)[rows].reshape(rows.sum(), -1) for each in (x, y))
        distance = np.abs(x - y) / np.maximum(1.0, np.abs(y))
        worst = np.maximum(worst, distance.max(axis=1, initial=0.0))
    return worst


def own_functions(env: Any, name: str, keys: Any, randomize: bool) -> tuple[Any, Any]:
    """Playground's reset and step of as many copies as there are keys, jitted.

    Args:
      env: Playground's environment.
      name: its name, for its randomisation.
      keys: of the physics, raw `[N, 2]`.
      randomize: whether it is randomised, by Playground's wrapper.
    """
    if randomize:
        randomizer = functools.partial(registry.get_domain_randomizer(name), rng=keys)
        own = wrapper.BraxDomainRandomizationVmapWrapper(env, randomizer)
        return jax.jit(own.reset), jax.jit(own.step)
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))


def compare(name: str, randomize: bool, num_envs: int, num_steps: int, seed: int) -> dict[str, Any]:
    """What the result file of a task holds."""
    options = {"randomize": True} if randomize else {}
    env = envs.make(f"playground/{name}", **options)
    copies = envs.VectorEnv(env, num_envs, reset="first")  # each keeps its physics
    key, reset_key = jax.random.split(jax.random.key(seed))
    # As the adapter splits its keys.
    episode_keys = jax.random.split(jax.random.clone(reset_key), (2, num_envs))[1]
    keys, physics_keys = jax.random.key_data(jax.vmap(jax.random.split)(episode_keys)).transpose(
        1, 0, 2
    )
    own_reset, own_step = own_functions(env.unwrapped, name, physics_keys, randomize)
    everything = np.ones(num_envs, bool)
    state, obs = jax.jit(copies.reset)(reset_key)
    theirs = own_reset(keys)
    found = {
        "reset": {
            "obs": float(difference(obs, dict_of(theirs.obs), everything).max()),
            "info": float(difference(state.env_state.state.info, theirs.info, everything).max()),
        }
    }
    if randomize:
        drawn = [np.ptp(np.asarray(leaf), axis=0).max() > 0 for leaf in state.env_state.physics]
        found["randomized_leaves"] = len(drawn)
        assert all(drawn)
    names = ("obs", "reward", "qpos", "info", "own_obs", "own_reward", "own_qpos")
    differences: dict[str, list] = {each: [] for each in names}
    terminated = flags_differ = 0
    step = jax.jit(copies.step)
    for step_key in jax.random.split(key, num_steps):
        action_key, step_key = jax.random.split(step_key)
        shape = (num_envs, *env.action_space.shape)  # of float32, as the space says
        action = jax.random.uniform(action_key, shape, np.float32, minval=-1.0, maxval=1.0)
        begin = state.env_state.state
        qpos = jnp.nextafter(begin.data.qpos, jnp.inf)
        theirs = own_step(begin, action)
        nudged = own_step(begin.replace(data=begin.data.replace(qpos=qpos)), action)
        state, result = step(step_key, state, action)
        done = np.asarray(result.terminated)
        terminated += int(done.sum())
        flags_differ += int((done != (np.asarray(theirs.done) > 0)).sum())
        ours = state.env_state.state
        for quantity, mine, own, rows in (
            ("obs", result.next_obs, dict_of(theirs.obs), everything),
            ("reward", result.reward, theirs.reward, everything),
            ("qpos", ours.data.qpos, theirs.data.qpos, ~done),  # elsewhere it began anew
            ("info", ours.info, theirs.info, ~done),
            ("own_obs", nudged.obs, theirs.obs, everything),
            ("own_reward", nudged.reward, theirs.reward, everything),
            ("own_qpos", nudged.data.qpos, theirs.data.qpos, everything),
        ):
            differences[quantity].append(difference(mine, own, rows))
    for quantity, rows in differences.items():
        rows = np.concatenate(rows)
        found[quantity], found[f"{quantity}_median"] = float(rows.max()), float(np.median(rows))
    found |= {"terminated": terminated, "terminated_differ": flags_differ}
    envs.check(env, num_steps=20)  # raises
    return {
        "env": f"playground/{name}",
        "options": options,
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "num_envs": num_envs,
        "steps": num_steps,
        "seed": seed,
        **found,
        "check": "passed",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "command": shlex.join(["python", "scripts/evidence/compare_playground.py", *sys.argv[1:]]),
        "versions": runner.versions()
        | {each: importlib.metadata.version(each) for each in ("mujoco", "playground")},
    }


def dict_of(obs: Any) -> Any:
    """An observation of Playground's as the adapter gives it."""
    return dict(obs) if hasattr(obs, "items") else obs


def main(argv: list[str]) -> None:
    """Runs what is missing and prints a line each."""
    del argv
    values = flags.FLAGS
    folder = Path(values.out)
    folder.mkdir(parents=True, exist_ok=True)
    double = values.precision == "float64"
    kind = ("_randomized" if values.randomize else "") + ("_float64" if double else "")
    # Playground's robots broadcast ranks.
    with (
        jax.numpy_rank_promotion("allow"),
        jax.default_matmul_precision("highest"),
        jax.enable_x64(double),
    ):
        for name in values.tasks:
            path = folder / f"{name}{kind}.json"
            if not path.exists():
                arguments = (values.randomize, values.num_envs, values.steps, values.seed)
                write_json(path, compare(name, *arguments))
            row = json.loads(path.read_text())
            largest = ", ".join(
                f"{each} {row[each]:.1e} (own {row[f'own_{each}']:.1e})"
                for each in ("obs", "reward", "qpos")
            )
            print(
                f"{path.stem}: {largest}; {row['terminated_differ']} of"
                f" {row['terminated']} ends differ",
                flush=True,
            )


if __name__ == "__main__":
    flags.DEFINE_list("tasks", TASKS, "Playground's names.")
    flags.DEFINE_bool("randomize", False, "Draw the physics, as Playground does for this robot.")
    flags.DEFINE_enum("precision", "float32", ["float32", "float64"], "Of all numbers.")
    flags.DEFINE_integer("num_envs", 4, "Copies, in one program.", lower_bound=1)
    flags.DEFINE_integer("steps", 200, "Steps of each copy.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of actions and beginnings.")
    flags.DEFINE_string(
        "out",
        str(Path(__file__).parents[2] / "results" / "playground"),
        "Folder of the result files.",
    )
    app.run(main)

"""Compares the tasks of `mjx/` with Gymnasium's own, step by step, and their beginnings.

`python scripts/evidence/compare_gymnasium.py` plays each task in Gymnasium with random actions, and
repeats every step from the same state with MJX, in float32 and in float64. It writes
results/gymnasium/TASK.json: the largest difference of observations, rewards and states over all
steps, and the flags that differ. What exists is not run again. With --impl=warp, which has single
precision only and no contact forces, to results/gymnasium/warp/TASK.json.
"""

import functools
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import scipy.stats
from absl import app, flags

from onejit import envs
from onejit.algos.host import runner
from onejit.algos.host.run_folder import write_json

QUANTITIES = ("qpos", "qvel", "obs", "reward")


class Transition(NamedTuple):
    """A step of Gymnasium's; arrays with the steps in front."""

    qpos: Any
    qvel: Any
    qacc_warmstart: Any
    time: Any
    remembered: Any
    action: Any
    next_qpos: Any
    next_qvel: Any
    obs: Any
    reward: Any
    terminated: Any
    truncated: Any


def play(name: str, env: Any, num_steps: int, seed: int) -> tuple[Transition, float]:
    """Steps of Gymnasium's task with uniform actions, and seconds they took."""
    reference = gymnasium.make(name)
    reference.action_space.seed(seed)
    reference.reset(seed=seed)
    data = reference.unwrapped.data
    elapsed = 0
    seconds = 0.0
    steps = []
    for _ in range(num_steps):
        action = reference.action_space.sample()
        before = [
            *map(np.array, (data.qpos, data.qvel, data.qacc_warmstart)),
            elapsed,
            env.remember(data),
            action,
        ]
        start = time.perf_counter()
        obs, reward, terminated, truncated, _ = reference.step(action)
        seconds += time.perf_counter() - start
        steps.append(
            (*before, data.qpos.copy(), data.qvel.copy(), obs, reward, terminated, truncated)
        )
        elapsed += 1
        if terminated or truncated:
            reference.reset()
            elapsed = 0
    return Transition(
        *(jax.tree.map(lambda *x: np.stack(x), *column) for column in zip(*steps, strict=True))
    ), seconds


def differences(env: Any, steps: Transition, batch_size: int) -> dict[str, Any]:
    """How far one step of ours is from one step of theirs: over all steps, the maximum and the
    median.

    A step's difference is the largest of its entries, relative where the entry is above 1.
    """

    def again(row):
        state = env.state(row.qpos, row.qvel)._replace(
            qacc_warmstart=row.qacc_warmstart, time=row.time, remembered=row.remembered
        )
        state, step = env.step(jax.random.key(0), state, row.action)
        return state.qpos, state.qvel, step.obs, step.reward, step.terminated, step.truncated

    floats = jax.tree.map(lambda x: jnp.asarray(x, float if x.dtype.kind == "f" else None), steps)
    ours = jax.jit(lambda rows: jax.lax.map(again, rows, batch_size=batch_size))(floats)
    *values, terminated, truncated = (np.asarray(x, np.float64) for x in ours)
    theirs = (steps.next_qpos, steps.next_qvel, steps.obs, steps.reward)
    found: dict[str, Any] = {
        "terminated_differ": int(np.sum(terminated != steps.terminated)),
        "truncated_differ": int(np.sum(truncated != steps.truncated)),
    }
    for quantity, x, y in zip(QUANTITIES, values, theirs, strict=True):
        distance = (np.abs(x - y) / np.maximum(1.0, np.abs(y))).reshape(len(x), -1).max(axis=1)
        found[quantity], found[f"{quantity}_median"] = (
            float(distance.max()),
            float(np.median(distance)),
        )
    return found


def beginnings(name: str, env: Any, num_resets: int, seed: int) -> float:
    """The smallest p-value of Kolmogorov–Smirnov tests between the first observations of both,
    Bonferroni corrected.
    """
    reference = gymnasium.make(name)
    reference.reset(seed=seed)
    theirs = np.stack([reference.reset()[0] for _ in range(num_resets)])
    keys = jax.random.split(jax.random.key(seed), num_resets)
    ours = np.asarray(
        jax.jit(lambda keys: jax.lax.map(lambda key: env.reset(key)[1], keys, batch_size=50))(keys)
    )
    moving = [
        i
        for i in range(theirs.shape[1])
        if np.ptp(theirs[:, i]) > 1e-6 or np.ptp(ours[:, i]) > 1e-6
    ]
    still = [i for i in range(theirs.shape[1]) if i not in moving]
    np.testing.assert_allclose(
        ours[:, still].mean(axis=0), theirs[:, still].mean(axis=0), atol=1e-4
    )
    smallest = min(scipy.stats.ks_2samp(ours[:, i], theirs[:, i]).pvalue for i in moving)
    return float(min(1.0, smallest * len(moving)))


def compare(name: str, impl: str, num_steps: int, num_resets: int, seed: int) -> dict[str, Any]:
    """What the result file of a task holds."""
    with jax.enable_x64(True):
        steps, seconds = play(name, envs.make(f"mjx/{name}"), num_steps, seed)
    make = functools.partial(envs.make, f"mjx/{name}", impl=impl)
    result = {
        "env": f"mjx/{name}",
        "options": {"solver": "exact", "impl": impl},
        "steps": num_steps,
        "seed": seed,
        "terminated": int(steps.terminated.sum()),
        "truncated": int(steps.truncated.sum()),
        "gymnasium_steps_per_s": round(num_steps / seconds),
    }
    for precision in ("float32", "float64") if impl == "jax" else ("float32",):
        with jax.enable_x64(precision == "float64"):
            result[precision] = differences(make(), steps, batch_size=50)
    result["resets"] = num_resets
    result["resets_p_value"] = beginnings(name, make(), num_resets, seed)
    command = shlex.join(["python", "scripts/evidence/compare_gymnasium.py", *sys.argv[1:]])
    versions = runner.versions() | {
        "gymnasium": gymnasium.__version__,
        "mujoco": mujoco.__version__,
    }
    return result | {"command": command, "versions": versions}


def main(argv: list[str]) -> None:
    """Runs what is missing and prints a table."""
    del argv
    values = flags.FLAGS
    folder = Path(values.out) / ("" if values.impl == "jax" else values.impl)
    folder.mkdir(parents=True, exist_ok=True)
    for name in values.tasks or [env_id.partition("/")[2] for env_id in envs.env_ids("mjx")]:
        path = folder / f"{name}.json"
        if not path.exists():
            write_json(path, compare(name, values.impl, values.steps, values.resets, values.seed))
        row = json.loads(path.read_text())
        print(f"{name}: beginnings p = {row['resets_p_value']:.2f}")
        for precision in sorted({"float32", "float64"} & row.keys()):
            found = row[precision]
            largest = ", ".join(f"{quantity} {found[quantity]:.1e}" for quantity in QUANTITIES)
            flags_differ = found["terminated_differ"] + found["truncated_differ"]
            print(f"  {precision}: {largest}, {flags_differ} flags differ", flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("tasks", None, "Gymnasium's names; all by default.")
    flags.DEFINE_enum("impl", "jax", ["jax", "warp"], "Of MJX.")
    flags.DEFINE_integer("steps", 1000, "Steps of each task.", lower_bound=1)
    flags.DEFINE_integer("resets", 1000, "Episodes whose beginnings are compared.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Of actions and beginnings.")
    flags.DEFINE_string(
        "out",
        str(Path(__file__).parents[2] / "results" / "gymnasium"),
        "Folder of the result files.",
    )
    app.run(main)

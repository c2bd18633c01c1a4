"""Several devices: is learned what one device learns, what is exchanged, and what does it cost?

`python scripts/evidence/devices.py` runs what has no result file in results/devices/ yet, prints
three tables from all that are there, and draws results/devices.png. `--cells=learn_ppo` runs those
whose name has the word in it. Devices are forced ones of a CPU, which share its cores: nothing here
is a speed-up.

* learn_*: vmapped seeds on one device and on four. A seed is evaluated from the same start states
  on both, or these would be a good part of what differs. The table compares the mean return over
  the whole run and the last evaluation: the difference with its 95 % interval (Welch), and p-values
  of Welch's t-test and of the Mann-Whitney test, two-sided, not corrected for their number.
* exchange_*: bytes that a device puts into all-reduce and all-gather in one `step`, loops counted
  as often as they run, and how many instructions for it the compiled program has, loops once.
* equal_work_*: seconds of a step of the same totals on 1, 2, 4 and 8 devices, best of several
  rounds in turns; population: of eight members, on 1, 2, 4 and 8 groups of one device.
"""

import json
import math
import shlex
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from collectives import collectives
from learning_curves import plot
from scipy import stats

from onejit import algos, envs
from onejit.algos.core import evaluation, training
from onejit.algos.core.algorithm import Algorithm
from onejit.algos.host import runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
MOST = 8  # forced devices
ROWS = 20
ROUNDS = 5
EPISODES = 32  # of an evaluation


class Task(NamedTuple):
    """An algorithm on an environment, small."""

    algorithm: str
    env: str
    config: dict[str, Any]


_PPO = {"num_envs": 32, "num_steps": 32, "learning_rate": 1e-3, "hidden_sizes": (32, 32)}
_SAC = {
    "num_envs": 8,
    "num_updates": 8,
    "learning_starts": 512,
    "batch_size": 64,
    "buffer_size": 16_000,
    "learning_rate": 1e-3,
    "actor_hidden_sizes": (64, 64),
    "critic_hidden_sizes": (64, 64),
}
LEARN = {
    "ppo": Task("ppo", "gymnax/CartPole-v1", _PPO | {"total_steps": 100_000}),
    "sac": Task("sac", "gymnax/Pendulum-v1", _SAC | {"total_steps": 16_000}),
    "staq": Task("staq", "gymnax/CartPole-v1", {"memory": 10, "total_steps": 40_000}),
}
COST = {
    "ppo": Task("ppo", "gymnax/CartPole-v1", {}),
    "sac": Task("sac", "gymnax/Pendulum-v1", {"num_envs": 8}),
    "fast_td3": Task("fast_td3", "gymnax/Pendulum-v1", {}),
    "staq": Task("staq", "gymnax/CartPole-v1", {"memory": 10}),
}


def make(task: Task) -> Algorithm:
    """The algorithm of a task."""
    module = getattr(algos, task.algorithm)
    return module.make(envs.make(task.env), module.Config(**task.config))


def learn(task: Task, num_devices: int, seeds: int) -> dict[str, Any]:
    """Trains vmapped seeds on so many devices; returns `[seeds, rows]` of evaluations."""
    algorithm = make(task)
    mesh = algos.make_mesh(num_devices)
    iterations = algorithm.iterations(algorithm.config.total_steps)
    every = max(1, iterations // ROWS)

    def evaluate(state, key):  # not shared: each device plays all episodes
        act, memory = evaluation.player(algorithm, state, deterministic=True)
        limits = {"num_episodes": EPISODES, "memory": memory}
        episodes = evaluation.evaluate(algorithm.env, act, key, **limits)
        return {"eval/episodic_return": jnp.mean(episodes.returns)}

    @jax.jit
    @jax.vmap
    def run(key):
        options = {"num_iterations": iterations // every * every, "log_every": every}
        _, history = algos.train(algorithm, key, mesh=mesh, evaluate=evaluate, **options)
        return history["eval/episodic_return"]

    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    start = time.perf_counter()
    returns = np.asarray(run(keys))
    steps = [algorithm.steps_after(every * (row + 1)) for row in range(returns.shape[1])]
    return {
        "seeds": list(range(seeds)),
        "steps": steps,
        "returns": np.round(returns, 2).tolist(),
        "seconds": round(time.perf_counter() - start, 1),
    }


def exchanged(jaxpr: Any, times: int = 1) -> Counter[str]:
    """Bytes of each kind of collective in a jaxpr, of one device."""
    found = Counter()
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name.startswith(("psum", "pmax", "all_gather")):
            sizes = [math.prod(x.aval.shape) * x.aval.dtype.itemsize for x in equation.invars]
            kind = "all-gather" if name.startswith("all_gather") else "all-reduce"
            found[kind] += times * sum(sizes)
        inner = times * equation.params.get("length", 1) if name == "scan" else times
        for each in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            each = getattr(each, "jaxpr", each)
            if hasattr(each, "eqns"):
                found += exchanged(each, inner)
    return found


def exchange(task: Task) -> dict[str, Any]:
    """What is exchanged in a step on four devices, beside what a device keeps."""
    algorithm = algos.distribute(make(task), algos.make_mesh(4))
    shape = jax.eval_shape(algorithm.init, jax.random.key(0))
    shape = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shape,
        algorithm.shardings,
    )
    step = jax.jit(algorithm.step, donate_argnums=0)
    instructions = Counter(each.kind for each in collectives(step.lower(shape).compile()))
    params = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shape.learner.params))
    return {
        "steps_per_iteration": algorithm.steps_per_iteration,
        "parameter_bytes": params,
        "bytes": exchanged(jax.make_jaxpr(algorithm.step)(shape).jaxpr),
        "instructions": instructions,
    }


def timed(programs: dict[int, Any], states: dict[int, Any], iterations: int) -> dict[str, float]:
    """Seconds of one iteration of each program, best of `ROUNDS` in turns."""
    best = dict.fromkeys(programs, math.inf)
    for _ in range(ROUNDS):
        for number, program in programs.items():
            start = time.perf_counter()
            states[number], _ = program(states[number], jnp.int32(iterations))
            jax.block_until_ready(states[number])
            best[number] = min(best[number], (time.perf_counter() - start) / iterations)
    return {str(number): round(seconds, 6) for number, seconds in best.items()}


def equal_work(task: Task) -> dict[str, Any]:
    """A step with the same totals on several numbers of devices."""
    programs, states = {}, {}
    for number in (1, 2, 4, 8):
        algorithm = algos.distribute(make(task), algos.make_mesh(number))
        states[number] = jax.jit(algorithm.init)(jax.random.key(0))
        advance = jax.jit(
            lambda state, number, a=algorithm: training.advance(a, state, number), donate_argnums=0
        )
        states[number], _ = advance(states[number], jnp.int32(1))
        programs[number] = advance
    iterations = 200 if task.algorithm == "sac" else 10
    return {"seconds_per_step": timed(programs, states, iterations)}


def population() -> dict[str, Any]:
    """A step of eight members of PPO, on one device and along the axis of populations."""
    algorithm = make(LEARN["ppo"])
    keys = jax.random.split(jax.random.key(0), 8)
    programs, states = {}, {}
    for number in (1, 2, 4, 8):
        mesh = algos.make_mesh(1, population=number)
        member = jax.sharding.PartitionSpec("population")
        every = jax.sharding.PartitionSpec()

        def each(state, number):
            return jax.vmap(lambda state: training.advance(algorithm, state, number))(state)

        def on_mesh(function, given, out, mesh=mesh):
            options = {"mesh": mesh, "in_specs": given, "out_specs": out, "check_vma": False}
            return jax.shard_map(function, **options)

        init = jax.jit(on_mesh(jax.vmap(algorithm.init), (member,), member))
        advance = jax.jit(on_mesh(each, (member, every), (member, member)), donate_argnums=0)
        states[number], _ = advance(init(jax.random.clone(keys)), jnp.int32(1))
        programs[number] = advance
    return {"seconds_per_step": timed(programs, states, 20)}


def cells(seeds: int) -> dict[str, Any]:
    """What is run, by name: functions without arguments."""
    found = {}
    for name, task in COST.items():
        found[f"exchange_{name}"] = lambda task=task: exchange(task)
    for name in ("ppo", "sac"):
        found[f"equal_work_{name}"] = lambda task=COST[name]: equal_work(task)
    found["population"] = population
    for name, task in LEARN.items():
        for number in (1, 4):
            key = f"learn_{name}_{number}"
            found[key] = lambda task=task, number=number: learn(task, number, seeds)
    return found


def compared(one: np.ndarray, several: np.ndarray) -> dict[str, float]:
    """How two samples of seeds differ."""
    welch = stats.ttest_ind(several, one, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    return {
        "one": float(one.mean()),
        "several": float(several.mean()),
        "low": float(low),
        "high": float(high),
        "welch": float(welch.pvalue),
        "mann_whitney": float(stats.mannwhitneyu(several, one).pvalue),
    }


def tables(results: dict[str, dict]) -> list[str]:
    """The tables of the page, as lines."""
    lines = ["| | 1 device | 4 devices | difference | Welch p | Mann-Whitney p |", "|" + "---|" * 6]
    for name in LEARN:
        pair = [results.get(f"learn_{name}_{number}") for number in (1, 4)]
        if None in pair:
            continue
        returns = [np.array(each["returns"]) for each in pair]
        for what, part in {"whole run": np.mean, "last": lambda x, axis: x[:, -1]}.items():
            found = compared(*(part(each, axis=1) for each in returns))
            lines.append(
                f"| {name}, {what} | {found['one']:.1f} | {found['several']:.1f} |"
                f" {found['low']:.1f} to {found['high']:.1f} | {found['welch']:.2f} |"
                f" {found['mann_whitney']:.2f} |"
            )
    kinds = ("all-reduce", "all-gather")
    heads = [f"{kind}, bytes" for kind in kinds] + [f"{kind}, instructions" for kind in kinds]
    lines += ["", f"| a step of | environment steps | parameters, bytes | {' | '.join(heads)} |"]
    lines.append("|" + "---|" * (3 + len(heads)))
    for name in COST:
        found = results.get(f"exchange_{name}")
        if found:
            numbers = [found["steps_per_iteration"], found["parameter_bytes"]]
            for what in ("bytes", "instructions"):
                numbers += [found[what].get(kind, 0) for kind in kinds]
            lines.append(f"| {name} | " + " | ".join(f"{x:,}" for x in numbers) + " |")
    lines += ["", "| ms | 1 | 2 | 4 | 8 |", "|" + "---|" * 5]
    for name in ("equal_work_ppo", "equal_work_sac", "population"):
        if name in results:
            seconds = results[name]["seconds_per_step"].values()
            lines.append(f"| {name} | " + " | ".join(f"{1e3 * x:.2f}" for x in seconds) + " |")
    return lines


def draw(results: dict[str, dict], path: Path) -> None:
    """The learning curves on one device and on four, with every seed as a thin line."""
    from matplotlib.figure import Figure

    whole = [name for name in LEARN if {f"learn_{name}_1", f"learn_{name}_4"} <= results.keys()]
    if not whole:
        return
    figure = Figure(figsize=(4.2 * len(whole), 3.2), layout="constrained")
    panels = figure.subplots(1, len(whole), squeeze=False)[0]
    for axes, name in zip(panels, whole, strict=True):
        for colour, number in (("C0", 1), ("C1", 4)):
            result = results[f"learn_{name}_{number}"]
            label = f"{number} device{'s' if number > 1 else ''}"
            plot(axes, np.array(result["steps"]), np.array(result["returns"]).T, colour, label)
        axes.set_title(f"{name.upper()}, {LEARN[name].env}", fontsize=10)
        axes.set(xlabel="environment steps", ylabel="return")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(argv: list[str]) -> None:
    """Runs what is missing, prints the tables and draws."""
    del argv
    jax.config.update("jax_num_cpu_devices", MOST)
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    every = cells(flags.FLAGS.seeds)
    wanted = [name for name in every if any(word in name for word in flags.FLAGS.cells)]
    if not wanted:
        sys.exit(f"no cell has any of {flags.FLAGS.cells} in its name; known: {', '.join(every)}")
    command = shlex.join(["python", "scripts/evidence/devices.py", *sys.argv[1:]])
    for name in wanted:
        path = folder / f"{name}.json"
        if not path.exists():
            made = {"command": command, "versions": runner.versions(), "forced_devices": MOST}
            write_json(path, every[name]() | made)
            print(f"{name} is done", flush=True)
    paths = {name: folder / f"{name}.json" for name in every}
    results = {name: json.loads(x.read_text()) for name, x in paths.items() if x.exists()}
    print("\n".join(tables(results)))
    draw(results, folder.with_suffix(".png"))


if __name__ == "__main__":
    flags.DEFINE_list("cells", ["_", "population"], "Words; a cell is run that has one of them.")
    flags.DEFINE_integer("seeds", 20, "Of the learning curves.", 2)
    flags.DEFINE_string("out", str(RESULTS / "devices"), "Folder of the result files.")
    app.run(main)

"""PPO-EWMA, FixPO, R²VPO, annealed Q-learning, AVG and PROPS beside their siblings: what do the
papers claim?

`python scripts/evidence/compare_papers.py` trains five vmapped seeds of each cell and writes
results/papers/CELL.json; what exists is not run again. From the files it prints a table with 95 %
intervals over seeds. `--cells=stale` runs those whose name has the word in it.

* stale_*: CartPole, the policy that collects lags behind by 0, 4 or 8 iterations: PPO and PPO-EWMA.
* batch_*: CartPole and Pendulum with the preset of PPO: whole batches, and a fourth of them by a
  fourth of the environments, as it is and by the rules for smaller batches: PPO-EWMA's own, and for
  PPO steps that are shorter by half.
* family_*: CartPole, Acrobot and Pendulum with the preset of PPO, the whole on-policy family. A row
  of these is one iteration, so that the largest divergence of any state, `losses/max_kl`, is of
  each. `--times` times an iteration of each with one seed, and one with no update in it, into
  family_times.json (with nothing else running); `--figure=PATH` draws all of that.
* annealed_*: Pendulum with the preset of TD3: TD3, and its critics' expectile annealed from 0.9 to
  ½, or fixed at 0.95. `losses/q` is what the critics say of the replay's actions.
* annealed_fast_*: Pendulum with the preset of FastSAC: FastSAC, whose critics are categorical, and
  with critics that put out a number: squared errors throughout, the expectile annealed, and fixed.
* crossq_*: Pendulum with the preset of CrossQ, 10k steps: SAC, and CrossQ.
* avg_*: Pendulum with the preset of AVG: all of its normalisations, each taken away, and none. All
  have the step sizes of the first.
* props_*: CartPole with one environment and rollouts of 256 steps: PPO, and PROPS with the paper's
  numbers for discrete actions. `sampling_error.py` measures what PROPS is after.

Nothing is tuned: all have the learning rate and the sizes of their sibling's preset (AVG of its
own).
"""

import json
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from learning_curves import ROWS, measure, plot

from onejit import algos, envs
from onejit.algos.core import training
from onejit.algos.host import plotting, presets, runner
from onejit.algos.host.run_folder import write_json
from onejit.algos.on_policy import loop

RESULTS = Path(__file__).parents[2] / "results" / "papers"


class Cell(NamedTuple):
    """An algorithm on an environment, with the preset of another and changes to it."""

    algorithm: str
    env: str
    preset: str
    changes: dict
    metrics: tuple[str, ...] = ("losses/approx_kl",)
    every_iteration: bool = False


def _stale(name, staleness):
    changes = {"staleness": staleness, "total_steps": 300_000}
    return Cell(name, "gymnax/CartPole-v1", "ppo", changes)


def _batch(name, env, small, by_the_rule=True):
    module, changes = getattr(algos, name), {"total_steps": 300_000}
    config = module.Config(**presets.get("ppo", env))
    if small:
        changes["num_envs"] = config.num_envs // SMALLER
    if small and by_the_rule and name == "ppo":
        changes["learning_rate"] = config.learning_rate / SMALLER**0.5
    elif small and by_the_rule:
        rule = config.for_batch_smaller_by(SMALLER)
        changes |= {key: getattr(rule, key) for key in ("learning_rate", "proximal_decay")}
    return Cell(name, env, "ppo", changes)


def _family(name, env):
    bound = ("losses/max_kl", "losses/fixup_steps", "losses/fixup_failed")
    metrics = ("losses/approx_kl", *(bound if name == "fixpo" else ()))
    return Cell(name, env, "ppo", {"total_steps": 300_000}, metrics, every_iteration=True)


def _annealed(name, **changes):
    changes = {"total_steps": 10_000} | changes
    return Cell(name, "gymnax/Pendulum-v1", "td3", changes, ("losses/q",))


def _fast(name, **changes):
    changes = {"total_steps": 40_000} | changes
    return Cell(name, "gymnax/Pendulum-v1", name, changes, ("losses/q",))


def _crossq(name):
    return Cell(name, "gymnax/Pendulum-v1", "crossq", {"total_steps": 10_000}, ("losses/q",))


def _avg(*without):
    changes = {"total_steps": 100_000} | dict.fromkeys(without, False)
    return Cell("avg", "gymnax/Pendulum-v1", "avg", changes, ("losses/q",))


def _few(name, **changes):
    sizes = {"num_envs": 1, "num_steps": 256, "total_steps": 100_000}
    return Cell(name, "gymnax/CartPole-v1", "ppo", sizes | changes)


SMALLER = 4
FITS = {"refresh_every": 16, "behaviour_minibatches": 4, "behaviour_kl": 0.01}
NORMALISATIONS = ("normalize_obs", "normalize_features", "scale_td_error")
FAMILY = {
    "ppo": "PPO",
    "spo": "SPO",
    "mdpo": "MDPO",
    "ppo_ewma": "PPO-EWMA",
    "fixpo": "FixPO",
    "r2vpo": "R²VPO",
}
TASKS = {
    "cartpole": "gymnax/CartPole-v1",
    "acrobot": "gymnax/Acrobot-v1",
    "pendulum": "gymnax/Pendulum-v1",
}
BATCHES = {"": (False,), "_fourth": (True, False), "_fourth_rule": (True, True)}
CELLS = {
    **{f"stale_{n}_{k}": _stale(n, k) for n in ("ppo", "ppo_ewma") for k in (0, 4, 8)},
    **{
        f"batch_{task}_{n}{end}": _batch(n, TASKS[task], *how)
        for task in ("cartpole", "pendulum")
        for n in ("ppo", "ppo_ewma")
        for end, how in BATCHES.items()
    },
    **{f"family_{task}_{n}": _family(n, env) for task, env in TASKS.items() for n in FAMILY},
    "annealed_td3": _annealed("td3"),
    "annealed_aq_td3": _annealed("aq_td3"),
    **{f"crossq_{name}": _crossq(name) for name in ("sac", "crossq")},
    "avg_all": _avg(),
    **{f"avg_not_{name}": _avg(name) for name in NORMALISATIONS},
    "avg_none": _avg(*NORMALISATIONS),
    "props_ppo": _few("ppo"),
    "props_props": _few("props", **FITS),
    "annealed_fast_sac": _fast("fast_sac"),
    "annealed_fast_squared": _fast("aq_fast_sac", expectile=0.5),
    "annealed_fast_aq": _fast("aq_fast_sac"),
    "annealed_fast_fixed": _fast("aq_fast_sac", expectile=0.95, final_expectile=0.95),
    "annealed_aq_td3_fixed": _annealed("aq_td3", expectile=0.95, final_expectile=0.95),
}


def run_cell(cell: Cell, seeds: int, total_steps: int | None) -> dict:
    """Trains all seeds of a cell and returns what the result file holds."""
    module = getattr(algos, cell.algorithm)
    changes = cell.changes | ({} if total_steps is None else {"total_steps": total_steps})
    config = module.Config(**presets.get(cell.preset, cell.env) | changes)
    algorithm = module.make(envs.make(cell.env), config)
    rows = algorithm.iterations(config.total_steps) if cell.every_iteration else ROWS
    measured = measure(
        algorithm, seeds, vmapped=True, eval_episodes=0, metrics=cell.metrics, rows=rows
    )
    return {"algorithm": cell.algorithm, "env": cell.env, "changes": cell.changes, **measured}


def no_update(learner, batch, key, *, networks, config):
    """An update that reads the rollout and learns nothing."""
    del key, networks, config
    read = sum(jnp.mean(x.astype(jnp.float32)) for x in jax.tree.leaves(batch))
    return learner._replace(iteration=learner.iteration + 1), {"read": read}


def times_of(cell: Cell, iterations: int = 50, repeats: int = 5) -> dict:
    """Milliseconds of an iteration of one seed, and of one with no update: medians of repeats."""
    module = getattr(algos, cell.algorithm)
    config = module.Config(**presets.get(cell.preset, cell.env) | cell.changes)
    env = envs.make(cell.env)
    collecting = loop.maker(module.Config, no_update, module.init_learner)
    found = {}
    for name, make in {"iteration_ms": module.make, "collecting_ms": collecting}.items():
        algorithm = make(env, config)
        state = jax.jit(algorithm.init)(jax.random.key(0))
        advance = partial(training.advance, algorithm, num_iterations=iterations)
        advance = jax.jit(advance).lower(state).compile()
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(advance(state))
            seconds.append(time.perf_counter() - start)
        found[name] = round(1e3 * statistics.median(seconds) / iterations, 3)
    return found


def summary(result: dict) -> dict:
    """What the table says of a cell: the mean return of the whole run and of its last fifth, with
    intervals, and its metrics' last, mean and largest values.
    """
    returns = np.array(result["returns"], float)  # [seeds, rows]
    last = max(1, returns.shape[1] // 5)
    parts = np.stack([np.nanmean(returns, 1), np.nanmean(returns[:, -last:], 1)])
    low, high = plotting.interval_of_mean(parts)
    found = {
        name: f"{mean:.1f} ({a:.1f} to {b:.1f})"
        for name, mean, a, b in zip(("whole", "last"), parts.mean(1), low, high, strict=True)
    }
    for name, values in result.items():
        if name.startswith("losses/"):
            values = np.array(values, float)
            numbers = np.nanmean(values[:, -last:]), np.nanmean(values), np.nanmax(values)
            found[name] = " / ".join(f"{x:.4g}" for x in numbers)
    return found


def draw(folder: Path, path: Path) -> None:
    """A column for each task: return and KL against steps, mean over seeds with a 95 % interval and
    every seed as a thin line, and how long an iteration takes to collect and to update.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(TASKS), 8.4), layout="constrained")
    panels = figure.subplots(3, len(TASKS), squeeze=False)
    times = json.loads((folder / "family_times.json").read_text())["times"]
    for column, (task, env) in enumerate(TASKS.items()):
        returns, kl, bars = panels[:, column]
        for i, (name, title) in enumerate(FAMILY.items()):
            result = json.loads((folder / f"family_{task}_{name}.json").read_text())
            steps = np.array(result["steps"])
            parts = np.array_split(np.arange(len(steps)), min(ROWS, len(steps)))
            ends = steps[[part[-1] for part in parts]]
            # In many iterations no episode ends.
            for axes, values in ((returns, result["returns"]), (kl, result["losses/approx_kl"])):
                values = np.array(values, float)
                means = np.stack([np.nanmean(values[:, part], axis=1) for part in parts])
                plot(axes, ends, means, f"C{i}", title)
            whole, collect = times[f"family_{task}_{name}"].values()
            bars.barh(title, collect, color="0.6", label=None if i else "collecting")
            bars.barh(title, whole - collect, left=collect, color=f"C{i}")
        returns.set_title(env.removeprefix("gymnax/"))
        returns.set_ylabel("return")
        kl.set_ylabel("KL(old‖new), nats")
        kl.set_yscale("log")
        kl.set_xlabel("environment steps")
        for axes in (returns, kl):
            axes.ticklabel_format(axis="x", scilimits=(3, 3), useMathText=True)
            axes.grid(alpha=0.3)
        bars.set_xlabel("ms of an iteration")
        bars.invert_yaxis()
        bars.legend(frameon=False)
    panels[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    wanted = [name for name in CELLS if any(word in name for word in flags.FLAGS.cells)]
    if not wanted:
        sys.exit(f"no cell has any of {flags.FLAGS.cells} in its name; known: {', '.join(CELLS)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    print("| cell | return, whole run | return, last fifth | last fifth / mean / largest |")
    print("|---|---|---|---|")
    for name in wanted:
        path = folder / f"{name}.json"
        if not path.exists():
            result = run_cell(CELLS[name], flags.FLAGS.seeds, flags.FLAGS.total_steps)
            write_json(path, result)
        found = summary(json.loads(path.read_text()))
        whole, last = found.pop("whole"), found.pop("last")
        metrics = ", ".join(f"{key.removeprefix('losses/')} {x}" for key, x in found.items())
        print(f"| {name} | {whole} | {last} | {metrics} |", flush=True)
    if flags.FLAGS.times:
        times = {name: times_of(CELLS[name]) for name in wanted if CELLS[name].every_iteration}
        known = {"command": " ".join(["python scripts/evidence/compare_papers.py", *sys.argv[1:]])}
        write_json(
            folder / "family_times.json", known | {"versions": runner.versions(), "times": times}
        )
    if flags.FLAGS.figure:
        draw(folder, Path(flags.FLAGS.figure))


if __name__ == "__main__":
    flags.DEFINE_list("cells", ["_"], "Words; a cell is run that has one of them in its name.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("total_steps", None, "Environment steps of each, for a try.")
    flags.DEFINE_string("out", str(RESULTS), "Folder of the result files.")
    flags.DEFINE_bool("times", False, "Whether iterations of the family are timed.")
    flags.DEFINE_string("figure", None, "A picture of the family to draw, from all its cells.")
    app.run(main)

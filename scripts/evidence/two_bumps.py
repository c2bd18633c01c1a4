"""Policies that denoise, on a density of two bumps in the plane: what do the objectives of single
steps do to a reward, and to the bump that it does not ask for?

`python scripts/evidence/two_bumps.py` trains five vmapped seeds of each cell (a method and a
reward) and writes results/two_bumps/METHOD_REWARD.json; what exists is not run again. From all
files it draws results/two_bumps.png, samples before and after and the reward on the way, and prints
a table. `--methods=loop,find --rewards=right --seeds=2` runs a part.

In every cell a small network learns the velocity of a flow from noise (time 1) to the bumps (time
0) by flow matching, and samples by eight Gaussian steps of constant noise. "radial" then pays for a
distance of 2.6 from the origin, which is a little beyond both bumps; "right" for being near the
right one. The methods are `onejit.losses.denoising` put together:

  loop        each step's ratio clipped, advantages beside the other samples of the group
  grpo_guard  the ratio regulated and each step weighed by its length, normalised advantages
  find        the flow stays, a Gaussian of the noise that it starts from is learnt
  ac_flow     flow matching on its own samples, weighed by e^advantage, near the flow before
  gpc         nothing is trained: flows of two densities composed, the weights best in rollouts

All settings are the same but the rate and what a method's loss has of its own; none was searched.
"""

import json
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from compare_objectives import summary
from two_bumps_flow import Policy, chain, pretrain, sample
from two_bumps_methods import METHODS, compose, finetune

from onejit.algos.host import plotting, runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
EVAL_SAMPLES = 2048
SHOWN = 250


def radial(x: chex.Array) -> chex.Array:
    return jnp.exp(-jnp.square((jnp.linalg.norm(x, axis=-1) - 2.6) / 0.4) / 2.0)


def right(x: chex.Array) -> chex.Array:
    along, across = x[..., 0] - 2.0, x[..., 1]
    return jnp.exp(-(jnp.square(along) + jnp.square(across)) / (2.0 * 0.5**2))


REWARDS = {"radial": radial, "right": right}


def measure(points: chex.Array, reward: Callable) -> dict:
    """Of samples `[S, 2]`: the mean reward, and the share of the smaller side of two, doubled."""
    share = jnp.mean(points[:, 0] > 0.0, dtype=jnp.float32)
    return {
        "reward": jnp.mean(reward(points)),
        "right": share,
        "kept": 2.0 * jnp.minimum(share, 1.0 - share),
    }


def train(key: chex.PRNGKey, *, method: str, reward: str, pretraining: int, updates: int) -> dict:
    """A seed of a cell: numbers and samples before and after, and the reward on the way."""
    judge = REWARDS[reward]
    flow_key, other_key, tune_key, *keys = jax.random.split(key, 6)
    flow = pretrain(flow_key, "two", pretraining)
    before = sample(Policy(flow, jnp.zeros(2), jnp.ones(2)), keys[0], EVAL_SAMPLES)[0][:, -1]
    if method == "gpc":
        flows = flow, pretrain(other_key, "other", pretraining)
        field, curve = compose(tune_key, flows, judge)
        after = chain(field, jax.random.normal(keys[1], (EVAL_SAMPLES, 2)), keys[2])[0][:, -1]
    else:
        policy, curve = finetune(tune_key, flow, method, judge, updates)
        after = sample(policy, keys[1], EVAL_SAMPLES)[0][:, -1]
    return {
        "before": measure(before, judge),
        "after": measure(after, judge),
        "samples": jnp.stack([before[:SHOWN], after[:SHOWN]]),
        "curve": curve,
    }


def run_cell(method: str, reward: str, seeds: int, pretraining: int, updates: int) -> dict:
    """Trains all seeds of a cell in one program, and returns what the result file holds."""
    cell = {"method": method, "reward": reward, "pretraining": pretraining, "updates": updates}
    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    start = time.perf_counter()
    compiled = jax.jit(jax.vmap(partial(train, **cell))).lower(keys).compile()
    middle = time.perf_counter()
    found = jax.device_get(compiled(keys))
    end = time.perf_counter()
    if not all(np.isfinite(x).all() for x in jax.tree.leaves(found)):
        raise RuntimeError(f"{method}, {reward}: not finite")
    rate = {} if METHODS[method] is None else {"learning_rate": METHODS[method][1]}
    return {
        **cell,
        **rate,
        "seeds": list(range(seeds)),
        "command": shlex.join(
            ["python", "scripts/evidence/" + Path(sys.argv[0]).name, *sys.argv[1:]]
        ),
        "versions": runner.versions(),
        "compile_s": round(middle - start, 2),
        "run_s": round(end - middle, 2),
        **{
            when: {name: summary(x) for name, x in found[when].items()}
            for when in ("before", "after")
        },
        "curve": np.round(found["curve"].astype(float), 4).tolist(),
        "samples": np.round(found["samples"][0].astype(float), 2).tolist(),
    }


def draw(results: list[dict], path: Path) -> None:
    """A row for each reward: samples of the first seed before (grey) and after, a panel for each
    method, in a line that goes through half of the reward; and the reward on the way.
    """
    from matplotlib.figure import Figure

    rewards = list(dict.fromkeys(result["reward"] for result in results))
    methods = list(dict.fromkeys(result["method"] for result in results))
    size = (2.1 * (len(methods) + 1) + 0.6, 2.2 * len(rewards))
    figure = Figure(figsize=size, layout="constrained")
    rows = figure.subplots(len(rewards), len(methods) + 1, squeeze=False)
    grid = np.stack(np.meshgrid(np.linspace(-3.5, 3.5, 101), np.linspace(-3.0, 3.0, 101)), axis=-1)
    for row, reward in zip(rows, rewards, strict=True):
        for result in (result for result in results if result["reward"] == reward):
            i = methods.index(result["method"])
            asked = np.asarray(REWARDS[reward](jnp.asarray(grid)))
            row[i].contour(*np.moveaxis(grid, -1, 0), asked, [0.5], colors="0.4", linewidths=0.7)
            for points, colour in zip(result["samples"], ("0.75", f"C{i}"), strict=True):
                row[i].scatter(*np.array(points).T, s=3, color=colour, linewidths=0)
            after = result["after"]
            row[i].set_title(
                f"{result['method']}, {reward}\nreward {after['reward']['mean']:.2f},"
                f" kept {after['kept']['mean']:.2f}",
                fontsize=8,
            )
            row[i].set(xlim=(-3.5, 3.5), ylim=(-3.0, 3.0), aspect="equal")
            if METHODS[result["method"]] is not None:
                curve = np.array(result["curve"]).T
                updates = 1 + np.arange(len(curve))
                row[-1].plot(updates, curve.mean(axis=1), color=f"C{i}", linewidth=1.0)
                band = plotting.interval_of_mean(curve)
                row[-1].fill_between(updates, *band, color=f"C{i}", alpha=0.25, linewidth=0)
        row[-1].set(ylim=(0, 1))
        row[-1].set_xlabel("updates", fontsize=8)
        row[-1].set_title("mean reward of the seeds", fontsize=8)
        for axes in row:
            axes.tick_params(labelsize=6)
            axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(results: list[dict]) -> str:
    """Means over seeds before and after, with 95 % intervals."""
    lines = ["| reward | method | before | after | kept before | kept after |", "|" + "---|" * 6]
    for result in results:
        numbers = [
            result[when][name] for name in ("reward", "kept") for when in ("before", "after")
        ]
        ranges = [f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in numbers]
        lines.append(f"| {result['reward']} | {result['method']} | {' | '.join(ranges)} |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    for name, known in {"methods": METHODS, "rewards": REWARDS}.items():
        unknown = set(flags.FLAGS[name].value) - set(known)
        if unknown:
            sys.exit(f"unknown {name} {sorted(unknown)}; known: {', '.join(known)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for reward in flags.FLAGS.rewards:
        for method in flags.FLAGS.methods:
            path = folder / f"{method}_{reward}.json"
            if not path.exists():
                sizes = flags.FLAGS.seeds, flags.FLAGS.pretraining, flags.FLAGS.updates
                write_json(path, run_cell(method, reward, *sizes))
                print(f"{path.stem}: written", flush=True)
            results.append(json.loads(path.read_text()))
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("methods", list(METHODS), "Which methods to run.")
    flags.DEFINE_list("rewards", list(REWARDS), "Which rewards.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("pretraining", 2000, "Updates of flow matching.")
    flags.DEFINE_integer("updates", 200, "Updates of a method.")
    flags.DEFINE_string(
        "out", str(RESULTS / "two_bumps"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

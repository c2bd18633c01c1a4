"""Gradients through an environment, natural gradients, and gradients that are carried along: what
do the papers claim?

`python scripts/evidence/compare_pathwise.py` trains five vmapped seeds of each cell and adds it to
results/pathwise.json; what is there is not run again. From the file it prints a table with 95 %
intervals over seeds. `--cells=lock` runs those whose name has the word in it.

* inventory_*: `inventory/store`; the gap is how much more than ordering up to the best level the
  learned policy costs, in % of that, from the same starts and with the same demands, 512 episodes
  of 50 periods. Pathwise gradients and PPO.
* robot_*: Brax; pathwise gradients from 16 environments, with a short horizon.
* cartpole_*: TRPO beside PPO; N-PG-IGT and HARPG beside the normalised policy gradient without a
  memory of the last ones (momentum 1, momentum_power 0).
* lock_*: `probe/lock`; HNPG with and without its offline rows.

Nothing is tuned but what the cells say. Returns are evaluated, of deterministic policies.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags
from learning_curves import measure

from onejit import algos, envs
from onejit.algos.host import plotting, presets
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results" / "pathwise.json"
ROWS = 10


class Cell(NamedTuple):
    """An algorithm on an environment, with its preset and changes to it."""

    algorithm: str
    env: str
    changes: dict
    env_options: dict = {}
    metric: str = "losses/approx_kl"
    eval_episodes: int = 32


def _robot(name, episode_length, horizon, iterations):
    changes = {"num_envs": 16, "horizon": horizon, "total_steps": 16 * horizon * iterations}
    options = {"episode_length": episode_length}
    changes["learning_rate"] = 3e-3
    return Cell("pathwise", f"brax/{name}", changes, options, "losses/grad_norm", 16)


def _scores(name, **changes):
    changes = {"total_steps": 1_000_000, "num_envs": 8, "horizon": 500} | changes
    return Cell(name, "gymnax/CartPole-v1", changes, metric="losses/grad_norm")


_STORE = "inventory/store"
_FORGETS = {"momentum": 1.0, "momentum_power": 0.0}
CELLS = {
    "inventory_pathwise": Cell("pathwise", _STORE, {}, metric="losses/grad_norm"),
    "inventory_ppo": Cell(
        "ppo",
        _STORE,
        {"reward_scale": 0.01, "learning_rate": 1e-3, "total_steps": 400 * 64 * 50},
    ),
    "lock_hnpg": Cell("hnpg", "probe/lock", {}, metric="losses/kl", eval_episodes=128),
    "lock_without_data": Cell(
        "hnpg", "probe/lock", {"offline_batch": 0}, metric="losses/kl", eval_episodes=128
    ),
    "cartpole_trpo": Cell(
        "trpo", "gymnax/CartPole-v1", {"total_steps": 200_000}, metric="losses/kl"
    ),
    "cartpole_ppo": Cell("ppo", "gymnax/CartPole-v1", {"total_steps": 200_000}),
    "cartpole_npg": _scores("npg_igt", **_FORGETS),
    "cartpole_npg_igt": _scores("npg_igt"),
    "cartpole_harpg": _scores("harpg"),
    "robot_inverted_pendulum": _robot("inverted_pendulum", 200, 16, 100),
    "robot_reacher": _robot("reacher", 50, 25, 200),
    "robot_inverted_double_pendulum": _robot("inverted_double_pendulum", 200, 16, 200),
    "robot_hopper": _robot("hopper", 200, 16, 200),
}


def run_cell(cell: Cell, seeds: int, total_steps: int | None) -> dict:
    """Trains all seeds of a cell and returns what the result file holds."""
    module = getattr(algos, cell.algorithm)
    changes = cell.changes | ({} if total_steps is None else {"total_steps": total_steps})
    config = module.Config(**presets.get(cell.algorithm, cell.env) | changes)
    algorithm = module.make(envs.make(cell.env, **cell.env_options), config)
    episodes = 512 if cell.env == _STORE else cell.eval_episodes
    metrics = (cell.metric, "charts/fault")
    result = measure(
        algorithm, seeds, vmapped=True, eval_episodes=episodes, metrics=metrics, rows=ROWS
    )
    if cell.env == _STORE:
        result["best_returns"] = [_best(algorithm.env, seed, episodes) for seed in range(seeds)]
    kept = ("seeds", "command", "versions", "compile_s", "run_s", "total_steps", "steps", "returns")
    own = {name: result[name] for name in (*kept, *metrics)}
    own |= {"best_returns": result["best_returns"]} if "best_returns" in result else {}
    described = {"algorithm": cell.algorithm, "env": cell.env, "env_options": cell.env_options}
    return described | {"changes": changes, "eval_episodes": episodes} | own


def _best(env, seed, episodes):
    """The mean return of ordering up to the best level, with the key of `measure`'s evaluations."""
    key = jax.random.split(jax.random.key(seed))[1]

    @jax.jit
    def play(key):
        act = lambda obs, key: env.order_up_to(env.level, obs)  # noqa: E731
        return algos.evaluate(env, act, key, num_episodes=episodes).returns.mean()

    return round(float(play(key)), 3)


def _interval(values):
    low, high = plotting.interval_of_mean(values[None])
    return f"{values.mean():.2f} ({low[0]:.2f} to {high[0]:.2f})"


def row(name: str, result: dict) -> str:
    """A row of the table: the first and the last returns, the mean of all, and the metric."""
    returns = np.array(result["returns"], float)  # [seeds, rows]
    metric = CELLS[name].metric
    values = np.array(result[metric], float)
    faults = int(np.sum(np.array(result["charts/fault"], float)[:, -1] > 0))
    cells = [name, _interval(returns[:, 0]), _interval(returns[:, -1]), _interval(returns.mean(1))]
    cells.append(
        f"{metric.removeprefix('losses/')} {np.nanmin(values):.3g} to "
        f"{np.nanmax(values):.3g}, {faults} stopped"
    )
    if "best_returns" in result:
        best = np.array(result["best_returns"])
        cells.append(f"gap {_interval(100.0 * (returns[:, -1] / best - 1.0))} %")
    return "| " + " | ".join(cells) + " |"


def _read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def main(argv: list[str]) -> None:
    """Runs what is missing and prints the table."""
    del argv
    wanted = [name for name in CELLS if any(word in name for word in flags.FLAGS.cells)]
    if not wanted:
        sys.exit(f"no cell has any of {flags.FLAGS.cells} in its name; known: {', '.join(CELLS)}")
    path = Path(flags.FLAGS.out)
    print("| cell | return, first row | last row | mean of all rows | metric, seeds | |")
    print("|---|---|---|---|---|---|")
    for name in wanted:
        if name not in _read(path):
            result = run_cell(CELLS[name], flags.FLAGS.seeds, flags.FLAGS.total_steps)
            write_json(path, _read(path) | {name: result})
        print(row(name, _read(path)[name]), flush=True)


if __name__ == "__main__":
    flags.DEFINE_list("cells", ["_"], "Words; a cell is run that has one of them in its name.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("total_steps", None, "Environment steps of each, for a try.")
    flags.DEFINE_string("out", str(RESULTS), "The result file.")
    app.run(main)

"""Learning curves of the presets over many seeds, one small result file per case; what exists is
not run again.

`python scripts/evidence/learning_curves.py --cases=ppo_cartpole` writes
results/learning/ppo_cartpole.json and redraws results/learning_curves.png from all files, and
results/fast_off_policy.png, returns against steps and against seconds. Seeds are vmapped, except
where the case says otherwise. Evaluation is deterministic, with the same start states each time,
and outside the seconds that are counted.
"""

import json
import shlex
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags
from scipy.stats import trim_mean

from onejit import algos, envs
from onejit.algos.core import training
from onejit.algos.host import plotting, presets, runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
ROWS = 20
NAMES = {
    "fast_td3": "FastTD3",
    "fast_sac": "FastSAC",
    "mdpo_off_policy": "MDPO off-policy",
    "staq": "StaQ",
}


class Case(NamedTuple):
    """One algorithm on one environment, with its preset and changes to it."""

    algorithm: str
    env: str
    title: str
    seeds: int = 10
    vmapped: bool = True
    env_options: dict = {}
    changes: dict = {}
    eval_episodes: int = 32


def _race(algorithm: str, env: str, title: str, **changes) -> Case:
    return Case(algorithm, env, title, seeds=3, vmapped=False, eval_episodes=8, changes=changes)


_HALFCHEETAH = {
    "env": "brax/halfcheetah",
    "title": "Brax halfcheetah (spring)",
    "total_steps": 500_000,
}
_BALANCE = {"env": "playground/CartpoleBalance", "title": "Playground CartpoleBalance"}


CASES = {
    "ppo_cartpole": Case("ppo", "gymnax/CartPole-v1", "CartPole-v1"),
    "ppo_acrobot": Case("ppo", "gymnax/Acrobot-v1", "Acrobot-v1"),
    "ppo_pendulum": Case("ppo", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "ppo_fast": Case(
        "ppo", "brax/fast", "Brax fast (128 steps)", env_options={"episode_length": 128}
    ),
    "ppo_halfcheetah": Case(
        "ppo", "brax/halfcheetah", "Brax halfcheetah (spring)", seeds=5, vmapped=False
    ),
    # Convolutions that are vmapped over seeds are several times slower on a CPU.
    "ppo_breakout": Case(
        "ppo", "gymnax/Breakout-MinAtar", "Breakout-MinAtar", seeds=5, vmapped=False
    ),
    "ppo_freeway": Case("ppo", "gymnax/Freeway-MinAtar", "Freeway-MinAtar", seeds=5, vmapped=False),
    "td3_pendulum": Case("td3", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "sac_pendulum": Case("sac", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "fast_td3_pendulum": Case("fast_td3", "gymnax/Pendulum-v1", "Pendulum-v1", seeds=5),
    "fast_sac_pendulum": Case("fast_sac", "gymnax/Pendulum-v1", "Pendulum-v1", seeds=5),
    "mdpo_off_policy_pendulum": Case("mdpo_off_policy", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "spo_cartpole": Case("spo", "gymnax/CartPole-v1", "CartPole-v1"),
    "mdpo_cartpole": Case("mdpo", "gymnax/CartPole-v1", "CartPole-v1"),
    "staq_cartpole": Case("staq", "gymnax/CartPole-v1", "CartPole-v1", seeds=5, vmapped=False),
    "staq_acrobot": Case("staq", "gymnax/Acrobot-v1", "Acrobot-v1", seeds=5, vmapped=False),
    "staq_breakout": Case(
        "staq",
        "gymnax/Breakout-MinAtar",
        "Breakout-MinAtar",
        seeds=3,
        vmapped=False,
        changes={
            "memory": 30,
            "num_envs": 16,
            "num_steps": 64,
            "batch_size": 64,
            "learning_rate": 3e-4,
            "total_steps": 300_000,
            "anneal_fraction": 0.1,
        },
    ),
    # Six joints with two torques each: 64 actions.
    "staq_halfcheetah": Case(
        "staq",
        "brax/halfcheetah",
        "Brax halfcheetah, bang-bang",
        seeds=2,
        vmapped=False,
        changes={"total_steps": 200_000},
        eval_episodes=8,
    ),
    "ppo_mjx_pendulum": Case(
        "ppo", "mjx/InvertedPendulum-v5", "InvertedPendulum-v5 (MJX)", seeds=5
    ),
    "ppo_mjx_double_pendulum": Case(
        "ppo", "mjx/InvertedDoublePendulum-v5", "InvertedDoublePendulum-v5", seeds=5
    ),
    "fast_td3_mjx_pendulum": Case(
        "fast_td3", "mjx/InvertedPendulum-v5", "InvertedPendulum-v5 (MJX)", seeds=5
    ),
    "fast_td3_mjx_double_pendulum": Case(
        "fast_td3", "mjx/InvertedDoublePendulum-v5", "InvertedDoublePendulum-v5", seeds=3
    ),
    "ppo_halfcheetah_race": _race("ppo", **_HALFCHEETAH),
    "fast_td3_halfcheetah_race": _race("fast_td3", **_HALFCHEETAH),
    "fast_sac_halfcheetah_race": _race("fast_sac", **_HALFCHEETAH),
    "ppo_balance_race": _race("ppo", **_BALANCE),
    "fast_td3_balance_race": _race("fast_td3", **_BALANCE),
}


def name_of(result: dict) -> str:
    """The algorithm's name in figures."""
    return NAMES.get(result["algorithm"], result["algorithm"].upper())


def iqm(values: np.ndarray) -> float:
    """Interquartile mean over seeds (Agarwal et al. 2021)."""
    return float(trim_mean(values, 0.25))


def run_case(case: Case) -> dict:
    """Trains all seeds of a case and returns what the result file holds."""
    module = getattr(algos, case.algorithm)
    config = module.Config(**presets.get(case.algorithm, case.env) | case.changes)
    algorithm = module.make(envs.make(case.env, **case.env_options), config)
    return {
        "title": case.title,
        "env": case.env,
        "env_options": case.env_options,
        "algorithm": case.algorithm,
        **measure(algorithm, case.seeds, vmapped=case.vmapped, eval_episodes=case.eval_episodes),
    }


def measure(
    algorithm: algos.Algorithm,
    seeds: int,
    *,
    vmapped: bool,
    eval_episodes: int,
    metrics=(),
    rows: int = ROWS,
) -> dict:
    """Trains with each seed; returns the settings, the evaluated returns, and the seconds of
    training without them.

    Args:
      algorithm: runs for the total_steps of its config.
      seeds: how many, 0 and on.
      vmapped: whether they run together, or one after the other.
      eval_episodes: of each evaluation; with 0, returns are those of the training's own episodes.
      metrics: names of further metrics to keep, averaged over the iterations of a row.
      rows: how many points a curve has, about.
    """
    iterations = algorithm.iterations(algorithm.config.total_steps)
    every = max(1, iterations // rows)
    evaluator = algos.evaluator(algorithm, num_episodes=max(1, eval_episodes))
    keys = jax.vmap(lambda seed: jax.random.split(jax.random.key(seed)))(np.arange(seeds))
    groups = [keys] if vmapped else list(keys)  # of (key of the training, key of the evaluation)
    lift = jax.vmap if vmapped else lambda function: function

    start = time.perf_counter()
    init = jax.jit(lift(lambda pair: algorithm.init(pair[0]))).lower(groups[0]).compile()
    shape = jax.eval_shape(lift(lambda pair: algorithm.init(pair[0])), groups[0])
    step = jax.jit(lift(lambda state: training.advance(algorithm, state, every)), donate_argnums=0)
    step = step.lower(shape).compile()
    compile_s = time.perf_counter() - start
    evaluate = jax.jit(lift(lambda state, pair: evaluator(state, pair[1])["eval/episodic_return"]))

    columns = []
    seconds = []
    for group in groups:
        start = time.perf_counter()
        state = jax.block_until_ready(init(group))
        elapsed = time.perf_counter() - start
        points = []
        for _ in range(iterations // every):
            start = time.perf_counter()
            state, row = jax.block_until_ready(step(state))
            elapsed += time.perf_counter() - start
            seconds.append(elapsed)
            returns = evaluate(state, group) if eval_episodes else row["charts/episodic_return"]
            jax.block_until_ready(returns)
            points.append({"return": returns} | {name: row[name] for name in metrics})
        columns.append(
            jax.tree.map(
                lambda *x: np.stack(x, axis=-1).reshape(-1, len(x)), *jax.device_get(points)
            )
        )
    history = jax.tree.map(lambda *x: np.concatenate(x).astype(float), *columns)
    returns = history.pop("return")
    steps = algorithm.steps_after(every * (np.arange(returns.shape[1]) + 1))
    return {
        "config": {name: str(value) for name, value in vars(algorithm.config).items()},
        "seeds": list(range(seeds)),
        "eval_episodes": eval_episodes,
        "command": shlex.join(
            ["python", "scripts/evidence/" + Path(sys.argv[0]).name, *sys.argv[1:]]
        ),
        "versions": runner.versions(),
        "compile_s": round(compile_s, 2),
        "run_s": round(sum(np.reshape(seconds, (len(groups), -1))[:, -1]), 2),
        "total_steps": int(steps[-1]),
        "final_iqm": round(iqm(returns[:, -1]), 2),
        "final_returns": [round(x, 2) for x in returns[:, -1]],
        "steps": steps.tolist(),
        "seconds": np.round(seconds, 2).reshape(len(groups), -1).tolist(),
        "returns": np.round(returns, 2).tolist(),
        **{
            name: np.where(np.isfinite(x), np.round(x, 6), None).tolist()
            for name, x in history.items()
        },
    }


def plot(axes, x: np.ndarray, returns: np.ndarray, colour: str, label: str | None = None) -> None:
    """Mean over seeds with a 95 % interval, and every seed as a thin line; returns are `[rows,
    seeds]`.
    """
    low, high = plotting.interval_of_mean(returns)
    axes.plot(x, returns, color=colour, alpha=0.2, linewidth=0.7)
    axes.plot(x, returns.mean(1), color=colour, label=label)
    axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)


def draw_race(results: list[dict], path: Path) -> None:
    """Return of several algorithms on an environment, a row each, against steps and against seconds
    of training.
    """
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(result["title"] for result in results))
    figure = Figure(figsize=(8.4, 3.2 * len(titles)), layout="constrained")
    for title, (left, right) in zip(
        titles, figure.subplots(len(titles), 2, squeeze=False, sharey="row"), strict=True
    ):
        for i, result in enumerate(result for result in results if result["title"] == title):
            returns = np.array(result["returns"]).T
            plot(left, np.array(result["steps"]), returns, f"C{i}", name_of(result))
            plot(right, np.mean(result["seconds"], axis=0), returns, f"C{i}")
        left.set(xlabel="environment steps", ylabel="return")
        left.set_title(title, fontsize=10)
        right.set(xlabel="seconds of training, one seed, without compilation")
        for axes in (left, right):
            axes.grid(alpha=0.3)
        left.legend(loc="best", frameon=False)
    figure.savefig(path, dpi=110)


def draw(results: list[dict], path: Path) -> None:
    """One panel per case: mean over seeds with a 95 % interval, and every seed as a thin line."""
    from matplotlib.figure import Figure

    columns = min(3, len(results))
    rows = -(-len(results) // columns)
    figure = Figure(figsize=(4.0 * columns, 2.9 * rows), layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    for axes, result in zip(panels, results, strict=False):
        steps, returns = np.array(result["steps"]), np.array(result["returns"]).T
        plot(axes, steps, returns, "C0")
        axes.set_title(f"{name_of(result)} on {result['title']}", fontsize=10)
        axes.set(xlabel="environment steps", ylabel="return")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main(argv: list[str]) -> None:
    """Runs what is missing and redraws the figure."""
    del argv
    folder = RESULTS / "learning"
    folder.mkdir(parents=True, exist_ok=True)
    for name in flags.FLAGS.cases or CASES:
        path = folder / f"{name}.json"
        if path.exists() and not flags.FLAGS.rerun:
            continue
        result = run_case(CASES[name])
        write_json(path, result)
        print(
            f"{name}: IQM {result['final_iqm']} after {result['total_steps']:,} steps,"
            f" {result['run_s']} s",
            flush=True,
        )
    results = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in CASES
        if (folder / f"{name}.json").exists()
    }
    race = {name: result for name, result in results.items() if name.endswith("_race")}
    draw(
        [result for name, result in results.items() if name not in race],
        RESULTS / "learning_curves.png",
    )
    if race:
        draw_race(list(race.values()), RESULTS / "fast_off_policy.png")


if __name__ == "__main__":
    flags.DEFINE_list("cases", None, "Which cases to run; all by default.")
    flags.DEFINE_bool("rerun", False, "Run also what has a result already.")
    app.run(main)

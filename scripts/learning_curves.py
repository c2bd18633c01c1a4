"""Learning curves of the presets over many seeds, one small result file per case; what exists is not run again.

`python scripts/learning_curves.py --cases=ppo_cartpole` writes results/learning/ppo_cartpole.json and redraws
results/learning_curves.png from all files. Seeds are vmapped, except where the case says otherwise. Evaluation is
deterministic, on 32 episodes per seed, with the same start states each time.
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
from onejit.algos import plotting, presets, runner

RESULTS = Path(__file__).parents[1] / "results"
ROWS = 20
EVAL_EPISODES = 32


class Case(NamedTuple):
    """One algorithm on one environment, with its preset."""

    algorithm: str
    env: str
    title: str
    seeds: int = 10
    vmapped: bool = True
    env_options: dict = {}


CASES = {
    "ppo_cartpole": Case("ppo", "gymnax/CartPole-v1", "CartPole-v1"),
    "ppo_acrobot": Case("ppo", "gymnax/Acrobot-v1", "Acrobot-v1"),
    "ppo_pendulum": Case("ppo", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "ppo_fast": Case("ppo", "brax/fast", "Brax fast (128 steps)", env_options={"episode_length": 128}),
    "ppo_halfcheetah": Case("ppo", "brax/halfcheetah", "Brax halfcheetah (spring)", seeds=5, vmapped=False),
    # Convolutions that are vmapped over seeds are several times slower on a CPU.
    "ppo_breakout": Case("ppo", "gymnax/Breakout-MinAtar", "Breakout-MinAtar", seeds=5, vmapped=False),
    "ppo_freeway": Case("ppo", "gymnax/Freeway-MinAtar", "Freeway-MinAtar", seeds=5, vmapped=False),
    "td3_pendulum": Case("td3", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "sac_pendulum": Case("sac", "gymnax/Pendulum-v1", "Pendulum-v1"),
    "fast_td3_pendulum": Case("fast_td3", "gymnax/Pendulum-v1", "Pendulum-v1", seeds=5),
    "fast_sac_pendulum": Case("fast_sac", "gymnax/Pendulum-v1", "Pendulum-v1", seeds=5),
    "fast_td3_halfcheetah": Case("fast_td3", "brax/halfcheetah", "Brax halfcheetah (spring)", seeds=3, vmapped=False),
    "fast_sac_halfcheetah": Case("fast_sac", "brax/halfcheetah", "Brax halfcheetah (spring)", seeds=3, vmapped=False),
}


def iqm(values: np.ndarray) -> float:
    """Interquartile mean over seeds (Agarwal et al. 2021)."""
    return float(trim_mean(values, 0.25))


def run_case(case: Case) -> dict:
    """Trains all seeds of a case and returns what the result file holds."""
    module = getattr(algos, case.algorithm)
    config = module.Config(**presets.get(case.algorithm, case.env))
    algorithm = module.make(envs.make(case.env, **case.env_options), config)
    iterations = algorithm.iterations(config.total_steps)
    log_every = max(1, iterations // ROWS)
    evaluate = algos.evaluator(algorithm, num_episodes=EVAL_EPISODES)

    def train(key):
        return algos.train(algorithm, key, num_iterations=iterations, log_every=log_every, evaluate=evaluate)[1]

    seeds = jax.vmap(jax.random.key)(np.arange(case.seeds))
    start = time.perf_counter()
    if case.vmapped:
        compiled = jax.jit(jax.vmap(train)).lower(seeds).compile()
    else:
        compiled = jax.jit(train).lower(seeds[0]).compile()
    compiled_at = time.perf_counter()
    if case.vmapped:
        history = jax.device_get(compiled(seeds))
    else:
        history = jax.tree.map(lambda *x: np.stack(x), *[jax.device_get(compiled(seed)) for seed in seeds])
    run_seconds = time.perf_counter() - compiled_at
    returns = np.asarray(history["eval/episodic_return"], float)
    steps = algorithm.steps_after(log_every * (np.arange(returns.shape[1]) + 1))
    return {
        "title": case.title,
        "env": case.env,
        "env_options": case.env_options,
        "algorithm": case.algorithm,
        "config": {name: str(value) for name, value in vars(config).items()},
        "seeds": list(range(case.seeds)),
        "eval_episodes": EVAL_EPISODES,
        "command": shlex.join(["python", "scripts/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": runner.versions(),
        "compile_s": round(compiled_at - start, 2),
        "run_s": round(run_seconds, 2),
        "total_steps": int(steps[-1]),
        "final_iqm": round(iqm(returns[:, -1]), 2),
        "final_returns": [round(x, 2) for x in returns[:, -1]],
        "steps": steps.tolist(),
        "returns": np.round(returns, 2).tolist(),
    }


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
        low, high = plotting.interval_of_mean(returns)
        axes.plot(steps, returns, color="C0", alpha=0.2, linewidth=0.7)
        axes.plot(steps, returns.mean(1), color="C0")
        axes.fill_between(steps, low, high, color="C0", alpha=0.25, linewidth=0)
        axes.set_title(f"{result['algorithm'].upper()} on {result['title']}", fontsize=10)
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
        path.write_text(json.dumps(result) + "\n")
        print(
            f"{name}: IQM {result['final_iqm']} after {result['total_steps']:,} steps, {result['run_s']} s", flush=True
        )
    results = [
        json.loads((folder / f"{name}.json").read_text()) for name in CASES if (folder / f"{name}.json").exists()
    ]
    draw(results, RESULTS / "learning_curves.png")


if __name__ == "__main__":
    flags.DEFINE_list("cases", None, "Which cases to run; all by default.")
    flags.DEFINE_bool("rerun", False, "Run also what has a result already.")
    app.run(main)

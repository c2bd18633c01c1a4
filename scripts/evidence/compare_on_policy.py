"""PPO, SPO and MDPO side by side, with the shallow and the deep policy of the SPO paper: what do
the papers claim?

`python scripts/evidence/compare_on_policy.py` trains five vmapped seeds of each cell (an
environment, an algorithm, a depth) and writes results/on_policy/CELL.json; what exists is not run
again. From all files it draws results/on_policy.png, return of the training's episodes, mean |ratio
− 1| and KL against steps, and prints a table. On an accelerator give it more: `--seeds=10
--total_steps=10_000_000 --envs=... --out=FOLDER`.

Settings are those of the SPO paper for MuJoCo (8 environments × 256 steps, 4 minibatches, 10
epochs, learning rate 3e-4 to 0, ε 0.2, Adam's ε 1e-8; policies of 64-64 and 256-256-128-128-64-64
tanh units, values always 64-64; Xie et al. 2025) and of MDPO's released code (10 full-batch steps,
learning rate 3e-4, value 5 × 16 minibatches; Tomar et al. 2022) on rollouts of the same form.
Values are not clipped, unlike in both released codes.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
from absl import app, flags
from learning_curves import measure, plot

from onejit import algos, envs
from onejit.algos.host import plotting
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
ENVS = ("brax/hopper", "brax/inverted_double_pendulum", "brax/walker2d")
SHALLOW, DEEP = (64, 64), (256, 256, 128, 128, 64, 64)
VARIANTS = {
    "ppo_3": ("ppo", SHALLOW),
    "spo_3": ("spo", SHALLOW),
    "mdpo_3": ("mdpo", SHALLOW),
    "ppo_7": ("ppo", DEEP),
    "spo_7": ("spo", DEEP),
}
COMMON = {
    "learning_rate": 3e-4,
    "num_envs": 8,
    "num_steps": 256,
    "normalize_obs": True,
    "normalize_reward": True,
}
EPOCHS = {"num_minibatches": 4, "update_epochs": 10, "adam_eps": 1e-8}
SETTINGS = {"ppo": {**COMMON, **EPOCHS}, "spo": {**COMMON, **EPOCHS}, "mdpo": COMMON}
DRIFT = {"losses/ratio_deviation": "mean |ratio − 1|", "losses/approx_kl": "KL(old‖new), nats"}


def run_cell(env_id: str, variant: str, seeds: int, total_steps: int) -> dict:
    """Trains all seeds of a cell and returns what the result file holds."""
    name, hidden_sizes = VARIANTS[variant]
    module = getattr(algos, name)
    env = envs.make(env_id)
    config = module.Config(**SETTINGS[name], total_steps=total_steps)
    networks = module.make_networks(env, config)
    deep = module.make_networks(env, config.replace(hidden_sizes=hidden_sizes))
    algorithm = module.make(env, config, networks._replace(policy=deep.policy))
    measured = measure(algorithm, seeds, vmapped=True, eval_episodes=0, metrics=tuple(DRIFT))
    return {"env": env_id, "variant": variant, "policy_hidden_sizes": hidden_sizes, **measured}


def draw(results: dict[tuple[str, str], dict], path: Path) -> None:
    """A row for each environment; return, ratio deviation and KL against steps."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(env_id for env_id, _ in results))
    figure = Figure(figsize=(11.0, 2.9 * len(names)), layout="constrained")
    for row, env_id in zip(np.atleast_2d(figure.subplots(len(names), 3)), names, strict=True):
        for i, variant in enumerate(VARIANTS):
            if (env_id, variant) not in results:
                continue
            result = results[env_id, variant]
            steps = np.array(result["steps"])
            plot(row[0], steps, np.array(result["returns"]).T, f"C{i}", variant)
            for axes, name in zip(row[1:], DRIFT, strict=True):
                axes.semilogy(steps, np.mean(result[name], axis=0), color=f"C{i}")
        row[0].set(title=env_id.split("/")[1], ylabel="return")
        for axes, label in zip(row[1:], DRIFT.values(), strict=True):
            axes.set(title=label)
        row[1].axhline(0.2, color="black", linewidth=0.7, linestyle=":")  # ε
        for axes in row:
            axes.set(xlabel="environment steps")
            axes.grid(alpha=0.3)
            axes.locator_params(axis="x", nbins=5)
        row[0].legend(loc="best", frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)


def table(results: dict[tuple[str, str], dict]) -> str:
    """Mean return at the end with a 95 % interval over seeds, and the drift in the last pass over a
    rollout.
    """
    lines = [
        (
            "| environment | variant | return at the end | mean \\|ratio − 1\\| | its largest row,"
            " any seed | mean KL |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for (env_id, variant), result in results.items():
        final = np.array(result["returns"])[:, -1:].T
        low, high = (float(each[0]) for each in plotting.interval_of_mean(final))
        deviation, kl = (np.array(result[name], float) for name in DRIFT)
        lines.append(
            f"| {env_id.split('/')[1]} | {variant} | {final.mean():.0f} ({low:.0f} to {high:.0f}) "
            f"| {deviation.mean():.3f} | {deviation.max():.3f} | {kl.mean():.4f} |"
        )
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    unknown = set(flags.FLAGS.variants) - set(VARIANTS)
    if unknown:
        sys.exit(f"unknown variants {sorted(unknown)}; known: {', '.join(VARIANTS)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    cells = itertools.product(dict.fromkeys([*ENVS, *flags.FLAGS.envs]), VARIANTS)
    paths = {cell: folder / f"{cell[0].replace('/', '_')}_{cell[1]}.json" for cell in cells}
    for env_id in flags.FLAGS.envs:
        for variant in flags.FLAGS.variants:
            path = paths[env_id, variant]
            if not path.exists():
                result = run_cell(env_id, variant, flags.FLAGS.seeds, flags.FLAGS.total_steps)
                write_json(path, result)
                print(f"{path.stem}: {result['final_iqm']}, {result['run_s']} s", flush=True)
    results = {cell: json.loads(path.read_text()) for cell, path in paths.items() if path.exists()}
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("envs", list(ENVS), "Which environments to run.")
    flags.DEFINE_list("variants", list(VARIANTS), "Which algorithms and depths to run.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("total_steps", 500_000, "Environment steps of each.")
    flags.DEFINE_string(
        "out", str(RESULTS / "on_policy"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

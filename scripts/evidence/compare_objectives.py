"""Objectives of groups and preferences on bracket completion, all trained by one loop: what do they
do to pass@1 and to pass@k?

`python scripts/evidence/compare_objectives.py` trains ten vmapped seeds of each cell (an objective
and a depth of the prompts) and writes results/objectives/CELL.json; what exists is not run again.
From all files it draws results/objectives.png, pass@1 against updates and pass@1 and pass@4 at the
end, and prints a table. `--variants=grpo,rloo --depths=3 --seeds=3` runs a part; any name of
`tokens.OBJECTIVES` is a variant.

Settings are the same in all cells, and were tuned in none: 32 prompts with 8 answers each, 200
updates for depth 3 and 400 for depth 4, Adam at 2e-3, an entropy bonus of 0.01, two passes over
each batch and one for objectives without a ratio. What the papers do beside their objective,
choosing prompts and sizes, is not here. `VARIANTS` says where a cell differs: IPO and EXO, which
stop at a fixed distance from their reference, have the policy that wrote as reference; the 80/20
mask also with half of the tokens; M2PO is meant for stale answers and gets, as GRPO beside it, a
writer that is renewed every 16 updates. Each evaluation is of 16 answers to each of 128 prompts.
"""

import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos import tokens
from onejit.algos.host import plotting, runner
from onejit.algos.host.run_folder import write_json

RESULTS = Path(__file__).parents[2] / "results"
UPDATES = {1: 100, 2: 100, 3: 200, 4: 400}  # by depth
ROWS = 20
EVAL_PROMPTS = 128
METRICS = ("eval/pass_at_1", "eval/pass_at_4", "eval/right_answers", "losses/entropy")
PASS = METRICS[:2]


class Variant(NamedTuple):
    """An objective by name, keyword arguments of it, and what is changed in the Config."""

    objective: str
    options: dict[str, Any] = {}
    changes: dict[str, Any] = {}


_NEAR = {"ref_alpha": 1.0, "ref_every": 1}  # the policy that wrote is the reference
_STALE = {"sample_every": 16}
VARIANTS = {name: Variant(name) for name in tokens.OBJECTIVES} | {
    "ipo": Variant("ipo", changes=_NEAR),
    "exo": Variant("exo", changes=_NEAR),
    "top_entropy_half": Variant("top_entropy", options={"keep": 0.5}),
    "m2po_stale": Variant("m2po", changes=_STALE),
    "grpo_stale": Variant("grpo", changes=_STALE),
}
DEFAULT = [
    "grpo",
    "dr_grpo",
    "rloo",
    "dapo",
    "gspo",
    "gmpo",
    "cispo",
    "bnpo",
    "cpgd",
    "aspo",
    "r2vpo",
    "epo",
    "top_entropy",
    "top_entropy_half",
    "grpo_stale",
    "m2po_stale",
    "max_at_k",
    "pass_at_k",
    "w_reinforce",
    "nsr",
    "psr",
    "haepo",
    "dpo",
    "ipo",
    "exo",
    "sppo",
    "copg",
    "a_star_po",
    "pacs",
]


def run_cell(name: str, depth: int, seeds: int, updates: int) -> dict:
    """Trains all seeds of a cell in one program, and returns what the result file holds."""
    variant = VARIANTS[name]
    env = envs.make("tokens/brackets", depth=depth)
    config = tokens.Config(objective=variant.objective, **variant.changes)
    config = config.replace(total_steps=updates * config.steps(env))
    objective = partial(tokens.OBJECTIVES[variant.objective], **variant.options)
    algorithm = tokens.make(env, config, objective)
    every = max(1, updates // ROWS)

    def evaluate(state, key):
        return algorithm.evaluation(state, key, EVAL_PROMPTS)

    def train(key):
        return algos.train(
            algorithm, key, num_iterations=updates, log_every=every, evaluate=evaluate
        )[1]

    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    start = time.perf_counter()
    compiled = jax.jit(jax.vmap(train)).lower(keys).compile()
    middle = time.perf_counter()
    history = jax.device_get(jax.block_until_ready(compiled(keys)))
    end = time.perf_counter()
    fault = algos.describe_fault(history["charts/fault"])
    if fault:
        raise RuntimeError(f"{name} at depth {depth}: {fault}")
    return {
        "variant": name,
        "depth": depth,
        "objective": variant.objective,
        "options": variant.options,
        "config": {field: str(value) for field, value in vars(config).items()},
        "seeds": list(range(seeds)),
        "eval_prompts": EVAL_PROMPTS,
        "command": shlex.join(
            ["python", "scripts/evidence/" + Path(sys.argv[0]).name, *sys.argv[1:]]
        ),
        "versions": runner.versions(),
        "compile_s": round(middle - start, 2),
        "run_s": round(end - middle, 2),
        "updates": [every * (row + 1) for row in range(updates // every)],
        "final": {name: summary(history[name][:, -1]) for name in METRICS},
        **{name: np.round(history[name].astype(float), 4).tolist() for name in METRICS},
    }


def summary(values: np.ndarray) -> dict:
    """The mean over seeds with a 95 % interval, and each seed."""
    low, high = plotting.interval_of_mean(np.asarray(values, float)[None])
    numbers = {"mean": np.mean(values), "low": low[0], "high": high[0]}
    rounded = {name: round(float(x), 4) for name, x in numbers.items()}
    return rounded | {"each": np.round(np.asarray(values, float), 4).tolist()}


def draw(results: list[dict], path: Path) -> None:
    """A row for each depth: pass@1 against updates, a line for each variant, and what is reached in
    the end.
    """
    from matplotlib.figure import Figure

    depths = sorted({result["depth"] for result in results})
    most = max(sum(result["depth"] == depth for result in results) for depth in depths)
    figure = Figure(figsize=(11.0, (1.5 + 0.2 * most) * len(depths)), layout="constrained")
    panels = figure.subplots(len(depths), 2, squeeze=False, width_ratios=(1.0, 1.0))
    for (left, right), depth in zip(panels, depths, strict=True):
        cells = [result for result in results if result["depth"] == depth]
        for i, cell in enumerate(cells):
            colour = ("C" + str(i % 10), ("-", "--", ":")[i // 10 % 3])
            curve = np.mean(cell["eval/pass_at_1"], axis=0)
            left.plot(cell["updates"], curve, *colour[1:], color=colour[0], linewidth=1.0)
            for name, marker, filled in zip(PASS, "os", (True, False), strict=True):
                final = cell["final"][name]
                bar = [[final["mean"] - final["low"]], [final["high"] - final["mean"]]]
                face = colour[0] if filled else "white"
                style = {"color": colour[0], "marker": marker, "markersize": 5, "mfc": face}
                right.errorbar([final["mean"]], [i], xerr=bar, linestyle="none", **style)
        left.set(xlabel="updates", ylabel="pass@1", ylim=(-0.02, 1.02), title=f"depth {depth}")
        right.set(xlim=(-0.02, 1.02), xlabel="pass@1 (dots) and pass@4 (squares) at the end")
        right.set_yticks(range(len(cells)), [cell["variant"] for cell in cells], fontsize=7)
        right.invert_yaxis()
        for axes in (left, right):
            axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(results: list[dict]) -> str:
    """What is reached in the end: means over seeds, with 95 % intervals of pass@1 and pass@4."""
    lines = [
        "| depth | objective | pass@1 | worst seed | pass@4 | right answers in 16 | entropy |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in results:
        one, four, right, entropy = (cell["final"][name] for name in METRICS)
        ranges = [f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in (one, four)]
        lines.append(
            f"| {cell['depth']} | {cell['variant']} | {ranges[0]} | {min(one['each']):.3f} |"
            f" {ranges[1]} | {right['mean']:.2f} | {entropy['mean']:.3f} |"
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
    results = []
    for depth in map(int, flags.FLAGS.depths):
        for name in flags.FLAGS.variants:
            path = folder / f"{name}_{depth}.json"
            if not path.exists():
                updates = flags.FLAGS.updates or UPDATES.get(depth, 800)
                result = run_cell(name, depth, flags.FLAGS.seeds, updates)
                write_json(path, result)
                one = result["final"]["eval/pass_at_1"]["mean"]
                print(f"{path.stem}: pass@1 {one:.3f}, {result['run_s']} s", flush=True)
            results.append(json.loads(path.read_text()))
    draw(results, folder.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    flags.DEFINE_list("variants", DEFAULT, "Which objectives to run.")
    flags.DEFINE_list("depths", ["3", "4"], "Brackets that prompts open at most.")
    flags.DEFINE_integer("seeds", 10, "How many seeds.")
    flags.DEFINE_integer("updates", 0, "Iterations; 0 takes 200 for depth 3 and 400 for 4.")
    flags.DEFINE_string(
        "out", str(RESULTS / "objectives"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

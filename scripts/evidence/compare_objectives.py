"""Objectives of groups and preferences on bracket completion, all trained by one loop: what do they
do to pass@1 and to pass@k?

`python scripts/evidence/compare_objectives.py` trains five vmapped seeds of each cell (an objective
and a depth of the prompts) and writes results/objectives/CELL.json; what exists is not run again.
From all files it draws results/objectives.png, pass@1 against the answers that were written and how
many it took to solve the task, and prints a table. `--variants=grpo,rloo --depths=3 --seeds=3` runs
a part; any name of `tokens.OBJECTIVES` is a variant.

Settings are the same in all cells, and were tuned in none: 32 prompts with 8 answers each, 200
updates for depth 3 and 400 for depth 4, Adam at 2e-3, an entropy bonus of 0.01, two passes over
each batch and one for objectives without a ratio. What the papers do beside their objective,
choosing prompts and sizes, is not here. `VARIANTS` says where a cell differs: IPO and EXO, which
stop at a fixed distance from their reference, have the policy that wrote as reference; the 80/20
mask also with half of the tokens; M2PO is meant for stale answers and gets, as GRPO beside it, a
writer that is renewed every 16 updates. Each evaluation is of 16 answers to each of 128 prompts.
"""

import json
import math
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
LEVEL = 0.9  # of pass@1: the task counts as solved
COLUMNS = 6  # of panels


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


def answers_to(cell: dict, level: float = LEVEL) -> np.ndarray:
    """Answers that each seed had written at the first evaluation with a pass@1 above the level,
    `[seeds]`; inf where none has it.
    """
    written = answers_written(cell)
    above = np.asarray(cell["eval/pass_at_1"]) > level
    return np.where(above.any(axis=1), written[above.argmax(axis=1)], np.inf)


def answers_written(cell: dict) -> np.ndarray:
    """Answers that a seed had written at each evaluation, `[rows]`."""
    size = math.prod(int(cell["config"][name]) for name in ("num_prompts", "group_size"))
    return size * np.asarray(cell["updates"], float)


def draw(cells: list[dict], path: Path) -> None:
    """pass@1 and pass@4 against answers, a panel for each variant and a colour for each depth; how
    many answers it took, at the right.
    """
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(cell["variant"] for cell in cells))
    depths = sorted({cell["depth"] for cell in cells})
    num_rows = -(-(len(names) + 1) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS + 3.6, 1.6 * num_rows + 0.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.6 * COLUMNS, 3.6))
    panels = left.subplots(num_rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    summed = right.subplots()
    for cell in cells:
        row, i = names.index(cell["variant"]), depths.index(cell["depth"])
        axes, colour, thousands = panels[row], f"C{i}", answers_written(cell) / 1000.0
        values = np.asarray(cell["eval/pass_at_1"], float).T
        label = f"depth {cell['depth']}, {values.shape[1]} seeds"
        axes.plot(thousands, values.mean(axis=1), color=colour, linewidth=1.2, label=label)
        band = plotting.interval_of_mean(values)
        axes.fill_between(thousands, *band, color=colour, alpha=0.25, linewidth=0)
        four = np.mean(np.asarray(cell["eval/pass_at_4"], float), axis=0)
        axes.plot(thousands, four, "--", color=colour, linewidth=0.8)
        axes.set_title(cell["variant"], fontsize=8, pad=2)
        needed = answers_to(cell) / 1000.0
        place = row + 0.3 * (i - (len(depths) - 1) / 2.0)
        if np.isfinite(needed).all():
            final = summary(needed)
            bar = [[final["mean"] - final["low"]], [final["high"] - final["mean"]]]
            summed.errorbar([final["mean"]], [place], xerr=bar, fmt="o", color=colour, markersize=4)
        else:
            reached = f"{np.isfinite(needed).sum()} of {len(needed)} seeds"
            style = {"fontsize": 6, "color": colour, "va": "center", "backgroundcolor": "white"}
            summed.annotate(reached, (0.0, place), (6, 0), textcoords="offset points", **style)
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=6)
        axes.set(ylim=(-0.03, 1.03))
    most = max(panels[: len(names)], key=lambda axes: len(axes.lines))
    for axes in panels[len(names) :]:
        axes.axis("off")
    panels[-1].legend(*most.get_legend_handles_labels(), loc="center", fontsize=7, frameon=False)
    left.supxlabel("thousand answers", fontsize=8)
    left.supylabel("pass@1, mean of the seeds with its 95 % interval; dashed, pass@4", fontsize=8)
    summed.set_yticks(range(len(names)), names, fontsize=7)
    summed.set(ylim=(len(names) - 0.4, -0.6), xlim=(0.0, None))
    summed.set_title(f"thousand answers until pass@1 > {LEVEL:g}", fontsize=8)
    summed.tick_params(labelsize=7)
    summed.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def table(cells: list[dict]) -> str:
    """What is reached in the end, and how soon: means over seeds, with 95 % intervals."""
    lines = [
        f"| depth | objective | answers to pass@1 > {LEVEL:g}, thousands | pass@1 | worst seed |"
        " pass@4 | right answers in 16 | entropy |",
        "|" + "---|" * 8,
    ]
    for cell in cells:
        one, four, right, entropy = (cell["final"][name] for name in METRICS)
        ranges = [f"{x['mean']:.3f} ({x['low']:.3f} to {x['high']:.3f})" for x in (one, four)]
        needed = answers_to(cell) / 1000.0
        soon = f"{np.isfinite(needed).sum()} of {len(needed)} seeds"
        if np.isfinite(needed).all():
            soon = "{mean:.1f} ({low:.1f} to {high:.1f})".format(**summary(needed))
        lines.append(
            f"| {cell['depth']} | {cell['variant']} | {soon} | {ranges[0]} |"
            f" {min(one['each']):.3f} | {ranges[1]} | {right['mean']:.2f} |"
            f" {entropy['mean']:.3f} |"
        )
    return "\n".join(lines)


def read(folder: Path) -> list[dict]:
    """All cells that there are, by depth, in the order of `DEFAULT`."""
    cells = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    order = [*DEFAULT, *VARIANTS]
    return sorted(cells, key=lambda cell: (cell["depth"], order.index(cell["variant"])))


def main(argv: list[str]) -> None:
    """Runs what is missing, redraws the figure and prints the table."""
    del argv
    unknown = set(flags.FLAGS.variants) - set(VARIANTS)
    if unknown:
        sys.exit(f"unknown variants {sorted(unknown)}; known: {', '.join(VARIANTS)}")
    folder = Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    for depth in map(int, flags.FLAGS.depths):
        for name in flags.FLAGS.variants:
            path = folder / f"{name}_{depth}.json"
            if not path.exists():
                updates = flags.FLAGS.updates or UPDATES.get(depth, 800)
                result = run_cell(name, depth, flags.FLAGS.seeds, updates)
                write_json(path, result)
                one = result["final"]["eval/pass_at_1"]["mean"]
                print(f"{path.stem}: pass@1 {one:.3f}, {result['run_s']} s", flush=True)
    cells = read(folder)
    draw(cells, folder.with_suffix(".png"))
    print(table(cells))


if __name__ == "__main__":
    flags.DEFINE_list("variants", DEFAULT, "Which objectives to run.")
    flags.DEFINE_list("depths", ["3", "4"], "Brackets that prompts open at most.")
    flags.DEFINE_integer("seeds", 5, "How many seeds.")
    flags.DEFINE_integer("updates", 0, "Iterations; 0 takes 200 for depth 3 and 400 for 4.")
    flags.DEFINE_string(
        "out", str(RESULTS / "objectives"), "Folder of the result files; the figure is beside it."
    )
    app.run(main)

"""What compiling a training takes, and what of it comes from where: `python
scripts/evidence/bench_compile.py`, one JSON line per case and variant.

Programs are those of bench_train.py, and rejax's of bench_rejax.py, in an environment that
bench_peers.py has built. Variants leave something out, or compile otherwise, to tell what it costs;
each is a process of its own, in turns. `kernels` and `llvm_lines` are of the code that XLA's
compiler for CPUs dumps after LLVM's optimisation, `lower_s` and `compile_s` wall clock of tracing
and of compiling, `compile_cpu_s` processor seconds of the latter: medians of --repeats. Lines go to
results/compile.jsonl, written anew.
"""

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
from absl import app, flags

ROOT = Path(__file__).parents[2]
OPTIONS = {
    "level_0": "--xla_backend_optimization_level=0",
    "level_1": "--xla_backend_optimization_level=1",
    "split_2": "--xla_cpu_parallel_codegen_split_count=2",
    "no_emitters": "--xla_cpu_use_fusion_emitters=false",
}


def as_it_is() -> None:
    """Changes nothing."""


def no_guard() -> None:
    """An update is neither checked nor taken back."""
    from onejit.algos.core import guard

    guard.keep = lambda condition, new, old: new
    guard.in_update = lambda written, iteration: guard.init()
    guard.in_rollout = lambda *arguments: guard.init()
    guard.in_reset = lambda *arguments: guard.init()


def flat_optimiser() -> None:
    """Off-policy, an optimiser's parameters and gradients are one vector."""
    import optax

    from onejit.algos.off_policy import actor_critic

    own = actor_critic._optimiser
    actor_critic._optimiser = lambda *arguments: optax.flatten(own(*arguments))


def unrolled_threefry() -> None:
    """Threefry's 20 rounds are one expression, as they are elsewhere than on a CPU."""
    from jax._src.interpreters import mlir
    from jax._src.random import threefry2x32

    hashed = functools.partial(threefry2x32._threefry2x32_lowering, use_rolled_loops=False)
    rule = mlir.lower_fun(hashed, multiple_results=True)
    mlir.register_lowering(threefry2x32.threefry2x32_p, rule, platform="cpu")


VARIANTS: dict[str, Callable[[], None]] = {
    "onejit": as_it_is,
    "rejax": as_it_is,
    "no_guard": no_guard,
    "flat_optimiser": flat_optimiser,
    "unrolled_threefry": unrolled_threefry,
    **dict.fromkeys(OPTIONS, as_it_is),
}


def our_program(name: str) -> tuple[Callable[..., Any], Any]:
    """The training of a case, and its key."""
    import bench_train

    from onejit import algos, envs

    case = bench_train.CASES[name]
    env = envs.make(case.env)
    algorithm = case.algorithm.make(env, case.config.replace(total_steps=case.steps))
    iterations = algorithm.iterations(case.steps)
    train = functools.partial(algos.train, algorithm, num_iterations=iterations)
    return train, jax.random.key(0)


def program_of_rejax(name: str) -> tuple[Callable[..., Any], Any]:
    """The same of rejax's."""
    import bench_rejax

    case = bench_rejax.CASES[name]
    algorithm, _ = bench_rejax.make(case, *bench_rejax.create(case.env, **case.env_options))
    return algorithm.train, jax.random.PRNGKey(0)


def compile_once(name: str, variant: str) -> dict[str, float]:
    """Compiles a variant in this process."""
    VARIANTS[variant]()
    train, key = (program_of_rejax if variant == "rejax" else our_program)(name)
    start = time.perf_counter()
    lowered = jax.jit(lambda key: train(key)[0]).lower(key)
    lower_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    lowered.compile()
    return {
        "lower_s": lower_s,
        "compile_s": time.perf_counter() - start,
        "compile_cpu_s": time.process_time() - cpu,
    }


def child(name: str, variant: str, dump: str | None = None) -> dict[str, float]:
    """Compiles a variant in a process of its own, and counts what it has dumped."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    options = [OPTIONS.get(variant, "")] + [f"--xla_dump_to={dump}"] * bool(dump)
    python = ROOT / ".venv-rejax" / "bin" / "python" if variant == "rejax" else sys.executable
    command = [python, __file__, f"--cases={name}", f"--child={variant}"]
    environment = kept | {"XLA_FLAGS": " ".join(options)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    line = json.loads(done.stdout.splitlines()[-1])
    if dump:
        # Of the largest module, the training; a few small ones are of its arguments.
        paths = list(Path(dump).glob("*ir-with-opt.ll"))
        modules = [path.name.split(".")[0] for path in paths]
        largest = max(set(modules), key=modules.count)
        texts = [path.read_text() for path in paths if path.name.startswith(f"{largest}.")]
        line |= {"kernels": len(texts), "llvm_lines": sum(text.count("\n") for text in texts)}
    return line


def main(argv: list[str]) -> None:
    """Alternates the variants and prints a line for each."""
    del argv
    values = flags.FLAGS
    if values.child:
        print(json.dumps(compile_once(values.cases[0], values.child)))
        return
    with Path(values.out).open("w") as file:
        for name in values.cases:
            variants = [
                each
                for each in values.variants
                if each != "flat_optimiser" or not name.startswith("ppo")
            ]
            lines: dict[str, list] = {variant: [] for variant in variants}
            for _ in range(values.repeats):
                for variant in variants:
                    lines[variant].append(child(name, variant))
            for variant in variants:
                with tempfile.TemporaryDirectory() as dump:
                    counted = child(name, variant, dump)
                seconds = {
                    each: round(median(line[each] for line in lines[variant]), 2)
                    for each in lines[variant][0]
                }
                line = {"case": name, "variant": variant, "repeats": values.repeats, **seconds}
                line |= {each: counted[each] for each in ("kernels", "llvm_lines")}
                line |= {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
                print(json.dumps(line), flush=True)
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    cases = ["ppo_cartpole", "td3_pendulum", "sac_pendulum"]
    flags.DEFINE_list("cases", cases, "Which cases of bench_train.py.")
    flags.DEFINE_list("variants", list(VARIANTS), "Which variants.")
    flags.DEFINE_integer("repeats", 5, "Timed compilations of each.", lower_bound=1)
    flags.DEFINE_string("child", None, "The variant that this process compiles.")
    flags.DEFINE_string("out", str(ROOT / "results" / "compile.jsonl"), "The file of the lines.")
    app.run(main)

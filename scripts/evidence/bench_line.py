"""The line that a peer's benchmark prints: the keys of bench_train.py. Imported by the scripts that
bench_peers.py runs, with the Python of the peer's own environment.
"""

import json
import platform
from importlib import metadata

import jax
import numpy as np


def show(
    peer: str,
    case: str,
    seed: int,
    *,
    steps: int,
    compile_s: float,
    run_s: float,
    cpu_s: float,
    returns: np.ndarray,
    packages: tuple[str, ...],
    seeds: int = 1,
    updates: int = 0,
    versions: dict[str, str] | None = None,
) -> None:
    """Prints the line.

    Args:
      peer: whose run it was.
      case: its case.
      seed: its first seed.
      steps: environment steps of each seed in `run_s`.
      compile_s: seconds of tracing and compiling.
      run_s: seconds of running.
      cpu_s: processor seconds of running.
      returns: of the episodes that tell what was learned.
      packages: whose versions the line names.
      seeds: how many ran side by side.
      updates: of the critics, in `run_s`.
      versions: more versions.
    """
    rates = {"updates_per_s": run_s, "updates_per_cpu_s": cpu_s} if updates else {}
    line = {
        "peer": peer,
        "case": case,
        "seed": seed,
        "seeds": seeds,
        "steps": steps,
        "compile_s": round(compile_s, 2),
        "run_s": round(run_s, 3),
        "cpu_s": round(cpu_s, 3),
        "steps_per_s": round(steps * seeds / run_s),
        **{name: round(updates / seconds, 1) for name, seconds in rates.items()},
        "final_return": round(float(np.mean(returns)), 1),
        "versions": {
            **(versions or {}),
            "python": platform.python_version(),
            **{each: metadata.version(each) for each in packages},
            "device": jax.devices()[0].device_kind,
        },
    }
    print(json.dumps(line), flush=True)

"""How long one waits: `python scripts/evidence/bench_start.py`, one JSON line per start.

Each start is a process of its own that trains PPO on CartPole for 200k steps with everything that
`scripts/ppo.py` does: evaluations, checkpoints, logs, figure. The first one of a side finds no
compiled programs, those after it find what it has left. `first_s` is wall-clock time until the
first row of the log is written, `all_s` until the process has ended, `cpu_s` its processor seconds.
With --peers=onejit,ajax, Ajax 0.4.0 trains beside it, likewise, without any of these files, from
the environment that bench_peers.py makes. Lines also go to results/start.jsonl; run it with nothing
else running.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags
from bench_peers import peer_python

from onejit.algos.host import compilation_cache, runner

ROOT = Path(__file__).parents[2]
AJAX = """
from ajax import PPO
layers = ("64", "tanh", "64", "tanh")
agent = PPO("CartPole-v1", n_envs=64, n_steps=32, num_minibatches=4, n_epochs=4,
    actor_learning_rate=1e-3, critic_learning_rate=1e-3, ent_coef=0.01,
    actor_architecture=layers, critic_architecture=layers)
agent.train(seed=0, n_timesteps=200_000)
"""


def start(peer: str, folder: Path) -> dict[str, float]:
    """Starts a side with the compiled programs that are kept in a folder, and measures it."""
    caches = (compilation_cache.VARIABLE, "AJAX_JAX_COMPILE_CACHE_DIR")
    of_the_shell = ("JAX_", "PYTHONDONTWRITEBYTECODE")  # a user's first start leaves bytecode, too
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(of_the_shell)
    }
    environment |= dict.fromkeys(caches, str(folder / "programs"))
    out = folder / f"runs-{time.time_ns()}"
    commands = {
        "onejit": [sys.executable, ROOT / "scripts" / "ppo.py", "--total_steps=2e5"],
        "ajax": [peer_python("ajax") if peer == "ajax" else None, "-c", AJAX],
    }
    command = [*commands[peer], *([f"--out={out}"] if peer == "onejit" else [])]
    before, begin, first = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), None
    folder.mkdir(exist_ok=True)
    said = folder / "said"
    with said.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    while process.poll() is None:
        if first is None and any(path.stat().st_size for path in out.glob("*/metrics.jsonl")):
            first = time.perf_counter() - begin
        time.sleep(0.01)
    whole = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(said.read_text())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    measured = {"all_s": round(whole, 2), "cpu_s": round(cpu, 2)}
    return ({"first_s": round(first, 2)} if first else {}) | measured


def main(argv: list[str]) -> None:
    """Alternates the sides and prints a line for each start."""
    del argv
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(flags.FLAGS.starts):
            for peer in flags.FLAGS.peers:
                line = {"peer": peer, "start": number + 1, **start(peer, Path(temporary) / peer)}
                line |= {"versions": runner.versions()}
                print(json.dumps(line), flush=True)
                with Path(flags.FLAGS.out).open("a") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    flags.DEFINE_integer("starts", 6, "Of each side; the first finds nothing compiled.")
    flags.DEFINE_list("peers", ["onejit"], "Which sides: onejit, ajax.")
    flags.DEFINE_string("out", str(ROOT / "results" / "start.jsonl"), "Where lines are added.")
    app.run(main)

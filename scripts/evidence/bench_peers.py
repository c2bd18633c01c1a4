"""Training speed beside peers: `python scripts/evidence/bench_peers.py --cases=ppo_cartpole`, one
JSON line per run.

Builds each peer a virtual environment of its own (.venv-rejax: rejax 0.1.3 needs gymnax 0.0.9,
current gymnax breaks it; .venv-ajax: ajax-rl 0.4.0, which asks for Python 3.12 and runs on 3.11
too; .venv-brax: Brax's trainers need a jax before 0.10; .venv-sbx, with torch), then alternates
cases and sides, each run a process of its own, so that all meet the same machine. Run it with
nothing else running. purejaxrl runs in rejax's environment from a git checkout, which is cloned
unless --purejaxrl names one. Lines also go to results/peers.jsonl; tables of medians are printed at
the end, and by --table alone. A peer is left out of the cases that it does not have. A run that
does not end in --timeout seconds is killed, and its line has `none_in_s` alone. With --newest
onejit, rejax and Ajax run by the newest Python that is found and with the newest jax that gymnax
allows.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from statistics import median

import interpreters
import numpy as np
from absl import app, flags

from onejit.algos.host.plotting import interval_of_mean

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "six", "brax==0.14.2", "jax==0.10.2"),
    "ajax": (
        *("jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "chex<0.2", "distrax", "gymnax==1.0.1"),
        *("six", "flashbax==0.1.3", "tensorboardx", "tqdm"),
    ),
    "brax": ("brax==0.14.2", "gymnax==0.0.9", "six", "jax<0.10"),
    "sbx": ("sbx-rl==0.28.0", "jax==0.10.2"),
}
# With --newest: by the newest Python that is found, and the newest jax that gymnax allows.
NEWEST = {
    "onejit": ("--editable", str(ROOT)),
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "six", "brax==0.14.2", "jax<0.12"),
    "ajax": ("ajax-rl==0.4.0", "gymnax==1.0.1", "six", "jax<0.12"),
}
# By itself: its wheel asks for Python 3.12, as the newest versions of what it needs do.
ALONE = {"ajax": "ajax-rl==0.4.0"}
PUREJAXRL = ("https://github.com/luchris429/purejaxrl", "31756b197773a52db763fdbe6d635e4b46522a73")
CASES = (
    "ppo_cartpole",
    "ppo_pendulum",
    "ppo_halfcheetah",
    "ppo_halfcheetah_bank",
    "ppo_cartpole_16_seeds",
    "ppo_pendulum_16_agents",
    "td3_pendulum",
    "sac_pendulum",
    "td3_pendulum_buffer_1e4",
    "td3_pendulum_buffer_1e6",
    "td3_pendulum_128_envs",
)
SHORT = ("td3_pendulum_4k", "sac_pendulum_4k")
MEMORY_CASES = tuple(
    f"ppo_{size}_envs_{memory}" for size in (64, 1024) for memory in ("none", "gru", "lstm")
)
AGENTS = tuple(f"ppo_{agents}_agents" for agents in (1, 4, 16, 64, 256))
# As AGENTS, for a fourth of the steps.
SEEDS = ("ppo_cartpole_256_seeds", "ppo_pendulum_256_seeds")
KNOWN_CASES = {
    "onejit": (*CASES, *SHORT, *AGENTS, *SEEDS, *MEMORY_CASES),
    "rejax": (*CASES, *SHORT, *AGENTS, *SEEDS),
    "purejaxrl": ("ppo_cartpole", "ppo_halfcheetah", *AGENTS),
    "ajax": (
        *("ppo_cartpole", "ppo_pendulum", "ppo_cartpole_16_seeds", "ppo_pendulum_16_agents"),
        *("td3_pendulum", "sac_pendulum", *SHORT, *AGENTS, *SEEDS, *MEMORY_CASES),
    ),
    "brax": ("ppo_pendulum", "ppo_halfcheetah", "sac_pendulum"),
    "sbx": ("ppo_cartpole", "ppo_pendulum", "td3_pendulum", "sac_pendulum"),
}


def peer_python(peer: str) -> Path:
    """The Python of a peer's environment, which is made if need be."""
    newest = flags.FLAGS.newest
    folder = ROOT / (f".venv-{peer}-newest" if newest else f".venv-{peer}")
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        subprocess.run(
            [newest_python() if newest else sys.executable, "-m", "venv", folder], check=True
        )
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *(NEWEST if newest else PACKAGES)[peer]], check=True)
        if peer in ALONE and not newest:
            alone = ["--no-deps", "--ignore-requires-python", ALONE[peer]]
            subprocess.run([*install, *alone], check=True)
        (folder / ".installed").touch()
    return python


def newest_python() -> Path:
    """The newest Python of those that onejit names."""
    found = interpreters.interpreters()
    return found[max(found, key=lambda version: tuple(map(int, re.findall(r"\d+", version))))]


def purejaxrl_checkout() -> Path:
    """The folder of purejaxrl's code, which is cloned if need be."""
    if flags.FLAGS.purejaxrl:
        return Path(flags.FLAGS.purejaxrl)
    folder, (url, commit) = ROOT / ".venv-rejax" / "purejaxrl", PUREJAXRL
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", url, folder], check=True)
        subprocess.run(["git", "-C", folder, "checkout", "--quiet", commit], check=True)
    return folder


def timed(command: list) -> dict | None:
    """Runs a benchmark without a compilation cache and returns its line; None if there is none
    within --timeout seconds.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment["AJAX_NO_COMPILE_CACHE"] = "1"
    try:
        output = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            timeout=flags.FLAGS.timeout,
        ).stdout
    except subprocess.TimeoutExpired:
        return None
    return json.loads(output.splitlines()[-1])


def main(argv: list[str]) -> None:
    """Alternates the sides and prints a line for each run, and the tables."""
    del argv
    out = Path(flags.FLAGS.out)
    if flags.FLAGS.table:
        print(tables([json.loads(line) for line in out.read_text().splitlines()]))
        return
    lines = []
    peers = flags.FLAGS.peers
    scripts = Path(__file__).parent
    built = NEWEST if flags.FLAGS.newest else PACKAGES
    lacking = {*peers} - {*built, "onejit", "purejaxrl"}
    if lacking:
        sys.exit(f"--newest is not for {', '.join(sorted(lacking))}")
    pythons = {peer: peer_python(peer) for peer in built if peer in peers}
    pythons.setdefault("onejit", Path(sys.executable))
    if "purejaxrl" in peers:
        pythons["purejaxrl"] = peer_python("rejax")
        checkout = purejaxrl_checkout()
    for seed in range(flags.FLAGS.first_seed, flags.FLAGS.first_seed + flags.FLAGS.repeats):
        for case in flags.FLAGS.cases:
            for peer in peers:
                if case not in KNOWN_CASES[peer]:
                    continue
                if peer == "onejit":
                    script = scripts / "bench_train.py"
                    command = [pythons[peer], script, f"--cases={case}", f"--seed={seed}"]
                else:
                    command = [pythons[peer], scripts / f"bench_{peer}.py", case, str(seed)]
                if peer == "purejaxrl":
                    command.append(checkout)
                none = {"peer": peer, "case": case, "seed": seed, "none_in_s": flags.FLAGS.timeout}
                lines.append(timed(command) or none)
                print(json.dumps(lines[-1]), flush=True)
                with out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    print(tables(lines))


MEASURES = {  # of a line, by what the tables call them; whether more is better
    "steps a second": ("steps_per_s", True),
    "updates per processor second": ("updates_per_cpu_s", True),
    "seconds of compiling": ("compile_s", False),
    "return": ("final_return", None),
}


def tables(lines: list[dict]) -> str:
    """A table of each measure, medians of the runs that ended, the best of a case in bold. Of
    returns the mean of the runs, with the 95 % bootstrap interval.
    """
    peers = [peer for peer in KNOWN_CASES if any(line["peer"] == peer for line in lines)]
    cases = list(dict.fromkeys(line["case"] for line in lines))
    shown = []
    for name, (key, more) in MEASURES.items():
        if not any(key in line for line in lines):
            continue
        shown += ["", f"| {name} | runs | {' | '.join(peers)} |", "|---" * (len(peers) + 2) + "|"]
        for case in cases:
            runs = {
                peer: [x for x in lines if (x["case"], x["peer"]) == (case, peer)] for peer in peers
            }
            medians = {
                peer: median(x[key] for x in rows if key in x)
                for peer, rows in runs.items()
                if any(key in x for x in rows)
            }
            if not medians:
                continue
            best = {True: max, False: min}.get(more, lambda _: None)(medians.values())
            cells = []
            for peer, rows in runs.items():
                if peer not in medians:
                    cells.append("none" if rows else "")
                    continue
                value = medians[peer]
                words = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
                values = np.array([x[key] for x in rows if key in x])
                ended = len(values)
                if key == "final_return":
                    low, high = (float(x[0]) for x in interval_of_mean(values[None]))
                    words = f"{values.mean():.0f} ({low:.0f} to {high:.0f})"
                words = words if ended == len(rows) else f"{words} ({ended} of {len(rows)} ended)"
                cells.append(f"**{words}**" if value == best else words)
            counts = sorted({len(rows) for rows in runs.values() if rows})
            number = "–".join(map(str, counts[:: max(1, len(counts) - 1)]))
            shown.append(f"| {case} | {number} | {' | '.join(cells)} |")
    return "\n".join(shown[1:])


if __name__ == "__main__":
    flags.DEFINE_list("cases", list(CASES), "Which cases to run.")
    flags.DEFINE_multi_enum(
        "peers",
        ["onejit", "rejax"],
        list(KNOWN_CASES),
        "Which sides to run, in this order.",
    )
    flags.DEFINE_bool("table", False, "Run nothing, and print the tables of --out.")
    flags.DEFINE_bool("newest", False, "By the newest Python and jax, see NEWEST.")
    flags.DEFINE_string("purejaxrl", None, "Folder of a checkout of purejaxrl.")
    flags.DEFINE_integer("timeout", 900, "Seconds after which a run is killed.")
    flags.DEFINE_integer("repeats", 5, "Runs of each case and side.")
    flags.DEFINE_integer("first_seed", 0, "Of the first of them; each has the next.")
    flags.DEFINE_string("out", str(ROOT / "results" / "peers.jsonl"), "Where lines are added.")
    app.run(main)

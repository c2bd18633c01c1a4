"""Times purejaxrl's PPO on a case of bench_train.py; run by bench_peers.py with the Python of
rejax's environment.

`python scripts/evidence/bench_purejaxrl.py CASE SEED CHECKOUT` prints one JSON line with the keys
of bench_train.py. The code is that of the checkout, of which three things are changed when it is
read: layers of 256 become 64, Brax's backend becomes spring, and navix, which it imports and does
not need here, is left out. Its return is that of the training episodes that ended in the second
half of the run.
"""

import importlib
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import bench_line
import jax
import numpy as np

COMMON = {
    "LR": 1e-3,
    "NUM_ENVS": 64,
    "NUM_STEPS": 32,
    "UPDATE_EPOCHS": 4,
    "NUM_MINIBATCHES": 4,
    "GAMMA": 0.99,
    "GAE_LAMBDA": 0.95,
    "CLIP_EPS": 0.2,
    "ENT_COEF": 0.01,
    "VF_COEF": 0.5,
    "MAX_GRAD_NORM": 0.5,
    "ACTIVATION": "tanh",
    "ANNEAL_LR": False,
    "NORMALIZE_ENV": False,
}
# In each file: what is replaced, by what, and how often it must be there.
CHANGES = {
    "wrappers.py": (('"positional"', '"spring"', 1),),
    "ppo_continuous_action.py": (("256, kernel_init", "64, kernel_init", 4),),
}
CARTPOLE = {**COMMON, "ENV_NAME": "CartPole-v1"}
CASES = {  # file, config and how many vmapped seeds; 0: one, not vmapped
    "ppo_cartpole": ("ppo.py", {**CARTPOLE, "TOTAL_TIMESTEPS": 499_712}, 0),
    **{
        f"ppo_{agents}_agents": ("ppo.py", {**CARTPOLE, "TOTAL_TIMESTEPS": 102_400}, agents)
        for agents in (1, 4, 16, 64, 256)
    },
    "ppo_halfcheetah": (
        "ppo_continuous_action.py",
        {**COMMON, "ENV_NAME": "halfcheetah", "TOTAL_TIMESTEPS": 102_400},
        0,
    ),
}


def load(checkout: Path, file: str) -> types.ModuleType:
    """The module in a file of the checkout, with the changes that the docstring names, made in
    copies.
    """
    sys.modules["navix"] = types.ModuleType("navix")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("wrappers.py", file):
            source = (checkout / "purejaxrl" / name).read_text()
            for old, new, count in CHANGES.get(name, ()):
                if source.count(old) != count:
                    sys.exit(
                        f"{checkout / name}: expected {old!r} {count} times, found"
                        f" {source.count(old)}"
                    )
                source = source.replace(old, new)
            (Path(folder) / name).write_text(source)
        sys.path.insert(0, folder)
        return importlib.import_module(file.removesuffix(".py"))


def main(name: str, seed: int, checkout: Path) -> None:
    """Compiles and runs a case, and prints its line."""
    file, config, seeds = CASES[name]
    # Makes the environment, which is not timed elsewhere either.
    train = load(checkout, file).make_train(dict(config))
    key = jax.random.PRNGKey(seed)
    key = jax.random.split(key, seeds) if seeds else key
    start = time.perf_counter()
    compiled = jax.jit(jax.vmap(train) if seeds else train).lower(key).compile()
    compile_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    info = jax.block_until_ready(compiled(key))["metrics"]
    run_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    ended = np.asarray(info["returned_episode"])
    last = (*(slice(None),) * bool(seeds), slice(ended.shape[bool(seeds)] // 2, None))
    returns = np.asarray(info["returned_episode_returns"])[last][ended[last]]
    steps = config["TOTAL_TIMESTEPS"]
    commit = subprocess.run(
        ["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    bench_line.show(
        "purejaxrl",
        name,
        seed,
        seeds=max(1, seeds),
        steps=steps,
        compile_s=compile_s,
        run_s=run_s,
        cpu_s=cpu_s,
        returns=returns,
        packages=("jax", "jaxlib", "flax", "optax", "brax", "gymnax", "distrax"),
        versions={"purejaxrl": commit.stdout.strip()},
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

"""Every algorithm's policy, exported, beside its own `act`: `python
scripts/evidence/export_parity.py`, one JSON line each.

The States have random numbers in the place of parameters and statistics, which differ more than
those of a fresh policy do. Compared are 1,000 observations, and three steps of policies that
remember: the largest difference in widths of the action space, or the fraction of discrete actions
that are others. Lines go to results/export.jsonl, written anew. With --keep the exports stay, in a
new folder, for `python scripts/to_onnx.py FOLDER/* --out=results/onnx.jsonl`.
"""

import inspect
import json
import pkgutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from onejit import algos, envs
from onejit.algos.core.fields import ConfigError
from onejit.algos.host import export, runner

ROOT = Path(__file__).parents[2]
SIZES = {
    "actor_hidden_sizes": (16, 16),
    "critic_hidden_sizes": (16, 16),
    "hidden_sizes": (16, 16),
    "buffer_size": 4096,
    "batch_size": 16,
    "memory_size": 16,
    "learning_starts": 16,
}
ENVS = ("gymnax/Pendulum-v1", "gymnax/CartPole-v1")
# What the default configs have not: (algorithm, environment, hyperparameters).
OTHERS = (
    ("ppo", "gymnax/Pendulum-v1", {"memory": "gru", "normalize_obs": True}),
    ("ppo", "gymnax/Pendulum-v1", {"memory": "lstm", "shared_torso": True}),
    ("ppo", "gymnax/Pendulum-v1", {"policy": "tanh_gaussian", "activation": "silu"}),
    ("ppo", "gymnax/Breakout-MinAtar", {}),
    ("ppo", "probe/mask", {}),
    ("td3", "gymnax/Pendulum-v1", {"memory": "gru", "sequence_length": 4}),
    ("sac", "gymnax/Pendulum-v1", {"memory": "lstm", "sequence_length": 4}),
    ("sac", "gymnax/CartPole-v1", {"normalize_obs": True}),
    ("fast_td3", "gymnax/Pendulum-v1", {"dtype": "bfloat16"}),
    ("staq", "gymnax/CartPole-v1", {"memory": 50}),
)


def papers() -> list[str]:
    """The algorithms whose policies act on observations: all but that of tokens."""
    names = [each.name for each in pkgutil.iter_modules(algos.__path__)]
    made = [name for name in names if hasattr(getattr(algos, name, None), "make")]
    return [name for name in made if name != "tokens"]


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(algorithm, environment, hyperparameters): each in both environments that it is for."""
    for name in papers():
        for env_id in ENVS:
            if _fits(getattr(algos, name), env_id):
                yield name, env_id, {}
    yield from OTHERS


def _fits(module: ModuleType, env_id: str) -> bool:
    try:
        module.Config().validate(envs.make(env_id))
    except ConfigError:
        return False
    return True


def make(name: str, env_id: str, changes: dict[str, Any]) -> algos.Algorithm:
    """A small one of the algorithm, which learns from a little data if it is one of those."""
    module, env = getattr(algos, name), envs.make(env_id)
    known = inspect.signature(module.Config).parameters
    sizes = {field: value for field, value in SIZES.items() if field in known}
    data = {}
    takes = inspect.signature(module.make).parameters.get("data")
    if takes is not None and takes.default is inspect.Parameter.empty:
        data["data"] = algos.dataset.record_random(env, jax.random.key(0), num_steps=64, num_envs=4)
    return module.make(env, module.Config(**sizes | changes), **data)


def random_state(algorithm: algos.Algorithm) -> Any:
    """A State of the algorithm's shapes with random numbers as what it has learned."""
    shape = jax.eval_shape(algorithm.init, jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):  # as after some iterations
            return jnp.full(leaf.shape, 40, leaf.dtype)
        numbers = 0.4 * rng.normal(size=leaf.shape)
        is_variance = "var" in jax.tree_util.keystr(path, simple=True, separator=".").split(".")
        return jnp.asarray(np.abs(numbers) if is_variance else numbers, leaf.dtype)

    parts = {
        part: jax.tree.map_with_path(draw, getattr(shape, part))
        for part in ("learner", "behaviour")
        if hasattr(shape, part)
    }
    return shape._replace(config=algorithm.config.as_leaves(), **parts)


def measure(name: str, env_id: str, changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Exports a policy, and what came of it."""
    algorithm = make(name, env_id, changes)
    about = {"algorithm": name, "environment": env_id, "config": changes}
    done = export.export_policy(algorithm, random_state(algorithm), folder, about)
    source = folder / "policy_numpy.py"
    text = source.read_text() if source.exists() else ""
    return {
        "what": "export",
        **about,
        "difference": done.manifest["largest_difference"],
        "remembers": sorted(done.manifest["memory"]),
        "numpy_lines": len(text.splitlines()),
        "problems": done.problems,
        "bytes": (folder / "policy.jaxexport").stat().st_size,
    }


def main(argv: list[str]) -> None:
    """Prints a line for each case."""
    del argv
    known = {"versions": runner.versions()}
    with Path(flags.FLAGS.out).open("w") as file, tempfile.TemporaryDirectory() as place:
        place = Path(flags.FLAGS.keep or place)
        for number, case in enumerate(cases()):
            line = measure(*case, place / f"{number:02}-{case[0]}") | known
            print(json.dumps(line), flush=True)
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    flags.DEFINE_string("out", str(ROOT / "results" / "export.jsonl"), "Where lines go.")
    flags.DEFINE_string("keep", None, "A new folder that the exports stay in.")
    app.run(main)

"""A policy leaves the house: the folder of an exported policy.

policy.jaxexport  the policy as it acts without exploring, parameters and normaliser in it: a
                  program of `jax.export` for cpu, cuda and tpu, and any number of observations
policy_jax.py     reads it by jax alone
policy.npz        the same numbers as arrays, and
policy_numpy.py   the same policy as plain lines of numpy, which read them
manifest.json     spaces, algorithm, environment, versions, and the SHA-256 of each file
"""

import functools
import hashlib
import importlib.machinery
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from ...envs import Box, Discrete, Discretized, Environment, Space
from ..core.algorithm import Algorithm
from . import numpy_source, policy_jax
from .numpy_policy import NumpyError
from .policy_program import Program, make_program
from .run_folder import write_json
from .script_flags import UsageError

PLATFORMS = ("cpu", "cuda", "tpu")
_CHECKED = 1000  # observations
_STEPS = 3  # of a policy that remembers
_TOLERANCE = 1e-3  # of the width of the action space, and of the actions of discrete ones
_FORMAT = 1


class Acting(NamedTuple):
    """How a policy acts without exploring.

    Attributes:
      call: (state, obs, memory) -> (actions, memory), leaves `[n, ...]`; a memory is a dict.
      obs: observations, by shape, of which there are "n"; of a dict the entries that it acts by,
        so without what only critics see.
      memory: likewise, what it acts by of what it remembers; {} for policies that remember nothing.
      initial: what that is at the start of an episode, without the axis n.
      program: of `call`.
    """

    call: Callable[..., Any]
    obs: Any
    memory: dict[str, jax.ShapeDtypeStruct]
    initial: dict[str, np.ndarray]
    program: Program


class Export(NamedTuple):
    """What was written.

    Attributes:
      folder: where.
      manifest: what manifest.json says.
      problems: a sentence for each form that the policy could not be given.
    """

    folder: Path
    manifest: dict[str, Any]
    problems: list[str]


def export_policy(
    algorithm: Algorithm, state: Any, folder: Path | str, about: dict[str, Any] | None = None
) -> Export:
    """Writes a policy as it acts without exploring.

    What is written is compared with `algorithm.act` on 1,000 observations drawn from the space; the
    manifest has the largest difference.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      state: of one member.
      folder: where, which must not exist.
      about: what the manifest is to say beside that: "algorithm", "environment", ...

    Raises:
      UsageError: the folder exists, or cannot be written.
    """
    folder = Path(folder)
    require_new(folder)
    temporary = folder.with_name(f".{folder.name}.incomplete")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        manifest, problems = _write(algorithm, state, temporary, about or {})
        temporary.rename(folder)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Export(folder, manifest, problems)


def require_new(folder: Path) -> None:
    """Refuses a folder that exists.

    Raises:
      UsageError: it does.
    """
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder}: exists, and what is exported gets a folder of its own")


def _write(algorithm, state, folder, about) -> tuple[dict[str, Any], list[str]]:
    acting = make_acting(algorithm, state)
    memory = {
        name: {"shape": list(x.shape), "dtype": str(x.dtype), "initial": _short(x)}
        for name, x in acting.initial.items()
    }
    manifest = {
        "format": _FORMAT,
        **about,
        "observation_space": described(_seen(acting, algorithm.env.observation_space)),
        "action_space": _described_actions(algorithm.env),
        "memory": memory,
        "platforms": list(PLATFORMS),
    }
    (folder / "policy.jaxexport").write_bytes(_artifact(acting, state))
    shutil.copyfile(policy_jax.__file__, folder / "policy_jax.py")
    problems = []
    try:
        source, arrays = numpy_source.write(
            acting.program, acting.obs, acting.initial, algorithm.env.action_space
        )
    except NumpyError as error:
        problems.append(f"policy_numpy.py: the policy cannot be written in numpy: {error}")
    else:
        (folder / "policy_numpy.py").write_text(source)
        np.savez(folder / "policy.npz", **arrays)

    def finish(**more):
        files = sorted(path for path in folder.iterdir() if path.name != "manifest.json")
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        whole = manifest | more | {"files": digests}
        write_json(folder / "manifest.json", whole, indent=1, allow_nan=False)
        return whole

    finish()
    differences = _differences(algorithm, acting, state, folder)
    if differences.get("policy_numpy.py", 0.0) > _TOLERANCE:
        problems.append(
            f"policy_numpy.py: differs from the policy by {differences.pop('policy_numpy.py'):.2g}"
            " of its actions' range, and was not written"
        )
        for name in ("policy_numpy.py", "policy.npz"):
            (folder / name).unlink()
    return finish(largest_difference=differences), problems


def _short(x: np.ndarray) -> Any:
    """An array as JSON, as one number where all are the same."""
    return x.flat[0].item() if x.size and np.all(x == x.flat[0]) else x.tolist()


def make_acting(algorithm: Algorithm, state: Any) -> Acting:
    """How the policy of a State acts.

    Args:
      algorithm: as `algos.<name>.make` returns it.
      state: its arrays; parts that do not act may be shapes alone.
    """
    (n,) = jax.export.symbolic_shape("n")

    def many(x):
        return jax.ShapeDtypeStruct((n, *x.shape), x.dtype)

    obs = whole = jax.tree.map(many, algorithm.env.observation_space)
    start = algorithm.memory(state, jax.random.key(0), 1)
    first = {
        jax.tree_util.keystr(path, simple=True, separator=".") or "memory": np.asarray(leaf[0])
        for path, leaf in jax.tree.leaves_with_path(start)
    }
    names, structure = list(first), jax.tree.structure(start)

    def call(state, obs, memory):
        size = jax.tree.leaves(obs)[0].shape[0]

        def filled(known, shapes):  # what it does not act by does not matter
            return {
                name: known[name] if name in known else jnp.zeros((size, *x.shape[1:]), x.dtype)
                for name, x in shapes.items()
            }

        obs = filled(obs, whole) if isinstance(whole, dict) else obs
        remembered = jax.tree.unflatten(structure, filled(memory, everything).values())
        action, remembered = algorithm.act(state, obs, jax.random.key(0), True, remembered)
        after = dict(zip(names, jax.tree.leaves(remembered), strict=True))
        return action, {name: after[name] for name in memory}

    everything = {name: many(x) for name, x in first.items()}
    program = make_program(call, state, obs, everything)
    # Of what is remembered, that which the action depends on, now or later.
    offset, order = len(jax.tree.leaves(obs)), sorted(everything)
    outputs, reached = [0], set()
    while (found := program.reached(outputs)) != reached:
        reached = found
        outputs = [0, *(1 + i - offset for i in sorted(reached) if i >= offset)]
    kept = {name: everything[name] for i, name in enumerate(order, offset) if i in reached}
    if isinstance(obs, dict):
        obs = {name: obs[name] for i, name in enumerate(sorted(obs)) if i in reached} or obs
    program = make_program(call, state, obs, kept)
    return Acting(call, obs, kept, {name: first[name] for name in kept}, program)


def _seen(acting: Acting, tree: Any) -> Any:
    """What a policy acts by, of observations or of the space of them."""
    return {name: tree[name] for name in acting.obs} if isinstance(tree, dict) else tree


def _artifact(acting: Acting, state: Any) -> bytearray:
    if acting.memory:
        function = jax.jit(lambda obs, memory: acting.call(state, obs, memory))
        arguments = (acting.obs, acting.memory)
    else:
        function, arguments = jax.jit(lambda obs: acting.call(state, obs, {})[0]), (acting.obs,)
    return jax.export.export(function, platforms=PLATFORMS)(*arguments).serialize()


def described(space: Space) -> dict[str, Any]:
    """A space as JSON: the bounds of a Box are null where there are none."""
    if isinstance(space, dict):
        return {"kind": "Dict", "spaces": {name: described(x) for name, x in space.items()}}
    known = {"kind": type(space).__name__, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, Box):
        bounds = {"low": space.low, "high": space.high}
        return known | {
            name: np.where(np.isfinite(x), x, None).tolist() for name, x in bounds.items()
        }
    if isinstance(space, Discrete):
        return known | {"n": int(space.n)}
    return known | {"nvec": list(space.nvec)}


def _described_actions(env: Environment) -> dict[str, Any]:
    """The action space as JSON; of actions on a grid also what their numbers stand for."""
    known = described(env.action_space)
    if isinstance(env, Discretized):
        known["grid"] = {"bins": env.bins, "of": described(env.env.action_space)}
    return known


def _differences(algorithm, acting, state, folder) -> dict[str, float]:
    """How far each form is from the policy, in a few steps on observations of the space: of a Box
    the largest difference, in widths of it; else the fraction of actions that are others.
    """
    forms = {"policy.jaxexport": policy_jax.load(folder)}
    if (folder / "policy_numpy.py").exists():
        forms["policy_numpy.py"] = load_numpy(folder)
    act = jax.jit(lambda obs, memory: acting.call(state, obs, memory))
    space = algorithm.env.action_space
    memories = {name: form.initial_memory(_CHECKED) for name, form in forms.items()}
    own = policy_jax.load(folder).initial_memory(_CHECKED)
    largest = dict.fromkeys(forms, 0.0)
    drawn = functools.partial(_drawn, np.random.default_rng(0))
    for _ in range(_STEPS if own else 1):
        obs = jax.tree.map(drawn, algorithm.env.observation_space)
        expected, own = act(obs, own)
        obs = _seen(acting, obs)
        for name, form in forms.items():
            if own:
                action, memories[name] = form.act(obs, memories[name])
            else:
                action = form.act(obs)
            largest[name] = max(largest[name], _difference(space, action, expected))
    return largest


def _drawn(rng: np.random.Generator, space: Box | Discrete) -> np.ndarray:
    """Elements of a space: uniform between two bounds, normal where one is missing."""
    shape = (_CHECKED, *space.shape)
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=shape, dtype=space.dtype)
    bounded = np.isfinite(space.low) & np.isfinite(space.high)
    uniform = rng.uniform(
        np.where(bounded, space.low, 0.0), np.where(bounded, space.high, 1.0), shape
    )
    drawn = np.where(bounded, uniform, np.clip(rng.normal(size=shape), space.low, space.high))
    return (drawn > 0.5 if space.dtype == bool else drawn).astype(space.dtype)


def _difference(space, action, expected) -> float:
    action, expected = np.asarray(action), np.asarray(expected)
    if action.dtype != expected.dtype or action.shape != expected.shape:
        return float("inf")
    if isinstance(space, Box):
        widths = np.maximum(space.high - space.low, 1e-6)
        largest = float(np.max(np.abs(action - expected) / widths))
        return float("inf") if np.isnan(largest) else largest
    return float(np.mean(action != expected))


class _Uncached(importlib.machinery.SourceFileLoader):
    """Leaves no __pycache__ beside what it loads."""

    def set_data(self, path, data, *, _mode=0o666):
        """Writes nothing."""


def load_numpy(folder: Path | str) -> ModuleType:
    """The module `policy_numpy.py` of an export."""
    loader = _Uncached("policy_numpy", str(Path(folder) / "policy_numpy.py"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

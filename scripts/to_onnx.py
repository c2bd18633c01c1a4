"""Writes an exported policy as ONNX too: `python scripts/to_onnx.py RUN_FOLDER/policy`.

Takes what scripts/export.py has written and adds policy.onnx to it and to its manifest: the lines
of policy_numpy.py, read with jax.numpy in the place of numpy and converted by jax2onnx. That needs
an older Orbax than onejit does, so it is done in a virtual environment of its own, .venv-onnx,
which is built if need be. On 1,000 observations onnxruntime is compared with policy.jaxexport: the
largest difference, in widths of the action space, or the fraction of discrete actions that are
others; one JSON line for each folder.

Inputs have the names of the observation's entries, "obs" if it has none, and "memory.NAME";
outputs are "action" and "after.NAME". Folders that have no lines of numpy, or that jax2onnx does
not convert, are passed over, in a sentence; exits with 2 if nothing else is left, or one is no
export.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import venv
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
PACKAGES = ("jax==0.10.2", "jax2onnx==0.17.1", "onnxruntime==1.32.0", "flatbuffers>=25")
CHECKED = 1000  # observations
STEPS = 3  # of a policy that remembers


def own_python() -> Path:
    """The Python of the environment of jax2onnx, which is made if need be."""
    folder = ROOT / ".venv-onnx"
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (folder / ".installed").touch()
    return python


def load_module(path: Path) -> ModuleType:
    """A module of an export."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spaces_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The entries of an observation by name, "obs" where it is an array."""
    space = manifest["observation_space"]
    return space["spaces"] if space["kind"] == "Dict" else {"obs": space}


def draw(rng: np.random.Generator, space: dict[str, Any]) -> np.ndarray:
    """Elements of a space that a manifest describes."""
    shape = (CHECKED, *space["shape"])
    if space["kind"] != "Box" or space["dtype"] == "bool":
        return rng.integers(space.get("n", 2), size=shape).astype(space["dtype"])
    low, high = (np.array(space[name], float) for name in ("low", "high"))  # null is nan
    drawn = np.fmin(np.fmax(rng.normal(size=shape), low), high)
    return drawn.astype(space["dtype"])


def convert(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes policy.onnx."""
    import jax
    import jax.numpy as jnp
    from jax2onnx import to_onnx

    policy = load_module(folder / "policy_numpy.py")
    policy.np = jnp  # the same lines, traced
    spaces, memory = spaces_of(manifest), manifest["memory"]

    def flat(*arrays):
        seen = dict(zip([*spaces, *memory], arrays, strict=True))
        obs = seen["obs"] if list(spaces) == ["obs"] else {name: seen[name] for name in spaces}
        if not memory:
            return policy.act(obs)
        action, after = policy.act(obs, {name: seen[name] for name in memory})
        return action, *(after[name] for name in memory)

    (n,) = jax.export.symbolic_shape("n")
    inputs = [
        jax.ShapeDtypeStruct((n, *each["shape"]), each["dtype"])
        for each in (*spaces.values(), *memory.values())
    ]
    to_onnx(
        flat,
        inputs,
        model_name="policy",
        input_names=[*spaces, *(f"memory.{name}" for name in memory)],
        output_names=["action", *(f"after.{name}" for name in memory)],
        return_mode="file",
        output_path=folder / "policy.onnx",
        export_mode="web",  # in one file, whatever its size
    )


def difference(folder: Path, manifest: dict[str, Any]) -> float:
    """How far policy.onnx is from policy.jaxexport."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    policy = load_module(folder / "policy_jax.py").load(folder)
    space, memory = manifest["action_space"], manifest["memory"]
    remembered = own = policy.initial_memory(CHECKED)
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(STEPS if memory else 1):
        seen = {name: draw(rng, each) for name, each in spaces_of(manifest).items()}
        carried = {f"memory.{name}": np.asarray(x) for name, x in remembered.items()}
        action, *after = session.run(None, seen | carried)
        remembered = dict(zip(memory, after, strict=True))
        obs = seen["obs"] if list(seen) == ["obs"] else seen
        expected = policy.act(obs, own) if memory else policy.act(obs)
        if memory:
            expected, own = expected
        if space["kind"] == "Box":
            width = np.array(space["high"]) - np.array(space["low"])
            apart = float(np.max(np.abs(action - np.asarray(expected)) / width))
            apart = float("inf") if np.isnan(apart) else apart
        else:
            apart = float(np.mean(action != np.asarray(expected)))
        largest = max(largest, apart)
    return largest


def add(folder: Path) -> dict[str, Any]:
    """Adds policy.onnx to an export, and returns the line that says so."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_bytes())
    convert(folder, manifest)
    data = (folder / "policy.onnx").read_bytes()
    manifest["files"]["policy.onnx"] = hashlib.sha256(data).hexdigest()
    manifest["largest_difference"]["policy.onnx"] = difference(folder, manifest)
    file.write_text(json.dumps(manifest, indent=1) + "\n")
    versions = {
        name: importlib.metadata.version(name)
        for name in ("jax", "jax2onnx", "onnx", "onnxruntime")
    }
    return {
        "what": "onnx",
        **{name: manifest.get(name) for name in ("algorithm", "environment", "config")},
        "difference": manifest["largest_difference"]["policy.onnx"],
        "bytes": len(data),
        "versions": versions,
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="What scripts/export.py has written.")
    parser.add_argument("--out", type=Path, help="A file that the lines are added to.")
    arguments = parser.parse_args(argv)
    for folder in arguments.folders:
        if not (folder / "manifest.json").is_file():
            print(f"to_onnx.py: {folder}: is no exported policy", file=sys.stderr)
            return 2
    ready = [folder for folder in arguments.folders if (folder / "policy_numpy.py").is_file()]
    if ready and importlib.util.find_spec("jax2onnx") is None:
        words = sys.argv[1:] if argv is None else argv
        return subprocess.run([own_python(), __file__, *words], check=False).returncode
    for folder in set(arguments.folders) - set(ready):
        print(f"to_onnx.py: {folder}: has no lines of numpy to convert", file=sys.stderr)
    converted = False
    for folder in ready:
        try:
            line = json.dumps(add(folder))
        except Exception as error:  # whatever jax2onnx has no way to convert
            if "policy.onnx" not in json.loads((folder / "manifest.json").read_bytes())["files"]:
                (folder / "policy.onnx").unlink(missing_ok=True)
            why = next(iter(str(error).splitlines()), "")
            words = f"jax2onnx or onnxruntime does not take it: {type(error).__name__}: {why}"
            print(f"to_onnx.py: {folder}: {words}", file=sys.stderr)
            continue
        converted = True
        print(line, flush=True)
        if arguments.out:
            with arguments.out.open("a") as file:
                file.write(line + "\n")
    return 0 if converted else 2


if __name__ == "__main__":
    sys.exit(main())

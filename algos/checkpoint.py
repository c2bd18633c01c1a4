"""Checkpoints of a whole State: written by Orbax, and guarded by a manifest against silent damage.

Orbax neither notices flipped bits in array data nor a changed dtype. So each checkpoint carries `manifest.json` with
the SHA-256 of every file and the shape and dtype of every array, and nothing is restored that does not agree with it.
A checkpoint is written under a temporary name and renamed when complete: what exists is whole.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

_FORMAT = 1
_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_TEMPORARY = ".incomplete-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be restored: it is damaged, or it is not of this run. The message names the file or array."""


def save(folder: Path, iteration: int, state: Any, metadata: dict[str, Any]) -> Path:
    """Writes a checkpoint.

    Args:
      folder: the folder of a run's checkpoints; created if need be.
      iteration: which one this is; the checkpoint's name. One that exists is replaced.
      state: a pytree of arrays, typed keys included.
      metadata: JSON-able, given back by `read_metadata`.

    Returns:
      The path of the checkpoint.
    """
    import orbax.checkpoint as ocp

    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    final, temporary = folder / f"{iteration:09d}", folder / f"{_TEMPORARY}{iteration:09d}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    leaves = _named_leaves(state)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(temporary / _ARRAYS, {name: _raw(leaf) for name, leaf in leaves.items() if leaf.size})
    body = {
        "format": _FORMAT,
        "metadata": metadata,
        "leaves": {name: _describe(leaf) for name, leaf in leaves.items()},
        "key_impls": {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)},
        "files": {str(path.relative_to(temporary)): _sha256(path) for path in _files(temporary)},
    }
    (temporary / _MANIFEST).write_text(json.dumps({"sha256": _digest(body), **body}, indent=1))
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    return final


def restore(path: Path, like: Any) -> Any:
    """Reads a checkpoint back.

    Args:
      path: as `save` returned it.
      like: a pytree of the same structure, of arrays or `jax.ShapeDtypeStruct`s (from `jax.eval_shape`).

    Returns:
      The State, bit for bit as it was saved.

    Raises:
      CheckpointError: a file is missing, was changed, or was added; or an array has another name, shape or dtype than
        in `like`.
    """
    import orbax.checkpoint as ocp

    path = path.absolute()
    manifest = _verified_manifest(path)
    leaves = _named_leaves(like)
    saved = manifest["leaves"]
    for name in sorted(saved.keys() ^ leaves.keys()):
        where = "the checkpoint only" if name in saved else "this program's State only"
        raise CheckpointError(f"{path}: the array {name} is in {where}: it is of another algorithm, config or version")
    for name, leaf in leaves.items():
        if _describe(leaf) != saved[name]:
            raise CheckpointError(
                f"{path}: the array {name} is {_in_words(saved[name])}, expected {_in_words(_describe(leaf))}"
            )
    target = {name: jax.eval_shape(_raw, leaf) for name, leaf in leaves.items()}
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(path / _ARRAYS, {name: leaf for name, leaf in target.items() if leaf.size})
    # Orbax refuses arrays without elements, such as the activations of a robot that has none.
    arrays |= {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in target.items() if not leaf.size}
    impls = manifest["key_impls"]
    restored = [jax.random.wrap_key_data(arrays[n], impl=impls[n]) if n in impls else arrays[n] for n in leaves]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata given to `save`.

    Raises:
      CheckpointError: a file is missing, was changed, or was added.
    """
    return _verified_manifest(path.absolute())["metadata"]


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def clean(folder: Path) -> None:
    """Removes what saves that were killed left behind."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path, keep: set[Path]) -> None:
    """Removes all checkpoints in a folder but those to keep."""
    for path in checkpoints(folder):
        if path not in keep:
            shutil.rmtree(path)


def _named_leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _describe(leaf: Any) -> dict[str, Any]:
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape)}


def _in_words(description: dict[str, Any]) -> str:
    return f"{description['dtype']}{description['shape']}"


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _MANIFEST)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _verified_manifest(path: Path) -> dict[str, Any]:
    """The manifest, once it and every file that it lists are what they were."""
    manifest_path = path / _MANIFEST
    if not manifest_path.is_file():
        raise CheckpointError(f"{manifest_path}: not found, so {path} is not a complete checkpoint")
    try:
        manifest = json.loads(manifest_path.read_bytes())
        digest = manifest.pop("sha256")
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{manifest_path}: damaged, it is not a manifest any more") from error
    if digest != _digest(manifest):
        raise CheckpointError(f"{manifest_path}: damaged, its checksum does not agree")
    if manifest["format"] != _FORMAT:
        raise CheckpointError(f"{manifest_path}: has format {manifest['format']}, this version reads {_FORMAT}")
    listed = manifest["files"]
    for name in listed:
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name}: missing")
        if _sha256(path / name) != listed[name]:
            raise CheckpointError(f"{path / name}: damaged, its checksum does not agree")
    for file in _files(path):
        if str(file.relative_to(path)) not in listed:
            raise CheckpointError(f"{file}: does not belong to the checkpoint")
    return manifest

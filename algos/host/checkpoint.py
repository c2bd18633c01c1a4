"""Checkpoints of a whole State: written by Orbax, and guarded by a manifest against silent damage.

Orbax neither notices flipped bits in array data nor a changed dtype. So each checkpoint carries
`manifest.json` with the SHA-256 of every file, hashed once when it is written, and the shape and
dtype of every array; nothing is restored that does not agree with it. A checkpoint is written under
a temporary name, synced to the disk and renamed when complete: what exists is whole. Paths may be
relative, and strings. Of several processes, which all call these functions, each writes its part.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from . import processes
from .console import quiet_threads

_FORMAT = 4  # of the State's layout too
_MANIFEST = "manifest.json"
_ARRAYS = "arrays"
_TEMPORARY = ".incomplete-"
_REPLACED = ".replaced-"
_NAME = re.compile(r"\d{9,}")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be restored: it is damaged, or it is not of this run. The message names
    the file or array.
    """


class CheckpointWriteError(RuntimeError):
    """A checkpoint could not be written. Those before it are as they were."""


def save(
    folder: Path | str,
    iteration: int,
    state: Any,
    metadata: dict[str, Any],
    *,
    without: Collection[str] = (),
) -> Path:
    """Writes a checkpoint.

    Args:
      folder: the folder of a run's checkpoints; created if need be.
      iteration: which one this is; the checkpoint's name. One that exists is replaced.
      state: a pytree of arrays, typed keys included.
      metadata: JSON-able, given back by `read_metadata`.
      without: what is left out: names of parts of the state, such as "replay".

    Returns:
      The path of the checkpoint, in `folder`.

    Raises:
      CheckpointWriteError: it could not be written; the message says why.
    """
    folder = Path(folder)
    name = f"{iteration:09d}"
    final, replaced = folder / name, folder / f"{_REPLACED}{name}"
    temporary = folder / f"{_TEMPORARY}{name}"
    leaves = {
        each: leaf for each, leaf in _named_leaves(state).items() if not _is_in(each, without)
    }
    try:
        if processes.first():
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        processes.meet()
        with quiet_threads():
            _write_arrays(temporary, leaves)
        if processes.first():
            _write_manifest(temporary, leaves, metadata, list(without))
            if os.path.lexists(final):
                final.rename(replaced)  # stopped here, `clean` puts it back
            temporary.rename(final)
            _sync(folder)
            _remove(replaced)
        processes.meet()
    except Exception as error:  # Orbax has no error of its own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointWriteError(
            f"{final}: the checkpoint could not be written ({_reason(error)})"
        ) from error
    return final


def _write_arrays(folder: Path, leaves: dict[str, Any]) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        arrays = {name: _raw(leaf) for name, leaf in leaves.items() if leaf.size}
        checkpointer.save(folder.absolute() / _ARRAYS, arrays)


def _write_manifest(
    folder: Path, leaves: dict[str, Any], metadata: dict[str, Any], without: list[str]
) -> None:
    body = {
        "format": _FORMAT,
        "metadata": metadata,
        "without": without,
        "leaves": {name: _describe(leaf) for name, leaf in leaves.items()},
        "key_impls": {
            name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)
        },
        "files": {str(path.relative_to(folder)): _sha256(path) for path in _files(folder)},
    }
    (folder / _MANIFEST).write_text(json.dumps({"sha256": _digest(body), **body}))
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    """Has a file, or the names in a folder, on the disk before what follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    """A few words of an error whose own text may be a page."""
    text = str(error)
    number = getattr(error, "errno", None)
    for code in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS, errno.EACCES):
        if (
            number == code
            or os.strerror(code) in text
            or (code == errno.ENOSPC and "RESOURCE_EXHAUSTED" in text)
        ):
            return os.strerror(code)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def restore(path: Path | str, like: Any) -> Any:
    """Reads a checkpoint back.

    Args:
      path: as `save` returned it.
      like: a pytree of the same structure, of arrays or `jax.ShapeDtypeStruct`s (from
        `jax.eval_shape`). Where they have a sharding the arrays will lie so, however many devices
        they were saved from; else on the default device.

    Returns:
      The State, bit for bit as it was saved. Parts that `save` was told to leave out are those of
      `like`.

    Raises:
      CheckpointError: a file is missing, was changed, or was added; or an array has another name,
        shape or dtype than in `like`.
    """
    import orbax.checkpoint as ocp

    path = Path(path)
    manifest = verify(path)
    everything = _named_leaves(like)
    leaves = {
        name: leaf for name, leaf in everything.items() if not _is_in(name, manifest["without"])
    }
    saved = manifest["leaves"]
    for name in sorted(saved.keys() ^ leaves.keys()):
        where = "the checkpoint only" if name in saved else "this program's State only"
        raise CheckpointError(
            f"{path}: the array {name} is in {where}: it is of another algorithm, config or version"
        )
    for name, leaf in leaves.items():
        if _describe(leaf) != saved[name]:
            raise CheckpointError(
                f"{path}: the array {name} is {_in_words(saved[name])}, expected"
                f" {_in_words(_describe(leaf))}"
            )
    target = {name: _target(leaf) for name, leaf in leaves.items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            arrays = checkpointer.restore(
                path.absolute() / _ARRAYS,
                {name: leaf for name, leaf in target.items() if leaf.size},
            )
    # every file is what was written: what is left is a version that cannot read it
    except Exception as error:
        raise CheckpointError(f"{path}: its arrays cannot be read ({_reason(error)})") from error
    # Orbax refuses arrays without elements, such as the activations of a robot that has none.
    arrays |= {
        name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in target.items() if not leaf.size
    }
    impls = manifest["key_impls"]
    restored = {
        n: jax.random.wrap_key_data(x, impl=impls[n]) if n in impls else x
        for n, x in arrays.items()
    }
    return jax.tree.unflatten(jax.tree.structure(like), list((everything | restored).values()))


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The metadata given to `save`. Reads the manifest alone: `verify` says whether the arrays are
    whole.

    Raises:
      CheckpointError: the manifest is missing or was changed.
    """
    return _read_manifest(Path(path))["metadata"]


def verify(path: Path | str) -> dict[str, Any]:
    """The manifest of a checkpoint, once it and every file that it lists are what they were.

    Raises:
      CheckpointError: a file is missing, was changed, or was added.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    try:
        for name, digest in manifest["files"].items():
            if not (path / name).is_file():
                raise CheckpointError(f"{path / name}: missing")
            if _sha256(path / name) != digest:
                raise CheckpointError(f"{path / name}: damaged, its checksum does not agree")
    except OSError as error:
        raise CheckpointError(f"{error.filename}: cannot be read ({error.strerror})") from error
    for file in _files(path):
        if str(file.relative_to(path)) not in manifest["files"]:
            raise CheckpointError(f"{file}: does not belong to the checkpoint")
    return manifest


def checkpoints(folder: Path | str) -> list[Path]:
    """The complete checkpoints in a folder, oldest first. What has another name than `save` gives
    is left alone.
    """
    folder = Path(folder)
    found = (
        [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    )
    return sorted((path for path in found if path.is_dir()), key=lambda path: int(path.name))


def clean(folder: Path | str) -> None:
    """Removes what saves that were killed left behind."""
    for path in Path(folder).glob(f"{_REPLACED}*"):
        original = path.with_name(path.name.removeprefix(_REPLACED))
        if original.exists():
            _remove(path)
        else:
            path.rename(original)
    for path in Path(folder).glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def prune(folder: Path | str, keep: Collection[Path]) -> None:
    """Removes all checkpoints in a folder but those to keep, which are told by their names."""
    names = {path.name for path in keep}
    for path in checkpoints(folder):
        if path.name not in names:
            shutil.rmtree(path, ignore_errors=True)


def _remove(path: Path) -> None:
    """Removes a folder, or a link to one."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_in(name: str, parts: Collection[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _named_leaves(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _target(leaf: Any) -> jax.ShapeDtypeStruct:
    """What Orbax is to make of an array, and where: by itself it takes the devices of the save."""
    raw = jax.eval_shape(_raw, leaf)
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(raw.shape, raw.dtype, sharding=sharding)


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


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, once it is what it was."""
    manifest_path = path / _MANIFEST
    if not manifest_path.is_file():
        raise CheckpointError(f"{manifest_path}: not found, so {path} is not a complete checkpoint")
    try:
        manifest = json.loads(manifest_path.read_bytes())
        digest = manifest.pop("sha256")
    except OSError as error:
        raise CheckpointError(f"{manifest_path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{manifest_path}: damaged, it is not a manifest any more") from error
    if digest != _digest(manifest):
        raise CheckpointError(f"{manifest_path}: damaged, its checksum does not agree")
    found = manifest.get("format")
    if found != _FORMAT:
        age = "an older" if isinstance(found, int) and found < _FORMAT else "another"
        raise CheckpointError(
            f"{path}: was written by {age} version of onejit, whose States have another layout"
            f" (format {found}, this version reads {_FORMAT}): go on with that version, or start"
            " anew"
        )
    if not {"metadata", "without", "leaves", "key_impls", "files"} <= manifest.keys():
        raise CheckpointError(f"{manifest_path}: damaged, it is not a manifest any more")
    return manifest

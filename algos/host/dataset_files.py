"""Data sets on the disk: one `.npz` of arrays and a manifest, without pickle, and data of Minari.

The manifest is a string of JSON beside the arrays: spaces, environment, what made them, the returns
of random and expert, and the SHA-256 of all that. A file is written under another name first and
renamed, so that what exists is whole.
"""

import contextlib
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...envs import Box, Discrete, Environment
from ..core import dataset
from ..core.collect import Transition
from ..core.dataset import Dataset, DatasetError
from ..core.dataset_checks import named_leaves
from .run_folder import from_json, to_json

_FORMAT = 1
_MANIFEST = "manifest"
_KNOWN = ("env_id", "env_options", "source", "random_score", "expert_score", "true_terminations")


def save(path: Path | str, data: Dataset) -> Path:
    """Writes a data set.

    Args:
      path: of the file; ".npz" is added where it is missing.
      data: what is written.

    Returns:
      The path of the file.

    Raises:
      DatasetError: something is wrong with the data, or the file cannot be written.
    """
    data.check()
    path = Path(path)
    path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
    arrays = named_leaves(data.transitions)
    body = {
        "format": _FORMAT,
        "observation_space": _space_to_json(data.observation_space),
        "action_space": _space_to_json(data.action_space),
        **{name: getattr(data, name) for name in _KNOWN},
    }
    body["env_options"] = {name: to_json(value) for name, value in data.env_options.items()}
    manifest = json.dumps(body | {"sha256": _digest(body, arrays)})
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays, **{_MANIFEST: np.array(manifest)})
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DatasetError(f"{path}: cannot be written ({error.strerror})") from error
    return path


def load(path: Path | str) -> Dataset:
    """Reads a data set as `save` wrote it.

    Raises:
      DatasetError: the file cannot be read, is no data set, or was changed.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        body = json.loads(str(arrays.pop(_MANIFEST)))
        digest = body.pop("sha256")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path}: is no data set, or damaged ({error})") from error
    if body.get("format") != _FORMAT:
        raise DatasetError(
            f"{path}: is of format {body.get('format')}, and this version reads {_FORMAT}"
        )
    if digest != _digest(body, arrays):
        raise DatasetError(f"{path}: damaged, its checksum does not agree")
    known = {name: body[name] for name in _KNOWN}
    known["env_options"] = {name: from_json(x) for name, x in known["env_options"].items()}
    return Dataset(
        transitions=_transition(arrays),
        observation_space=_space_from_json(body["observation_space"]),
        action_space=_space_from_json(body["action_space"]),
        **known,
    )


def from_minari(name: str, env: Environment, **known: Any) -> Dataset:
    """A data set of Minari (https://minari.farama.org), from its local store (extra `minari`).

    Observations must be arrays, and actions elements of the environment's action space. An episode
    that neither terminates nor is truncated is truncated here, since its record breaks off.

    Args:
      name: as `minari.load_dataset` takes it, such as "mujoco/halfcheetah/medium-v0".
      env: a single environment of the same spaces, such as `envs.make("mjx/HalfCheetah-v5")`.
      **known: attributes of the `Dataset`.

    Raises:
      ModuleNotFoundError: Minari is not installed.
      DatasetError: something is wrong with the data, or they are of another environment.
    """
    try:
        import minari
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "minari is not installed: pip install 'onejit[minari]'"
        ) from error
    columns = {field: [] for field in Transition._fields[:6]}
    for episode in minari.load_dataset(name).iterate_episodes():
        obs = episode.observations
        if not isinstance(obs, np.ndarray):
            raise DatasetError(
                f"{name}: observations are {type(obs).__name__}, and must be arrays: flatten them"
            )
        truncated = np.array(episode.truncations, bool)
        truncated[-1] |= not episode.terminations[-1]
        columns["obs"].append(obs[:-1])
        columns["action"].append(episode.actions)
        columns["reward"].append(episode.rewards)
        columns["terminated"].append(np.array(episode.terminations, bool))
        columns["truncated"].append(truncated)
        columns["next_obs"].append(obs[1:])
    if not columns["reward"]:
        raise DatasetError(f"{name}: has no episode")
    floats = {"obs": np.float32, "reward": np.float32, "next_obs": np.float32}
    arrays = {
        field: np.concatenate(parts).astype(floats.get(field, parts[0].dtype))
        for field, parts in columns.items()
    }
    return dataset.from_arrays(env, **arrays, **({"source": f"Minari's {name}"} | known))


def _transition(arrays: dict[str, np.ndarray]) -> Transition:
    fields: dict[str, Any] = {}
    for name, array in arrays.items():
        field, dot, key = name.partition(".")
        if dot:
            fields.setdefault(field, {})[key] = array
        else:
            fields[field] = array
    missing = [name for name in Transition._fields[:6] if name not in fields]
    return Transition(**fields, **dict.fromkeys(missing, ()))


def _digest(body: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()


def _space_to_json(space: Any) -> dict[str, Any]:
    if isinstance(space, dict):
        return {"dict": {name: _space_to_json(each) for name, each in space.items()}}
    if isinstance(space, Discrete):
        return {"discrete": space.n}
    if not isinstance(space, Box):
        raise DatasetError(f"a space {space} cannot be written: Box, Discrete or a dict of Boxes")
    bounds = {
        name: [to_json(float(x)) for x in np.ravel(getattr(space, name))]
        for name in ("low", "high")
    }
    kind = {"shape": list(space.shape), "dtype": str(space.dtype), "normalize": space.normalize}
    return {"box": bounds | kind}


def _space_from_json(body: dict[str, Any]) -> Any:
    if "dict" in body:
        return {name: _space_from_json(each) for name, each in body["dict"].items()}
    if "discrete" in body:
        return Discrete(body["discrete"])
    box = body["box"]
    low, high = (
        np.array([from_json(x) for x in box[name]], np.float32).reshape(box["shape"])
        for name in ("low", "high")
    )
    return Box(low, high, tuple(box["shape"]), np.dtype(box["dtype"]), box["normalize"])

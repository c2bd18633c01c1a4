"""An exported policy, by jax alone: `policy = load(FOLDER)`, `actions = policy.act(obs)`.

The export writes a copy of this file beside the policy. It needs jax, and the package flatbuffers
in which jax stores programs.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp

_ARTIFACT = "policy.jaxexport"


class Policy:
    """A policy that acts without exploring.

    Args:
      manifest: what manifest.json says.
      program: of jax.export.

    Attributes:
      manifest: spaces, algorithm, environment, versions.
    """

    def __init__(self, manifest: dict[str, Any], program: jax.export.Exported):
        self.manifest = manifest
        self._call = jax.jit(program.call)

    def initial_memory(self, n: int) -> dict[str, jax.Array]:
        """What a policy that remembers does at the start of n episodes, leaves `[n, ...]`; {} for
        others.
        """
        memory = self.manifest["memory"].items()
        return {
            name: jnp.broadcast_to(jnp.asarray(x["initial"], x["dtype"]), (n, *x["shape"]))
            for name, x in memory
        }

    def act(self, obs: Any, memory: dict[str, jax.Array] | None = None) -> Any:
        """The actions for n observations.

        Args:
          obs: leaves `[n, ...]`, as manifest.json's observation_space says.
          memory: of a policy that remembers, as `initial_memory` gives it or the last call.

        Returns:
          Elements of the action space, `[n, ...]`; with a memory (actions, the memory after them).
        """
        return self._call(obs) if memory is None else self._call(obs, memory)


def load(folder: Path | str) -> Policy:
    """Reads an exported policy.

    Args:
      folder: of the export.

    Raises:
      ValueError: there is none, or it is not what was written.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        data = (folder / _ARTIFACT).read_bytes()
        digest = manifest["files"][_ARTIFACT]
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'manifest.json'}: is no manifest of a policy") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{folder / _ARTIFACT}: damaged, its checksum does not agree")
    return Policy(manifest, jax.export.deserialize(bytearray(data)))

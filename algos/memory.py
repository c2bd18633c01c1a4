"""How much memory a config would take, and whether the device has it: asked before anything compiles."""

import math
import os
from typing import Any

import jax

from ..envs import Environment, Space
from .config import ConfigError

_GIB = 2**30


def device_bytes() -> int | None:
    """Memory of the default device in bytes: the accelerator's, or the machine's for a CPU; None if not known."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def space_bytes(space: Space) -> int:
    """Bytes of one element of a space, or of a dict of spaces."""
    spaces = space.values() if isinstance(space, dict) else [space]
    return sum(math.prod(each.shape) * each.dtype.itemsize for each in spaces)


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays in a pytree, of `jax.ShapeDtypeStruct`s too."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def require(field: str, value: object, needed: float, what: str) -> None:
    """Refuses a size with which something cannot fit into the device.

    Raises:
      ConfigError: `needed` bytes are more than the device has.
    """
    available = device_bytes()
    if available is not None and needed > available:
        have = f"the device has {available / _GIB:.1f} GiB"
        raise ConfigError(field, value, f"must be smaller: {what} would take {needed / _GIB:,.1f} GiB, {have}")


def require_rollout(env: Environment, num_envs: int, num_steps: int) -> None:
    """Refuses an on-policy config whose rollout cannot fit; the environments' own states come on top of it.

    Raises:
      ConfigError: with the bytes needed and there.
    """
    # obs and next_obs, the action; log_prob, reward, value, next value, advantage, target; two flags
    row = 2 * space_bytes(env.observation_space) + space_bytes(env.action_space) + 6 * 4 + 2
    require("num_envs", num_envs, float(num_envs) * num_steps * row, f"a rollout of {num_envs} × {num_steps} steps")

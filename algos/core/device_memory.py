"""How much memory a config would take, and whether the device has it: asked before anything
compiles.
"""

import math
import os
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from ...envs import Space
from .config import ConfigError

_GIB = 2**30


def device_bytes() -> int | None:
    """Memory of the default device in bytes: the accelerator's, or the machine's for a CPU; None if
    not known.
    """
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


class Part(NamedTuple):
    """A part of what a run holds at once.

    Attributes:
      fields: the hyperparameters that decide its size; the one with the largest value is named.
      bytes: its size.
      what: it, in words.
    """

    fields: tuple[str, ...]
    bytes: float
    what: str


def require(config: Any, *parts: Part) -> None:
    """Refuses a config, or the settings of a run, of which the parts together cannot fit into the
    device.

    Raises:
      ConfigError: they take more bytes than the device has; names a hyperparameter of the largest
        part.
    """
    available = device_bytes()
    needed = sum(part.bytes for part in parts)
    if available is None or needed <= available:
        return
    largest = max(parts, key=lambda part: part.bytes)
    field = max(largest.fields, key=lambda name: np.max(getattr(config, name)))
    all_of_it = f", and all together {needed / _GIB:,.1f} GiB" if largest.bytes < available else ""
    takes = f"{largest.what} would take {largest.bytes / _GIB:,.1f} GiB{all_of_it}"
    allowed = f"must be smaller: {takes}, the device has {available / _GIB:.1f} GiB"
    raise ConfigError(field, getattr(config, field), allowed)


def backward_bytes(module: nn.Module, params: Any, *inputs: Any) -> float:
    """Bytes that a network keeps for its backward pass.

    Args:
      module: the network.
      params: its parameters, by shape.
      *inputs: a batch, by shape.
    """

    def kept(params, *inputs):
        return jax.vjp(lambda params: module.apply(params, *inputs), params)[1]

    return float(tree_bytes(jax.eval_shape(kept, params, *inputs)))

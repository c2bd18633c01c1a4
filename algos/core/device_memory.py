"""How much memory a config would take, and whether the device has it: asked before anything
compiles.
"""

import math
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from ...envs import Space
from .config import ConfigError

_GIB = 2**30


def device_bytes() -> int | None:
    """Memory of the default device in bytes: the accelerator's, or for a CPU its part of the
    machine's, where that is several devices; None if not known.
    """
    devices = jax.local_devices()
    statistics = devices[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // len(devices)
    except (AttributeError, ValueError, OSError):
        return None


def space_bytes(space: Space) -> int:
    """Bytes of one element of a space, or of a dict of spaces."""
    spaces = space.values() if isinstance(space, dict) else [space]
    return sum(math.prod(each.shape) * each.dtype.itemsize for each in spaces)


def tree_bytes(tree: Any) -> int:
    """Bytes of the arrays in a pytree, of `jax.ShapeDtypeStruct`s too."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def shard_bytes(tree: Any) -> int:
    """Bytes of a pytree of arrays, or `jax.ShapeDtypeStruct`s, on each of the devices over which
    they lie.
    """

    def part(leaf):
        sharding = getattr(leaf, "sharding", None)
        return leaf.shape if sharding is None else sharding.shard_shape(leaf.shape)

    return sum(math.prod(part(leaf)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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


def require(config: Any, *parts: Part, num_devices: int | None = None) -> None:
    """Refuses a config, or the settings of a run, of which the parts together cannot fit into the
    device.

    Args:
      config: or settings.
      *parts: what has to fit.
      num_devices: that have the parts together; by default all there are, over which an
        algorithm may be distributed after it is made.

    Raises:
      ConfigError: they take more bytes than the devices have; names a hyperparameter of the largest
        part.
    """
    num_devices = num_devices or jax.device_count()
    each = device_bytes()
    available = None if each is None else each * num_devices
    needed = sum(part.bytes for part in parts)
    if available is None or needed <= available:
        return
    largest = max(parts, key=lambda part: part.bytes)
    field = max(largest.fields, key=lambda name: np.max(getattr(config, name)))
    all_of_it = f", and all together {needed / _GIB:,.1f} GiB" if largest.bytes < available else ""
    takes = f"{largest.what} would take {largest.bytes / _GIB:,.1f} GiB{all_of_it}"
    have = "the device has" if num_devices == 1 else f"the {num_devices} devices have"
    allowed = f"must be smaller: {takes}, {have} {available / _GIB:.1f} GiB"
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


def program_bytes(program: Any) -> int | None:
    """Bytes that a compiled program takes, with all that is intermediate; None if not known."""
    analysis = program.memory_analysis()
    if analysis is None:
        return None
    needed = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes
    return needed + analysis.output_size_in_bytes - analysis.alias_size_in_bytes


def peak_bytes(function: Callable[..., Any], *arguments: Any) -> float:
    """Bytes of a program's inputs, outputs and intermediate arrays at its fullest moment, estimated
    before it compiles: from which arrays of its jaxpr are still to be used.

    XLA fuses some of them away, and keeps others longer.

    Args:
      function: of arrays; it is traced, and not run.
      *arguments: by shape.
    """
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    fullest = max(_peak(traced), _drawing(traced))
    return float(sum(map(_bytes, (*traced.invars, *traced.outvars))) + fullest)


def _bytes(variable: Any) -> int:
    aval = variable.aval
    return math.prod(aval.shape) * aval.dtype.itemsize


def _peak(jaxpr: Any) -> int:
    """Bytes beside inputs and outputs at the fullest moment: these are the equation's own, of which
    the jaxpr is the body. What an equation was the last to use stays for the next one: XLA cannot
    often put that where it was.
    """
    outputs = {id(each) for each in jaxpr.outvars}
    last = {}
    for place, equation in enumerate(jaxpr.eqns):
        last |= {id(each): place for each in equation.invars}
    live = peak = ended = 0
    ending = {}
    for place, equation in enumerate(jaxpr.eqns):
        sizes = {id(each): _bytes(each) for each in equation.outvars if id(each) not in outputs}
        made = sum(sizes.values())
        inner = max((_peak(each) for each in _inside(equation)), default=0)
        taken_over = 0  # loops write where what they begin with was
        if equation.primitive.name in ("scan", "while"):
            taken_over = min(sum(ending.get(place, ())), sum(map(_bytes, equation.outvars)))
        peak = max(peak, live + ended + made + inner - taken_over)
        live += made
        for name, size in sizes.items():
            ending.setdefault(last.get(name, place), []).append(size)
        ended = sum(ending.pop(place, ()))
        live -= ended
    return peak


def _drawing(jaxpr: Any) -> int:
    """Bytes of the random draws outside of loops, those of the first parameters: XLA makes them all
    at once, each with the two words of a counter before and after its rounds.
    """
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "random_bits":
            total += 4 * sum(map(_bytes, equation.outvars))
        elif equation.primitive.name not in ("scan", "while", "cond"):
            total += sum(map(_drawing, _inside(equation)))
    return total


def _inside(equation: Any) -> Iterator[Any]:
    """The jaxprs of an equation: bodies of loops, branches, functions."""
    for each in jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
    ):
        each = getattr(each, "jaxpr", each)
        if hasattr(each, "eqns"):
            yield each

"""A policy as a list of plain operations: its jaxpr, with all that does not depend on what it sees
computed beforehand.

So parameters, normaliser and hyperparameters are constants of it, and of the State nothing else is
left. Loops of a known length are unrolled, and branches that are known are taken.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.extend import core as jax_core

_CALLS = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
}
_LONGEST_LOOP = 64  # that is unrolled
# What only moves numbers, so that a constant keeps its name.
_MOVES = {"reshape", "broadcast_in_dim", "squeeze", "transpose", "convert_element_type", "copy"}
# Words of a path in a State that say nothing of what a parameter is.
_SILENT = {"learner", "params", "average", "config"}


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """What is known before anything is seen.

    Attributes:
      value: a concrete array.
      name: what it is, such as "policy.torso.Dense_0.kernel".
    """

    value: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the value."""
        return tuple(getattr(self.value, "shape", ()))

    @property
    def dtype(self) -> Any:
        """Of the value."""
        return jax.typeof(self.value).dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What depends on what is seen: an input, or what an operation puts out.

    Attributes:
      shape: its shape, in which the number of observations is a symbol.
      dtype: its dtype.
      node: the operation, None for an input.
      index: which of the operation's results, or which input.
    """

    shape: tuple[Any, ...]
    dtype: Any
    node: "Node | None"
    index: int


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """An operation of jax: its name, parameters, and what it is given."""

    primitive: str
    params: dict[str, Any]
    inputs: tuple["Constant | Value", ...]


@dataclasses.dataclass(frozen=True)
class Program:
    """What a policy computes.

    Attributes:
      inputs: of the function, in the order of its leaves.
      outputs: likewise.
    """

    inputs: list[Value]
    outputs: list[Constant | Value]

    def reached(self, outputs: Sequence[int]) -> set[int]:
        """Which inputs these outputs depend on, by number."""
        seen = set()
        stack = [self.outputs[index] for index in outputs]
        found = set()
        while stack:
            value = stack.pop()
            if isinstance(value, Constant) or value in seen:
                continue
            seen.add(value)
            if value.node is None:
                found.add(value.index)
            else:
                stack += value.node.inputs
        return found


def make_program(function: Callable, state: Any, *inputs: Any) -> Program:
    """The program of a function, (state, *inputs) -> a pytree.

    Args:
      function: traceable.
      state: a pytree of arrays, which are constants of the program.
      *inputs: pytrees of `jax.ShapeDtypeStruct`s.
    """
    closed = jax.make_jaxpr(function)(jax.eval_shape(lambda x: x, state), *inputs)
    named = [Constant(leaf, _name(path)) for path, leaf in jax.tree.leaves_with_path(state)]
    leaves = jax.tree.leaves(inputs)
    values = [Value(leaf.shape, leaf.dtype, None, i) for i, leaf in enumerate(leaves)]
    return Program(values, _evaluate(closed, [*named, *values]))


def _name(path: Any) -> str:
    words = jax.tree_util.keystr(path, simple=True, separator=".").split(".")
    return ".".join(word for word in words if word not in _SILENT) or "parameters"


def _evaluate(closed: Any, arguments: Sequence[Any]) -> list[Any]:
    """What a closed jaxpr puts out: constants, and values with the operations behind them."""
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.invars, arguments, strict=True))
    known |= {
        var: Constant(x, "constant") for var, x in zip(jaxpr.constvars, closed.consts, strict=True)
    }

    def read(atom):
        return Constant(atom.val, "constant") if hasattr(atom, "val") else known[atom]

    for eqn in jaxpr.eqns:
        results = _apply(eqn, [read(atom) for atom in eqn.invars])
        known |= zip(eqn.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _apply(eqn: Any, inputs: list[Any]) -> list[Any]:
    """The results of one equation."""
    name, params = eqn.primitive.name, eqn.params
    constant = all(isinstance(each, Constant) for each in inputs)
    fixed = all(isinstance(size, int) for var in eqn.outvars for size in var.aval.shape)
    if constant and fixed:
        return _folded(eqn, inputs)
    if name in _CALLS:
        inner = params[_CALLS[name]]
        closed = inner if hasattr(inner, "consts") else jax_core.ClosedJaxpr(inner, ())
        return _evaluate(closed, inputs)
    if name == "cond" and isinstance(inputs[0], Constant):
        return _evaluate(params["branches"][int(inputs[0].value)], inputs[1:])
    if name == "scan" and params["length"] <= _LONGEST_LOOP:
        return _unrolled(params, inputs)
    node = Node(name, params, tuple(inputs))
    return [Value(v.aval.shape, v.aval.dtype, node, i) for i, v in enumerate(eqn.outvars)]


def _folded(eqn: Any, inputs: list[Constant]) -> list[Constant]:
    """The results of an equation of constants, computed now; each is named after what it is made
    of.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    out = eqn.primitive.bind(*(each.value for each in inputs), **params)
    names = [each.name.split(".") for each in inputs if each.name != "constant"]
    words = os.path.commonprefix(names)
    if words and eqn.primitive.name not in _MOVES | set(_CALLS):
        words = [*words, eqn.primitive.name]
    name = ".".join(words) or "constant"
    return [Constant(x, name) for x in (out if eqn.primitive.multiple_results else [out])]


def _unrolled(params: dict[str, Any], inputs: list[Any]) -> list[Any]:
    """A scan as one step after the other; what is stacked is joined by "concatenate"."""
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, carry, scanned = _cut(inputs, num_consts, num_carry)
    body, length = params["jaxpr"], params["length"]
    order = range(length)[:: -1 if params["reverse"] else 1]
    rows = []
    for i in order:
        step = _evaluate(body, [*consts, *carry, *(_row(x, i) for x in scanned)])
        carry, row = step[:num_carry], step[num_carry:]
        rows.append(row)
    rows = rows[:: -1 if params["reverse"] else 1]
    return [*carry, *(_stacked(list(each)) for each in zip(*rows, strict=True))]


def _cut(items: list[Any], *sizes: int) -> Iterator[list[Any]]:
    for start, size in itertools.pairwise([0, *itertools.accumulate(sizes), len(items)]):
        yield items[start:size]


def _row(x: Any, i: int) -> Any:
    """Entry i of the first axis."""
    if isinstance(x, Constant):
        return Constant(x.value[i], x.name)
    shape = x.shape[1:]
    limits = {"start_indices": (i, *(0 for _ in shape)), "limit_indices": (i + 1, *shape)}
    part = Value((1, *shape), x.dtype, Node("slice", limits | {"strides": None}, (x,)), 0)
    return Value(shape, x.dtype, Node("squeeze", {"dimensions": (0,)}, (part,)), 0)


def _stacked(rows: list[Any]) -> Any:
    if all(isinstance(row, Constant) for row in rows):
        return Constant(jax.numpy.stack([row.value for row in rows]), "constant")
    first = next(row for row in rows if isinstance(row, Value))
    whole = (len(rows), *first.shape)
    parts = []
    for row in rows:
        shape = (1, *first.shape)
        params = {"new_sizes": shape, "dimensions": None}
        parts.append(Value(shape, first.dtype, Node("reshape", params, (row,)), 0))
    return Value(whole, first.dtype, Node("concatenate", {"dimension": 0}, tuple(parts)), 0)

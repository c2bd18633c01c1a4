"""A policy as a program of numpy, in plain lines, and the arrays that it reads.

Each operation of its `policy_program` becomes an expression; one that is short and used once stands
where it is used. Arrays are broadcast as numpy does it, and only where it matters before that.
"""

import string
from collections import Counter
from typing import Any

import numpy as np

from .numpy_text import (
    ATOM,
    LOOSE,
    POWER,
    SUM,
    Text,
    brackets,
    broadcast_shape,
    infix,
    literal,
    sizes,
    type_name,
)
from .policy_program import Constant, Node, Program, Value

_LONGEST = 48  # characters of an expression that stands within another one
_INFIX = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "pow": "**"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"and": "&", "or": "|", "xor": "^"},
}
_CALLS = {
    "max": "np.maximum({}, {})",
    "min": "np.minimum({}, {})",
    "exp": "np.exp({})",
    "exp2": "np.exp2({})",
    "expm1": "np.expm1({})",
    "log": "np.log({})",
    "log1p": "np.log1p({})",
    "tanh": "np.tanh({})",
    "sin": "np.sin({})",
    "cos": "np.cos({})",
    "sqrt": "np.sqrt({})",
    "rsqrt": "1.0 / np.sqrt({})",
    "square": "np.square({})",
    "abs": "np.abs({})",
    "sign": "np.sign({})",
    "is_finite": "np.isfinite({})",
    "logistic": "0.5 + 0.5 * np.tanh(0.5 * {operand})",  # which does not overflow
    "neg": "-{operand}",
    "not": "~{operand}",
    "clamp": "np.clip({1}, {0}, {2})",
    "select_n": "np.where({0}, {2}, {1})",
}
_REDUCTIONS = {
    "reduce_sum": "np.sum",
    "reduce_max": "np.max",
    "reduce_min": "np.min",
    "reduce_prod": "np.prod",
    "reduce_and": "np.all",
    "reduce_or": "np.any",
    "argmax": "np.argmax",
    "argmin": "np.argmin",
}


class NumpyError(ValueError):
    """A policy cannot be described by numpy; the message says why."""


class Writer:
    """Writes a program.

    Args:
      program: what is written.
      inputs: an expression for each of its inputs.
      names: arrays that have a name wherever they are met.

    Attributes:
      lines: assignments, in order.
      arrays: what the lines read as `w["NAME"]`.
    """

    def __init__(self, program: Program, inputs: list[str], names: dict[str, np.ndarray]):
        self.lines: list[str] = []
        self.arrays: dict[str, np.ndarray] = {}
        self._known = names
        self._texts = {
            value: Text(text, ATOM, value.shape)
            for value, text in zip(program.inputs, inputs, strict=True)
        }
        self._values, uses = _in_order(program.outputs)
        self._uses = uses
        for value in self._values:
            self._texts[value] = self._written(value)

    def output(self, value: Constant | Value) -> str:
        """An expression for an output, in its own shape."""
        return self._full(value).text

    def _written(self, value: Value) -> Text:
        if np.dtype(value.dtype).kind not in "fiub":  # bfloat16's is "V"
            raise NumpyError(f"it computes in {value.dtype}, which numpy does not have")
        made = self._expression(value)
        if made.is_name or (self._uses[value] == 1 and len(made.text) <= _LONGEST):
            return made
        name = f"x{len(self.lines)}"
        self.lines.append(f"{name} = {made.text}")
        return Text(name, ATOM, made.shape)

    def _expression(self, value: Value) -> Text:
        node, name = value.node, value.node.primitive
        if name in _INFIX or name in _CALLS or name == "integer_pow":
            return self._elementwise(value, node)
        if name in ("copy", "stop_gradient"):
            return self._text(node.inputs[0])
        if name == "broadcast_in_dim":
            return self._broadcast(node)
        if name == "convert_element_type":
            inner = self._text(node.inputs[0])
            if node.inputs[0].dtype == value.dtype:
                return inner
            return Text(f"{inner.operand}.astype({type_name(value.dtype)})", ATOM, inner.shape)
        if name in ("reshape", "squeeze"):
            return self._method(node, f"reshape({sizes(value.shape)})", value.shape)
        if name == "transpose":
            order = sizes(node.params["permutation"])
            return self._method(node, f"transpose({order})", value.shape)
        if name in ("slice", "split"):
            return Text(self._full(node.inputs[0]).operand + _index(value), ATOM, value.shape)
        if name == "gather":
            return Text(self._full(node.inputs[0]).operand + _window(node), ATOM, value.shape)
        if name == "stack":
            parts = ", ".join(self._full(each).text for each in node.inputs)
            text = f"np.stack([{parts}], axis={node.params['axis']})"
            return Text(text, ATOM, value.shape)
        if name == "concatenate":
            parts = ", ".join(self._full(each).text for each in node.inputs)
            axis = node.params["dimension"]
            return Text(f"np.concatenate([{parts}], axis={axis})", ATOM, value.shape)
        if name in _REDUCTIONS:
            axes = node.params["axes"]
            axis = axes[0] if len(axes) == 1 else tuple(axes)
            text = f"{_REDUCTIONS[name]}({self._full(node.inputs[0]).text}, axis={axis})"
            cast = f".astype({type_name(value.dtype)})" if name.startswith("arg") else ""
            return Text(text + cast, ATOM, value.shape)
        if name == "dot_general":
            return self._product(value, node)
        raise NumpyError(f"it computes {name!r}, for which there is no line of numpy")

    def _elementwise(self, value: Value, node: Node) -> Text:
        name = node.primitive
        inputs = [self._text(each) for each in node.inputs]
        if name == "div" and np.dtype(value.dtype).kind != "f":
            raise NumpyError("it divides whole numbers, for which there is no line of numpy")
        if name == "select_n" and len(inputs) != 3:
            raise NumpyError("it selects from more than two, for which there is no line of numpy")
        if name == "select_n" and not (inputs[1].shape or inputs[2].shape):
            inputs[1:] = [_typed(each, value.dtype) for each in inputs[1:]]
        shape = broadcast_shape(each.shape for each in inputs)
        if name == "integer_pow":
            return Text(f"{inputs[0].operand} ** {node.params['y']}", POWER, shape)
        if name in _INFIX:
            return infix(_INFIX[name], *inputs, shape)
        texts = (each.text for each in inputs)
        text = _CALLS[name].format(*texts, operand=inputs[0].operand)
        return Text(text, ATOM if text.startswith("np.") else LOOSE, shape)

    def _broadcast(self, node: Node) -> Text:
        """The array with axes of length 1 where it will be broadcast; none in front."""
        inner = self._text(node.inputs[0])
        kept = node.params["broadcast_dimensions"]
        if not inner.shape:
            return inner
        inner = self._full(node.inputs[0])
        ndim = len(node.params["shape"])
        axes = range(kept[0], ndim)
        if len(axes) == len(kept):
            return inner
        index = ", ".join(":" if axis in kept else "None" for axis in axes)
        known = dict(zip(kept, inner.shape, strict=True))
        return Text(f"{inner.operand}[{index}]", ATOM, tuple(known.get(a, 1) for a in axes))

    def _product(self, value: Value, node: Node) -> Text:
        a, b = (self._full(each) for each in node.inputs)
        contracted, batch = node.params["dimension_numbers"]
        if (len(a.shape), len(b.shape)) == (2, 2) and contracted == ((1,), (0,)):
            return infix("@", a, b, value.shape)
        letters = iter(string.ascii_lowercase)
        of_a = [next(letters) for _ in a.shape]
        of_b = [next(letters) for _ in b.shape]
        for pairs in (contracted, batch):
            for i, j in zip(*pairs, strict=True):
                of_b[j] = of_a[i]
        out = [of_a[i] for i in batch[0]]
        out += [x for i, x in enumerate(of_a) if i not in (*contracted[0], *batch[0])]
        out += [x for j, x in enumerate(of_b) if j not in (*contracted[1], *batch[1])]
        spec = f"{''.join(of_a)},{''.join(of_b)}->{''.join(out)}"
        return Text(f'np.einsum("{spec}", {a.text}, {b.text})', ATOM, value.shape)

    def _method(self, node: Node, call: str, shape: tuple[Any, ...]) -> Text:
        return Text(f"{self._full(node.inputs[0]).operand}.{call}", ATOM, shape)

    def _full(self, value: Constant | Value) -> Text:
        """An expression in the value's own shape."""
        text = self._text(value)
        if text.shape == tuple(value.shape):
            return text
        if not text.shape:
            text = _typed(text, value.dtype)
        return Text(f"np.broadcast_to({text.text}, {sizes(value.shape)})", ATOM, value.shape)

    def _text(self, value: Constant | Value) -> Text:
        return self._texts[value] if isinstance(value, Value) else self._constant(value)

    def _constant(self, constant: Constant) -> Text:
        array = np.asarray(constant.value)
        if array.dtype.kind not in "fiub":
            raise NumpyError(f"it has numbers in {array.dtype}, which numpy does not have")
        if array.ndim == 0:
            text = literal(array)
            return Text(text, SUM if text.startswith("-") else ATOM, ())
        return Text(f'w["{self._named(constant.name, array)}"]', ATOM, array.shape)

    def _named(self, name: str, array: np.ndarray) -> str:
        """The name of an array among those that are read, of which equal ones are one."""
        same = (known for known, x in self._known.items() if _equal(x, array))
        first = name = next(same, name)
        number = 2
        while name in self.arrays and not _equal(self.arrays[name], array):
            name, number = f"{first}.{number}", number + 1
        self.arrays[name] = array
        return name


def _typed(number: Text, dtype: Any) -> Text:
    """What may be a number of Python, which numpy would take for one of 64 bits, in its dtype."""
    return Text(f"{type_name(dtype)}({number.text})", ATOM, ())


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b)


def _in_order(outputs: list[Constant | Value]) -> tuple[list[Value], Counter]:
    """The values that are computed, each after what it needs, and how often each is used."""
    order, done = [], set()
    uses = Counter(each for each in outputs if isinstance(each, Value))
    stack = [(each, False) for each in reversed(outputs)]
    while stack:
        value, ready = stack.pop()
        if isinstance(value, Constant) or value.node is None:
            continue
        if ready:
            order.append(value)
        elif value not in done:
            done.add(value)
            uses.update(each for each in value.node.inputs if isinstance(each, Value))
            stack.append((value, True))
            stack += [(each, False) for each in reversed(value.node.inputs)]
    return order, uses


def _index(value: Value) -> str:
    """The index that cuts a result of "slice" or "split" out of what it is of."""
    node = value.node
    params, whole = node.params, node.inputs[0].shape
    if node.primitive == "split":
        axis, lengths = params["axis"], params["sizes"]
        start = sum(lengths[: value.index])
        cuts = [":"] * axis + [f"{start}:{start + lengths[value.index]}"]
    else:
        strides = params["strides"] or (1,) * len(whole)
        cuts = []
        limits = (params["start_indices"], params["limit_indices"], strides, whole)
        for start, limit, stride, size in zip(*limits, strict=True):
            is_whole = isinstance(start, int) and start == 0 and limit == size
            step = "" if stride == 1 else f":{stride}"
            cuts.append((":" if is_whole else f"{start}:{limit}") + step)
    return brackets(cuts)


def _window(node: Node) -> str:
    """The index of a "gather" that takes one known window, as jax makes of `x[:, 2:5]`."""
    operand, indices = node.inputs
    numbers = node.params["dimension_numbers"]
    known = isinstance(indices, Constant) and len(indices.shape) == 1
    if not known or numbers.operand_batching_dims:
        raise NumpyError(
            "it computes 'gather', for which there is a line of numpy only where"
            " one window is taken that is known before"
        )
    places = dict(zip(numbers.start_index_map, np.asarray(indices.value).tolist(), strict=True))
    cuts = []
    for axis, (size, whole) in enumerate(
        zip(node.params["slice_sizes"], operand.shape, strict=True)
    ):
        start = places.get(axis, 0)
        if axis in numbers.collapsed_slice_dims:
            cuts.append(str(start))
        else:
            cuts.append(":" if start == 0 and size == whole else f"{start}:{start + size}")
    return brackets(cuts)

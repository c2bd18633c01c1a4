"""Expressions of numpy as text: how tightly they hold together, indices, shapes and numbers."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

# How tightly an expression holds together, as Python has it.
ATOM, POWER, PRODUCT, SUM, LOOSE = 4, 3, 2, 1, 0
_LEVELS = {"**": POWER, "@": PRODUCT, "*": PRODUCT, "/": PRODUCT, "+": SUM, "-": SUM}


class Text(NamedTuple):
    """An expression.

    Attributes:
      text: Python.
      level: how tightly it holds together.
      shape: of the array that it is, which is broadcast to that of the value where need be.
    """

    text: str
    level: int
    shape: tuple[Any, ...]

    def above(self, level: int) -> str:
        """The expression where only tighter ones can stand without brackets."""
        return self.text if self.level > level else f"({self.text})"

    @property
    def operand(self) -> str:
        """The expression as it can stand in front of a dot."""
        return self.above(POWER)

    @property
    def is_name(self) -> bool:
        """Whether it says no more than a name would."""
        return self.level == ATOM and "(" not in self.text


def infix(operator: str, a: Text, b: Text, shape: tuple[Any, ...]) -> Text:
    """Two expressions beside an operator, in brackets where they need them."""
    level = _LEVELS.get(operator, LOOSE)
    first = a.above(level - 1 if level in (PRODUCT, SUM) else level)
    return Text(f"{first} {operator} {b.above(level)}", level, shape)


def broadcast_shape(shapes: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    """As numpy broadcasts them; sizes may be symbols."""
    out: list[Any] = []
    for shape in shapes:
        out = [1] * (len(shape) - len(out)) + out
        for i, size in enumerate(reversed(shape), 1):
            if not (isinstance(size, int) and size == 1):
                out[-i] = size
    return tuple(out)


def brackets(cuts: list[str]) -> str:
    """An index of the axes' cuts; whole axes at the end are left out."""
    while len(cuts) > 1 and cuts[-1] == ":":
        cuts.pop()
    return f"[{', '.join(cuts)}]"


def sizes(shape: tuple[Any, ...]) -> str:
    """A shape as a tuple of Python, in which the number of observations is n."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def literal(array: np.ndarray) -> str:
    """An array without axes as a number of Python, which becomes the same one in its dtype."""
    if array.dtype.kind != "f":
        return str(array.item())
    number = array.item()
    if not math.isfinite(number):
        return "np.nan" if math.isnan(number) else f"{'-' if number < 0 else ''}np.inf"
    return str(np.float32(number)) if array.dtype == np.float32 else repr(number)


def type_name(dtype: Any) -> str:
    """A dtype as old and new versions of numpy call it."""
    return "np.bool_" if np.dtype(dtype).kind == "b" else f"np.{dtype}"

"""Options of environments, checked before anything is made of them: of the kind of the default that
they replace.
"""

import enum
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_INT32_MAX = 2**31 - 1
_SEQUENCES = (tuple, list, np.ndarray, jax.Array)
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def checked(
    env_id: str,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    low: Mapping[str, float] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The options, each converted to the type of its default.

    Bools, strings, integers (at least 0, if the default is), finite numbers, and sequences of them
    of the default's length; two numbers that ascend must ascend, and may be infinite. What is
    traced or has None as default passes.

    Args:
      env_id: for the message, "suite/name".
      options: what was given.
      defaults: what may be given, with a value of its kind.
      low: the least that some numbers may be.
      choices: what some strings may be.

    Raises:
      ValueError: there is no such option, or it has a value that is not allowed; the message says
        what is.
    """
    for name, value in options.items():
        if name not in defaults:
            raise ValueError(
                f"{env_id} has no option {name!r}; it has {', '.join(defaults) or 'none'}"
            )
        if name in (choices or {}) and not (isinstance(value, str) and value in choices[name]):
            raise ValueError(
                f"{env_id}: {name}={value!r}: must be one of {', '.join(choices[name])}"
            )
    converted = {}
    for name, value in options.items():
        try:
            converted[name] = _converted(value, defaults[name], (low or {}).get(name))
        except _WrongError as error:
            raise ValueError(f"{env_id}: {name}={value!r}: must be {error}") from None
    return converted


def require_count(name: str, value: Any, low: int = 1) -> None:
    """Refuses what is no number of things, an integer of at least `low`.

    Raises:
      ValueError: names it, its value and what is allowed.
    """
    try:
        _integer(value, low)
    except _WrongError as error:
        raise ValueError(f"{name}={value!r}: must be {error}") from None


def unfit(env_id: str, options: Mapping[str, Any], error: Exception) -> ValueError:
    """Options that are of the right kind each, and of which no environment can be made."""
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return ValueError(
        f"{env_id}: {given}: must fit the environment and each other ({type(error).__name__}:"
        f" {error})"
    )


class _WrongError(ValueError):
    """What a value must be."""


def _converted(value: Any, default: Any, low: float | None) -> Any:
    if default is None or isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value) == 0:
        value = value.item()
    if isinstance(default, bool | np.bool_):
        if not isinstance(value, bool | np.bool_):
            raise _WrongError("True or False")
        return bool(value)
    if isinstance(default, enum.Enum):
        names = [each.value for each in type(default)]
        if not (isinstance(value, type(default)) or (isinstance(value, str) and value in names)):
            raise _WrongError(f"one of {', '.join(map(str, names))}")
        return value
    if isinstance(default, str):
        if not isinstance(value, str):
            raise _WrongError("a string")
        return value
    if isinstance(default, numbers.Integral):
        return _integer(value, low if low is not None else 0 if default >= 0 else -_INT32_MAX)
    if isinstance(default, numbers.Real):
        return _number(value, low, infinite=math.isinf(default))
    return _sequence(value, default) if isinstance(default, _SEQUENCES) and len(default) else value


def _integer(value: Any, low: float) -> int:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise _WrongError("an integer")
    if not low <= value <= _INT32_MAX:
        raise _WrongError(f"at least {low}" if value < low else f"at most {_INT32_MAX}")
    return int(value)


def _number(value: Any, low: float | None, *, infinite: bool) -> float:
    kind = "a number" if infinite else "a finite number"
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real) or value != value:
        raise _WrongError(kind)
    if abs(value) > _FLOAT32_MAX and not (infinite and abs(value) == math.inf):
        raise _WrongError(kind)
    if low is not None and value < low:
        raise _WrongError(f"at least {low:g}")
    return float(value)


def _sequence(value: Any, default: Any) -> Any:
    """Strings as many as one likes, numbers as many as the default has."""
    is_array = isinstance(default, np.ndarray | jax.Array)
    like = np.asarray(default).tolist() if is_array else list(default)
    is_range = len(like) == 2 and all(isinstance(x, float) for x in like) and like[0] <= like[1]
    element = math.inf if is_range else like[0]
    words = (
        "strings"
        if isinstance(element, str)
        else f"{len(like)} numbers{', the lower first' if is_range else ''}"
    )
    try:
        items = (
            [_converted(each, element, None) for each in value]
            if isinstance(value, _SEQUENCES)
            else []
        )
    except _WrongError as error:
        raise _WrongError(f"{words}, each {error}") from None
    if (
        not items
        or (len(items) != len(like) and not isinstance(element, str))
        or (is_range and items[0] > items[1])
    ):
        raise _WrongError(words)
    return jnp.asarray(items, default.dtype) if is_array else type(default)(items)

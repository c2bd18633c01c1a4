"""The fields of a Config: traced or static, and which values each may have."""

import dataclasses
import math
import reprlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_MOST_LAYERS = 100


class ConfigError(ValueError):
    """A hyperparameter, or what was handed over beside the hyperparameters, is not what is allowed.

    Attributes:
      field: its name.
      value: what it was.
      allowed: what it may be, in words.
    """

    def __init__(self, field: str, value: Any, allowed: str):
        super().__init__(f"{field}={value}: {allowed}")
        self.field = field
        self.value = value
        self.allowed = allowed


def _field(default, doc, static, low, high, above, choices):
    limits = {"low": low, "above": above, "high": high}
    return dataclasses.field(
        default=default, metadata={"static": static, "doc": doc, "choices": choices} | limits
    )


def traced(default, doc, *, low=None, high=None, above=None) -> Any:
    """A hyperparameter that is a leaf of the pytree: a number, finite in float32 unless high=inf
    says otherwise.
    """
    return _field(default, doc, False, low, high, above, None)


def static(default, doc, *, low=None, high=None, choices=None) -> Any:
    """A hyperparameter that decides shapes or structure: an int, a bool, a tuple of ints, or one of
    `choices`.

    Scalars of numpy and jax become Python's: those of jax cannot be hashed.
    """
    return _field(default, doc, True, low, high, None, choices)


def plain(field: dataclasses.Field, value: Any) -> Any:
    """A static field's value with Python's own scalars."""
    if isinstance(value, tuple):
        return tuple(plain(field, each) for each in value)
    if not isinstance(value, np.generic | np.ndarray | jax.Array):
        return value
    if (
        isinstance(value, jax.core.Tracer)
        or value.ndim
        or jnp.issubdtype(value.dtype, jax.dtypes.extended)
    ):
        one = {int: "one integer", bool: "True or False", str: "a name"}.get(
            field.type, "a tuple of integers"
        )
        allowed = (
            "decides shapes or structure, and cannot be traced or differ within a sweep: must be"
            f" {one}"
        )
        raise ConfigError(field.name, value, allowed)
    return value.item()


def _limits(field: dataclasses.Field) -> dict[str, Any]:
    """What bounds a number, in words that belong to it; an integer must fit into an int32."""
    low, above, high = (field.metadata[each] for each in ("low", "above", "high"))
    if high is None and field.type is not float:
        high = np.iinfo(np.int32).max
    limits = {"at least": low, "above": above, "at most": high}
    return {word: limit for word, limit in limits.items() if limit is not None}


def _allowed(field: dataclasses.Field) -> str:
    return " and ".join(f"{word} {limit}" for word, limit in _limits(field).items())


def check_field(field: dataclasses.Field, value: Any) -> None:
    """Raises a ConfigError if a value is not what its field allows."""
    choices = field.metadata["choices"]
    if choices is not None:
        if not isinstance(value, str) or value not in choices:
            raise ConfigError(
                field.name, repr(value), f"must be one of {', '.join(map(repr, choices))}"
            )
    elif field.type is bool:
        if not isinstance(value, bool):
            raise ConfigError(field.name, repr(value), "must be True or False")
    elif field.type in (int, float):
        _check_number(field, value)
    else:
        if not isinstance(value, tuple) or not 1 <= len(value) <= _MOST_LAYERS:
            allowed = (
                f"must be a tuple of at least one integer and at most {_MOST_LAYERS}, such as"
                " (64, 64)"
            )
            raise ConfigError(field.name, reprlib.repr(value), allowed)
        for element in value:
            _check_number(field, element)


def _check_number(field: dataclasses.Field, value: Any) -> None:
    kind, words = (float, "a number") if field.type is float else (int, "an integer")
    allowed = f"must be {words} {_allowed(field)}".rstrip()
    if isinstance(value, int | float | np.generic | np.ndarray) or (
        isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.extended)
    ):
        array = np.asarray(value)
    else:
        array = np.array(None)
    integer = jnp.issubdtype(array.dtype, jnp.integer)
    if not array.size or not (
        integer or (kind is float and jnp.issubdtype(array.dtype, jnp.floating))
    ):
        raise ConfigError(field.name, reprlib.repr(value), allowed)
    bad = array[~_inside(field, array)]
    if bad.size:
        raise ConfigError(field.name, bad.flat[0], allowed)


def _inside(field: dataclasses.Field, x: np.ndarray) -> np.ndarray:
    """Which elements are within the limits, in the precision that a State carries them in."""
    limits = _limits(field)
    infinite = (x == np.inf) & (limits.get("at most") == math.inf)
    if field.type is float:
        with np.errstate(over="ignore"):
            x = x.astype(np.float32)
        # As XLA flushes subnormal numbers.
        x = np.where(np.abs(x) < np.finfo(np.float32).tiny, 0.0, x)
    inside = np.isfinite(x) | infinite
    inside &= x >= limits.get("at least", -math.inf)
    inside &= x > limits.get("above", -math.inf)
    return inside & (x <= limits.get("at most", math.inf))


def bounds(
    field: dataclasses.Field, within: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The smallest and the largest float32 that a traced field of floats may have.

    Args:
      field: of a Config.
      within: narrower ones.

    Raises:
      ConfigError: the field is no traced float, or allows less than `within`.
    """
    if field.metadata["static"] or field.type is not float:
        raise ConfigError(field.name, field.type.__name__, "must be a traced field of floats")
    limits = _limits(field)
    single = np.finfo(np.float32)
    low = limits.get("at least", -float(single.max))
    if "above" in limits:
        low = float(np.nextafter(np.float32(limits["above"]), np.float32(np.inf)))
        low = max(low, float(single.tiny)) if limits["above"] == 0 else low
    high = limits.get("at most", float(single.max))
    if within is None:
        return low, high
    if not low <= within[0] <= within[1] <= high:
        raise ConfigError(field.name, within, f"must be two numbers, ascending, {_allowed(field)}")
    return within


def field_docs(cls: type) -> dict[str, str]:
    """One line for each field of a Config class: what it is, and what is allowed."""
    docs = {}
    for field in dataclasses.fields(cls):
        choices = field.metadata["choices"]
        bounds = "" if field.type in (bool, str) else _allowed(field)
        allowed = (
            f" One of {', '.join(map(str, choices))}."
            if choices
            else f" Must be {bounds}."
            if bounds
            else ""
        )
        docs[field.name] = field.metadata["doc"] + allowed
    return docs

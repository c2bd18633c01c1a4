"""Hyperparameters: frozen pytree dataclasses in which every field is traced or static, and is validated.

A *traced* field is a leaf of the pytree: it may be an array, a tracer, or differ between the members of a sweep, and
changing it does not compile anything again. A *static* field decides shapes or structure.
"""

import dataclasses
import math
from typing import Any, Self, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from ..envs import Box, Discrete, Environment


class ConfigError(ValueError):
    """A hyperparameter has a value that is not allowed.

    Attributes:
      field: its name.
      value: what it was.
      allowed: what it may be, in words.
    """

    def __init__(self, field: str, value: Any, allowed: str):
        super().__init__(f"{field}={value}: {allowed}")
        self.field, self.value, self.allowed = field, value, allowed


def _field(default, doc, static, low, high, above, choices):
    limits = {"at least": low, "above": above, "at most": high}
    words = " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)

    def inside(x):
        inside = np.isfinite(x) | ((x == np.inf) & (high == math.inf))
        inside &= True if low is None else x >= low
        inside &= True if above is None else x > above
        return inside & (True if high is None else x <= high)

    metadata = {"static": static, "doc": doc, "inside": inside, "bounds": words, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


def traced(default, doc, *, low=None, high=None, above=None) -> Any:
    """A hyperparameter that is a leaf of the pytree: a number, finite unless high=inf says otherwise."""
    return _field(default, doc, False, low, high, above, None)


def static(default, doc, *, low=None, high=None, choices=None) -> Any:
    """A hyperparameter that decides shapes or structure: an int, a bool, a tuple of ints, or one of `choices`."""
    return _field(default, doc, True, low, high, None, choices)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(traced, static))
def configclass(cls):
    """Makes a frozen, keyword-only dataclass and a pytree of a class whose fields are `traced` or `static`."""
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    return jax.tree_util.register_dataclass(cls)


@configclass
class BaseConfig:
    """What every algorithm's Config can do."""

    def validate(self, env: Environment) -> None:
        """Checks every field for itself, and the environment's spaces; an algorithm's Config adds what is its own.

        Values that are not known yet (tracers) are skipped; arrays are checked element by element.

        Args:
          env: the single environment that the config is for.

        Raises:
          ConfigError: names the field, its value and what is allowed.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, jax.core.Tracer):
                _check_field(field, value)
        _check_spaces(env)

    def replace(self, **changes) -> Self:
        """A copy with some fields changed.

        Raises:
          TypeError: there is no such field.
        """
        return dataclasses.replace(self, **changes)

    def require_same_static_fields(self, other: Self) -> None:
        """Checks that a config fits programs made for another one: only traced fields may differ.

        Raises:
          ConfigError: names the first static field that differs.
        """
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.metadata["static"] and mine != theirs:
                raise ConfigError(field.name, repr(mine), f"decides shapes or structure, and was made as {theirs!r}")

    def as_leaves(self) -> Self:
        """Turns the traced fields into arrays (float32 or int32), as the State carries them."""
        kinds = {field.name: field.type for field in dataclasses.fields(self) if not field.metadata["static"]}
        dtypes = {name: jnp.int32 if kind is int else jnp.float32 for name, kind in kinds.items()}
        return self.replace(**{name: jnp.array(getattr(self, name), dtype) for name, dtype in dtypes.items()})


def require_at_most(config: BaseConfig, field: str, other: str) -> None:
    """Checks that one traced field is at most another, element by element; skips tracers.

    Raises:
      ConfigError: names the field, its value and what is allowed.
    """
    value, limit = getattr(config, field), getattr(config, other)
    if not any(isinstance(x, jax.core.Tracer) for x in (value, limit)) and np.any(np.asarray(value) > limit):
        raise ConfigError(field, value, f"must be at most {other} = {limit}")


def _check_spaces(env: Environment) -> None:
    space = env.action_space
    if not isinstance(space, Discrete) and not (isinstance(space, Box) and space.bounded and len(space.shape) == 1):
        raise ConfigError("env.action_space", space, "must be a Box with one axis and finite bounds, or Discrete")
    spaces = env.observation_space
    named = spaces if isinstance(spaces, dict) else {"state": spaces}
    if "state" not in named or not all(isinstance(each, Box) for each in named.values()):
        raise ConfigError("env.observation_space", spaces, 'must be a Box, or a dict of them with the entry "state"')


def _check_field(field: dataclasses.Field, value: Any) -> None:
    marks = field.metadata
    if marks["choices"] is not None:
        if value not in marks["choices"]:
            raise ConfigError(field.name, repr(value), f"must be one of {', '.join(map(repr, marks['choices']))}")
        return
    if not marks["static"]:
        _check_number(field, value, integer=field.type is int)
    elif field.type is bool:
        if not isinstance(value, bool):
            raise ConfigError(field.name, repr(value), "must be True or False")
    elif field.type is int:
        _check_number(field, value, integer=True)
        if np.ndim(value):
            raise ConfigError(field.name, value, "decides shapes and cannot differ within a sweep: must be one integer")
    else:
        if not isinstance(value, tuple) or not value:
            raise ConfigError(field.name, repr(value), "must be a tuple of at least one integer, such as (64, 64)")
        for element in value:
            _check_number(field, element, integer=True)


def _check_number(field: dataclasses.Field, value: Any, integer: bool) -> None:
    kind, bounds = "an integer" if integer else "a number", field.metadata["bounds"]
    allowed = f"must be {kind} {bounds}".rstrip()
    array = np.asarray(value)
    wrong_kind = array.dtype.kind not in ("iu" if integer else "iuf") and array.dtype != jnp.bfloat16
    if wrong_kind:
        raise ConfigError(field.name, repr(value), allowed)
    bad = array[~field.metadata["inside"](array)]
    if bad.size:
        raise ConfigError(field.name, bad.flat[0], allowed)


def field_docs(cls: type) -> dict[str, str]:
    """One line for each field of a Config class: what it is, and what is allowed."""
    docs = {}
    for field in dataclasses.fields(cls):
        choices, bounds = field.metadata["choices"], field.metadata["bounds"]
        allowed = f" One of {', '.join(map(str, choices))}." if choices else f" Must be {bounds}." if bounds else ""
        docs[field.name] = field.metadata["doc"] + allowed
    return docs

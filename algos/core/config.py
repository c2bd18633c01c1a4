"""Hyperparameters: frozen pytree dataclasses in which every field is traced or static, and is
validated.

A *traced* field is a leaf of the pytree: it may be an array, a tracer, or differ between the
members of a sweep, and changing it does not compile anything again. A *static* field decides shapes
or structure.
"""

import dataclasses
import math
import reprlib
from typing import Any, Self, dataclass_transform

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Box, Discrete, Environment
from ...envs.contract import require_environment

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
        self.field, self.value, self.allowed = field, value, allowed


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


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(traced, static))
def configclass(cls):
    """Makes a frozen, keyword-only dataclass and a pytree of a class whose fields are `traced` or
    `static`.
    """
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    return jax.tree_util.register_dataclass(cls)


@configclass
class BaseConfig:
    """What every algorithm's Config can do."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.metadata["static"]:
                object.__setattr__(self, field.name, _plain(field, getattr(self, field.name)))

    @classmethod
    def of(cls, config: Self | None) -> Self:
        """`config`, or the default one for None.

        Raises:
          ConfigError: it is something else.
        """
        if config is None:
            return cls()
        if isinstance(config, cls):
            return config
        name = _name(cls)
        write = f"{name}(**config)" if isinstance(config, dict) else f"{name}()"
        found = _name(type(config)) if isinstance(config, BaseConfig) else reprlib.repr(config)
        raise ConfigError("config", found, f"must be a {name}: write {write}")

    def validate(self, env: Environment) -> None:
        """Checks every field for itself, and the environment's spaces; an algorithm's Config adds
        what is its own.

        Values that are not known yet (tracers) are skipped; arrays, as in a sweep, are checked
        element by element.

        Args:
          env: the single environment that the config is for.

        Raises:
          ConfigError: names the field, its value and what is allowed.
          ContractError: env is no environment.
        """
        require_environment(env)
        arrays = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, jax.core.Tracer):
                continue
            _check_field(field, value)
            if not field.metadata["static"] and np.ndim(value):
                arrays[field.name] = np.shape(value)
        for name, shape in arrays.items():
            first = next(iter(arrays))
            if shape != arrays[first]:
                allowed = f"must have the shape of {first}, {arrays[first]}, to be swept together"
                raise ConfigError(name, f"an array of the shape {shape}", allowed)
        _check_spaces(env)

    def replace(self, **changes) -> Self:
        """A copy with some fields changed.

        Raises:
          TypeError: there is no such field.
        """
        return dataclasses.replace(self, **changes)

    def schedules(self, done: float | chex.Array) -> dict[str, Any]:
        """Hyperparameters that change over total_steps, as they are when this part of it is done,
        in [0, 1].
        """
        del done
        return {}

    def require_same_static_fields(self, other: Self) -> None:
        """Checks that a config fits programs made for another one: only traced fields may differ.

        Raises:
          ConfigError: names the first static field that differs.
        """
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.metadata["static"] and mine != theirs:
                raise ConfigError(
                    field.name,
                    repr(mine),
                    f"decides shapes or structure, and was made as {theirs!r}",
                )

    def for_state(self, config: Self | None, env: Environment) -> Self:
        """The config that a State carries, as arrays; to be called by the `init` of an algorithm
        made with this one.

        Args:
          config: what `init` was given; None for this one.
          env: the single environment.

        Raises:
          ConfigError: it is no such Config, differs in a static field, or has a value that is not
            allowed.
        """
        config = self if config is None else type(self).of(config)
        config.require_same_static_fields(self)
        config.validate(env)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if not field.metadata["static"] and np.ndim(value):
                allowed = (
                    "a run has one value; several take jax.vmap(algorithm.init)(keys, configs)"
                )
                raise ConfigError(field.name, f"an array of the shape {np.shape(value)}", allowed)
        return config.as_leaves()

    def as_leaves(self) -> Self:
        """Turns the traced fields into arrays (float32 or int32), as the State carries them."""
        kinds = {
            field.name: field.type
            for field in dataclasses.fields(self)
            if not field.metadata["static"]
        }
        dtypes = {name: jnp.int32 if kind is int else jnp.float32 for name, kind in kinds.items()}
        return self.replace(
            **{name: jnp.array(getattr(self, name), dtype) for name, dtype in dtypes.items()}
        )


def require_at_most(config: BaseConfig, field: str, other: str) -> None:
    """Checks that one traced field is at most another, element by element; skips tracers.

    Raises:
      ConfigError: names the field, its value and what is allowed.
    """
    value, limit = getattr(config, field), getattr(config, other)
    if not any(isinstance(x, jax.core.Tracer) for x in (value, limit)) and np.any(
        np.asarray(value) > limit
    ):
        raise ConfigError(field, value, f"must be at most {other} = {limit}")


def _check_spaces(env: Environment) -> None:
    space = env.action_space
    if isinstance(space, Box):
        if not space.bounded or len(space.shape) != 1 or 0 in space.shape:
            raise ConfigError(
                "env.action_space",
                space,
                "must be a Box with one axis and finite bounds, or Discrete",
            )
        if not np.issubdtype(space.dtype, np.floating):
            raise ConfigError(
                "env.action_space", space, "must be a Box of floats; for whole numbers use Discrete"
            )
    elif not isinstance(space, Discrete):
        raise ConfigError(
            "env.action_space", space, "must be a Box with one axis and finite bounds, or Discrete"
        )
    spaces = env.observation_space
    named = spaces if isinstance(spaces, dict) else {"state": spaces}
    if "state" not in named or not all(isinstance(each, Box) for each in named.values()):
        raise ConfigError(
            "env.observation_space",
            spaces,
            'must be a Box, or a dict of them with the entry "state"',
        )
    if any(0 in each.shape for each in named.values()):
        raise ConfigError(
            "env.observation_space",
            spaces,
            "must not have an axis of 0: there would be nothing to see",
        )


def _name(cls: type) -> str:
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__}"


def _plain(field: dataclasses.Field, value: Any) -> Any:
    """A static field's value with Python's own scalars."""
    if isinstance(value, tuple):
        return tuple(_plain(field, each) for each in value)
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


def _check_field(field: dataclasses.Field, value: Any) -> None:
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
        x = np.where(
            np.abs(x) < np.finfo(np.float32).tiny, 0.0, x
        )  # as XLA flushes subnormal numbers
    inside = np.isfinite(x) | infinite
    inside &= x >= limits.get("at least", -math.inf)
    inside &= x > limits.get("above", -math.inf)
    return inside & (x <= limits.get("at most", math.inf))


def field_docs(cls: type) -> dict[str, str]:
    """One line for each field of a Config class: what it is, and what is allowed."""
    docs = {}
    for field in dataclasses.fields(cls):
        choices, bounds = (
            field.metadata["choices"],
            "" if field.type in (bool, str) else _allowed(field),
        )
        allowed = (
            f" One of {', '.join(map(str, choices))}."
            if choices
            else f" Must be {bounds}."
            if bounds
            else ""
        )
        docs[field.name] = field.metadata["doc"] + allowed
    return docs

"""Hyperparameters: frozen pytree dataclasses in which every field is traced or static, and is
validated.

A *traced* field is a leaf of the pytree: it may be an array, a tracer, or differ between the
members of a sweep, and changing it does not compile anything again. A *static* field decides shapes
or structure.
"""

import dataclasses
import inspect
import reprlib
from typing import Any, Self, dataclass_transform

import chex
import jax
import jax.numpy as jnp
import numpy as np

from ...envs import Box, Discrete, Environment
from ...envs.contract import require_environment
from ...envs.vector import BANK_SIZE
from . import parallel
from .fields import ConfigError, check_field, field_docs, plain, static, traced
from .heads import BOX_OR_DISCRETE, require_unit_box
from .masks import ACTION_MASK, has_mask

__all__ = [
    "BaseConfig",
    "ConfigError",
    "configclass",
    "field_docs",
    "require_at_most",
    "static",
    "traced",
]


# For type checkers what a field is given is its default: their field specifiers name it `default=`.
@dataclass_transform(frozen_default=True, kw_only_default=True)
def configclass(cls):
    """Makes a frozen, keyword-only dataclass and a pytree of a class whose fields are `traced` or
    `static`.

    A field that a base class has may be given a new default alone, `tau: float = 0.1`; what it is
    and what is allowed stay as they were.

    Raises:
      TypeError: a field is none of these.
    """
    bases = [base for base in reversed(cls.__mro__[1:]) if dataclasses.is_dataclass(base)]
    inherited = {field.name: field for base in bases for field in dataclasses.fields(base)}
    for name in inspect.get_annotations(cls):
        value = cls.__dict__.get(name)
        if isinstance(value, dataclasses.Field):
            continue
        if name not in inherited or name not in cls.__dict__:
            raise TypeError(
                f"{_name(cls)}.{name} must be traced(default, doc) or static(default, doc)"
            )
        setattr(cls, name, dataclasses.field(default=value, metadata=inherited[name].metadata))
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    return jax.tree_util.register_dataclass(cls)


@configclass
class BaseConfig:
    """What every algorithm's Config can do."""

    ACTION_SPACES = (Box, Discrete)  # that the algorithm is for; () for all that have a head
    # The fields that devices share out among them; None where one device must do.
    SHARED = ("num_envs",)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if field.metadata["static"]:
                object.__setattr__(self, field.name, plain(field, getattr(self, field.name)))

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
            check_field(field, value)
            if not field.metadata["static"] and np.ndim(value):
                arrays[field.name] = np.shape(value)
        for name, shape in arrays.items():
            first = next(iter(arrays))
            if shape != arrays[first]:
                allowed = f"must have the shape of {first}, {arrays[first]}, to be swept together"
                raise ConfigError(name, f"an array of the shape {shape}", allowed)
        _check_spaces(env, self.ACTION_SPACES)

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
            mine = getattr(self, field.name)
            theirs = getattr(other, field.name)
            if field.metadata["static"] and mine != theirs:
                raise ConfigError(
                    field.name,
                    repr(mine),
                    f"decides shapes or structure, and was made as {theirs!r}",
                )

    def require_shares(self, num_devices: int) -> None:
        """Checks that so many devices can share a run evenly.

        Raises:
          ConfigError: they cannot; it names the field and the numbers around it that can.
        """
        if self.SHARED is None and num_devices > 1:
            allowed = "must be 1: no run of this algorithm is shared out over devices"
            raise ConfigError("num_devices", num_devices, allowed)
        for name in self.SHARED or ():
            parallel.require_multiple(name, getattr(self, name), num_devices)
        if getattr(self, "reset", None) == "bank" and BANK_SIZE % num_devices:
            allowed = f"must be full: {num_devices} devices cannot share a bank of {BANK_SIZE}"
            raise ConfigError("reset", "bank", allowed)

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
    value = getattr(config, field)
    limit = getattr(config, other)
    if not any(isinstance(x, jax.core.Tracer) for x in (value, limit)) and np.any(
        np.asarray(value) > limit
    ):
        raise ConfigError(field, value, f"must be at most {other} = {limit}")


def _check_spaces(env: Environment, allowed_spaces: tuple[type, ...]) -> None:
    space = env.action_space
    if allowed_spaces:  # else it is for the head to say
        require_unit_box(space)
        if not isinstance(space, allowed_spaces):
            continuous = "must be a Box: the algorithm is for continuous actions"
            allowed = BOX_OR_DISCRETE if Discrete in allowed_spaces else continuous
            raise ConfigError("env.action_space", space, allowed)
    spaces = env.observation_space
    named = spaces if isinstance(spaces, dict) else {"state": spaces}
    if "state" not in named or not all(isinstance(each, Box) for each in named.values()):
        raise ConfigError(
            "env.observation_space",
            spaces,
            'must be a Box, or a dict of them with the entry "state"',
        )
    if has_mask(spaces):
        mask = spaces[ACTION_MASK]
        size = space.n if isinstance(space, Discrete) else None
        if mask.shape != (size,) or mask.dtype != np.dtype(bool):
            allowed = "must be a Box of bool of the shape (n,), beside n Discrete actions"
            raise ConfigError(f"env.observation_space[{ACTION_MASK!r}]", mask, allowed)
    if any(0 in each.shape for each in named.values()):
        raise ConfigError(
            "env.observation_space",
            spaces,
            "must not have an axis of 0: there would be nothing to see",
        )


def _name(cls: type) -> str:
    # That of a package stands in the module config of it.
    module = cls.__module__.removesuffix(".config")
    return f"{module.rpartition('.')[2]}.{cls.__qualname__}"

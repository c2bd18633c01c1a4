"""`make("suite/name", **options)`: one name for every environment."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from .base import Environment

# suite -> (adapter module, extra to install). The module is imported when an environment of the
# suite is made; it has `names()` and `make(name, **options)`.
_SUITES = {
    "brax": (".suites.brax", None),
    "gymnax": (".suites.gymnax", None),
    "inventory": (".inventory", None),
    "mjx": (".suites.mjx", "mjx"),
    "playground": (".suites.playground", "playground"),
    "probe": (".probes", None),
    "tokens": (".brackets", None),
}
_REGISTERED: dict[str, Callable[..., Environment]] = {}


def make(env_id: str, **options: Any) -> Environment:
    """Makes an environment.

    Args:
      env_id: "suite/name", such as "gymnax/CartPole-v1" or "brax/halfcheetah", or a name given to
        `register`.
      **options: passed to the suite's adapter, such as backend="mjx" for Brax; each adapter
        documents its own.

    Returns:
      A single environment; `VectorEnv` makes many of it.

    Raises:
      ValueError: the name is unknown (the message lists the nearest ones), does not work upstream
        (it says why), or an option is not one of the adapter's or has a value that is not allowed.
      ModuleNotFoundError: the suite's package is not installed (the message says which extra to
        install).
      OSError: the model of a robot is not there (the message says how to get it).
    """
    if not isinstance(env_id, str):
        raise ValueError(f"env_id={env_id!r}: must be a name, such as 'gymnax/CartPole-v1'")
    if env_id in _REGISTERED:
        factory = _REGISTERED[env_id]
        try:
            inspect.signature(factory).bind(**options)
        except TypeError as error:
            raise ValueError(f"{env_id}: {error}") from error
        return factory(**options)
    suite, _, name = env_id.partition("/")
    if suite not in _SUITES:
        raise ValueError(f"unknown environment {env_id!r}; {_nearest(env_id, env_ids())}")
    adapter = _adapter(suite)
    if name not in adapter.names():
        raise ValueError(f"unknown environment {env_id!r}; {_nearest(env_id, env_ids(suite))}")
    return adapter.make(name, **options)


def from_gymnax(env: Any, params: Any = None) -> Environment:
    """Makes an environment of a gymnax environment of one's own.

    Args:
      env: a gymnax environment, of gymnax >= 1.0.
      params: its parameters, by default its `default_params`. They need no `max_steps_in_episode`;
        then episodes have no time limit, unless `is_truncated` is the environment's own.

    Raises:
      ContractError: it is no gymnax environment.
      ValueError: a space is neither a gymnax Box nor a gymnax Discrete.
      ModuleNotFoundError: gymnax is not installed.
    """
    return _adapter("gymnax").Gymnax(env, params)


def register(env_id: str, factory: Callable[..., Environment]) -> None:
    """Adds an environment under a name, for `make` and for the scripts.

    Args:
      env_id: the name, "suite/name" with a suite of your own.
      factory: called with the options given to `make`; returns an `Environment`.

    Raises:
      ValueError: the name is not "suite/name", or its suite is one of the built-in ones, or the
        factory is no function.
    """
    suite, slash, name = env_id.partition("/") if isinstance(env_id, str) else ("", "", "")
    if not (suite and slash and name):
        raise ValueError(f'env_id={env_id!r}: must be "suite/name"')
    if not callable(factory):
        raise ValueError(
            f"factory={factory!r}: must be a function that returns an environment, such as"
            " lambda: env"
        )
    if suite in _SUITES:
        raise ValueError(
            f"env_id={env_id!r}: the suite {suite!r} is built in, take a name of your own"
        )
    _REGISTERED[env_id] = factory


def env_ids(suite: str | None = None) -> list[str]:
    """The names `make` knows, of one suite or of all that are installed, the registered ones
    included.
    """
    ids = [env_id for env_id in _REGISTERED if suite in (None, env_id.partition("/")[0])]
    for each in [suite] if suite in _SUITES else [] if suite else _SUITES:
        try:
            ids += [f"{each}/{name}" for name in _adapter(each).names()]
        except ModuleNotFoundError:
            continue
    return ids


def _adapter(suite: str):
    module, extra = _SUITES[suite]
    try:
        return importlib.import_module(module, __package__)
    except ModuleNotFoundError as error:
        package = f"onejit[{extra}]" if extra else error.name
        raise ModuleNotFoundError(
            f"environments of the suite {suite!r} need the package {error.name!r}: pip install"
            f" {package!r}",
            name=error.name,
        ) from error


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(lower[each] for each in near) + "?"
    return "known: " + ", ".join(known)

"""Packages that other packages import and rarely use, imported when they are used."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


class _WhenUsed(ModuleType):
    """Stands for a module, and imports it when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import statement looks at
            raise AttributeError(name)
        _take_away(self)  # it is used while it stands for the module
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imported_when_used(*names: str) -> Iterator[None]:
    """What is imported inside gets stand-ins for these modules; they are imported when they are
    used. Who imports them outside gets them at once.

    Args:
      *names: dotted names; a package beside its modules, if it is not to be imported either.
    """
    stand_ins = {name: _WhenUsed(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    for name, stand_in in stand_ins.items():
        package, _, module = name.rpartition(".")
        if package in stand_ins:
            setattr(stand_ins[package], module, stand_in)
    try:
        yield
    finally:
        for stand_in in stand_ins.values():
            _take_away(stand_in)


def _take_away(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]

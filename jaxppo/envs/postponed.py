"""Modules that another imports and may never use, imported when it does."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["postponed"]


class _Postponed(ModuleType):
    """Stands for a module, and imports it as soon as anything of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system, or by whoever looks through all modules
            raise AttributeError(name)
        _forget(self)
        return getattr(importlib.import_module(self.__name__), name)

    def __reduce__(self) -> Any:
        return importlib.import_module, (self.__name__,)


def _forget(module: ModuleType) -> None:
    """Let the next import of its name find the real one."""
    if sys.modules.get(module.__name__) is module:
        del sys.modules[module.__name__]


@contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Within it, `import` of these modules binds what imports them later, unless they were imported before.

    A module of a package has the package imported with it, unless that is one of the names too. To whoever imports them
    afterwards they are as always.
    """
    absent = {name: _Postponed(name) for name in names if name not in sys.modules}
    for name, module in absent.items():
        package, _, last = name.rpartition(".")
        if package in absent:  # of which `from package import last` asks for it
            setattr(absent[package], last, module)
    sys.modules.update(absent)
    try:
        yield
    finally:
        for module in absent.values():
            _forget(module)

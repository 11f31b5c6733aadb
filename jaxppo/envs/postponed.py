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
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Within it, `import` of these modules binds what imports them later, unless they were imported before.

    To whoever imports them afterwards they are as always.
    """
    absent = {name: _Postponed(name) for name in names if name not in sys.modules}
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name, module in absent.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

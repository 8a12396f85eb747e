"""Modules that are imported at their first use (docs/decisions/022-lazy-imports.md)."""

from importlib import import_module
from types import ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for a module that most processes do not need, and imports it at its first use.

    Type checkers see the module itself, because the name is imported under TYPE_CHECKING.
    """

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the module."""
        return getattr(import_module(self.__name__), name)

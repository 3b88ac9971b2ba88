"""Hooks that are functions of other modules of an app, imported by their first call."""

from __future__ import annotations

from importlib import import_module
from types import MethodType, ModuleType
from typing import Any


class ImportedHook:
    """See ``import_later()``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._relative_module, _, self._function = path.rpartition(".")
        self._package = ""
        self._module: ModuleType | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._package = owner.__module__.rpartition(".")[0]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        # notify() calls six of these.
        return getattr(self._module or self._import(), self._function)(*args, **kwargs)

    def find(self) -> Any:
        """Import the module and return the function."""
        return getattr(self._module or self._import(), self._function)

    def _import(self) -> ModuleType:
        self._module = import_module(f"{self._package}.{self._relative_module}")
        return self._module


def import_later(path: str) -> Any:
    """Return a hook that calls a function of another module, without ``self``.

    ::

        class Sms(Extension):
            on_created = import_later("sending.build_messages")

    ``apps.py`` is imported before the models are loaded, so it imports no module that needs them.

    ``path``
        Module and function, relative to the package of the class.
    """
    return ImportedHook(path)

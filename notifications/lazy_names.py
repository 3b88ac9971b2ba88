"""Names that a folder of the package exports: its ``__init__.py`` imports the module of each when it is first used.

So Python can import the folder before Django is set up, a process loads only what it uses, and modules of the folder
can be imported by others of it. CONTRIBUTING.md says how such an ``__init__.py`` is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


class LateModule:
    """Stands for a module, which is imported when the first name of it is used.

    Each start of a process imports the admin, also that of a worker, and few processes show a page of it.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


def export_lazily(folder: str, names_by_module: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a folder, its ``__name__``, that exports names of modules.

    ``names_by_module``
        The names of each module, with spaces between them.

    What it returns is not kept in the folder, so that a test may replace it in its module.
    """
    modules = {name: module for module, names in names_by_module.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {folder!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return __getattr__

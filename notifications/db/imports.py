"""Import modules of the project before the app's own transactions, not in them.

An import runs code of the project, maybe for seconds: in a transaction it would hold SQLite's lock, or rows. So one
that needs a module which is not there is rolled back, and repeated after the import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")


class _Thread(threading.local):
    """The transaction of the app's own in which this thread is, None in any other and in none."""

    transaction: Imports | None = None


_thread = _Thread()


class _NotImported(Exception):
    def __init__(self, module: str) -> None:
        super().__init__(f"{module} is imported outside of the transaction.")
        self.module = module


def require_module(module: str) -> None:
    """Have a module imported before the transaction of the app's own in which this thread is, if it is in one.

    Called right before the import. Raises ImportError if that was tried for the transaction.
    """
    if (transaction := _thread.transaction) is None or module in sys.modules:
        return
    if module in transaction.modules:
        raise ImportError(f"{module} cannot be imported.")
    raise _NotImported(module)


class Imports:
    """The modules that were imported for a transaction of the app's own."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def call(self, work: Callable[[], T]) -> T:
        """Return what ``work()`` returns, inside the transaction."""
        _thread.transaction = self
        try:
            return work()
        finally:
            _thread.transaction = None

    def repeat(self, run: Callable[[], T]) -> T:
        """Return what ``run()`` returns, which runs the transaction: again after each import that it needs."""
        while True:
            try:
                return run()
            except _NotImported as exc:
                self.modules.add(exc.module)
                module = exc.module
            with suppress(Exception, SystemExit):  # of code of the project, named where its task is called
                import_module(module)

"""Import modules of the project before the app's own transactions, not in them.

An import runs code of the project, maybe for seconds: in a transaction it would hold SQLite's lock, or rows. So one
that needs a module which is not there is rolled back, and repeated after the import.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.utils.module_loading import import_string

logger = logging.getLogger("notifications.jobs")

#: Seconds for which a module is not tried again for a transaction that could not be imported for one.
RETRY_SECONDS = 30.0


class _Thread(threading.local):
    """Whether this thread is in a transaction of the app's own, which is repeated after an import."""

    may_repeat = False


thread = _Thread()
#: When modules were last imported for a transaction (monotonic).
_imported_at: dict[str, float] = {}


class CannotImport(ImportError):
    """A module of the project, or what a dotted path names, cannot be imported, whatever the module has raised.

    ``reason``
        The error, in one line.
    """

    def __init__(self, path: str, exc: BaseException) -> None:
        self.reason = f"{type(exc).__name__}: {exc}"
        super().__init__(f"{path} cannot be imported: {self.reason}")


def import_path(path: str) -> Any:
    """Return what a dotted path of the project names. Raises ``CannotImport``."""
    return _load(import_string, path)


def _load(load: Callable[[str], Any], path: str) -> Any:
    try:
        return load(path)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # SystemExit of a script, for example, which would end a worker
        raise CannotImport(path, exc) from exc


class NotImported(Exception):
    """A transaction of the app's own needs a module of the project, and is repeated after ``import_now()``."""

    def __init__(self, module: str) -> None:
        super().__init__(f"{module} is imported outside of the transaction.")
        self.module = module

    def import_now(self) -> float:
        """Import the module, and return the time (monotonic) after it. Its errors are raised where its task is called.

        Raises this error inside an outer transaction of the app's own, which is repeated then.
        """
        if thread.may_repeat:
            raise self
        try:
            _load(import_module, self.module)
        except CannotImport:
            logger.debug("Could not import %s for a transaction.", self.module, exc_info=True)
        finally:
            _imported_at[self.module] = time.monotonic()
        return _imported_at[self.module]


def require_module(module: str) -> None:
    """Have a module imported before the transaction of the app's own in which this thread is, if it is in one.

    Called right before the import. Raises ImportError if the module could not be imported a moment ago.
    """
    found = sys.modules.get(module)
    # One that another thread imports is waited for, too. importlib sets the mark, and Django reads it.
    if not thread.may_repeat or (
        found and not getattr(getattr(found, "__spec__", None), "_initializing", False)
    ):
        return
    if time.monotonic() - _imported_at.get(module, -math.inf) >= RETRY_SECONDS:
        raise NotImported(module)
    if not found:
        raise ImportError(f"{module} cannot be imported.")

"""Whether an error is a reason to answer 503: the edges of HTTP ask for it."""

from __future__ import annotations

from django.db import Error
from django.db.utils import DatabaseErrorWrapper

from notifications.db.transactions import database
from notifications.db.unavailable import is_unavailable
from notifications.extension.calls import hook_of


def is_own_outage(exc: BaseException) -> bool:
    """Return whether an error means that the app's database, or a resource, is not available: a reason to answer 503.

    Not another database of the project, nor what a hook of an extension raises for a reason of its own.
    """
    if not is_unavailable(exc):
        return False
    if not isinstance(exc, Error):
        return True
    alias = _alias_of(exc)
    return alias == database() if alias else hook_of(exc) is None


def _alias_of(exc: Error) -> str:
    """Return the alias of the connection that has raised an error, "" if Django has not raised it."""
    found, step = "", exc.__traceback__
    while step:
        if step.tb_frame.f_code is DatabaseErrorWrapper.__exit__.__code__:
            found = step.tb_frame.f_locals["self"].wrapper.alias
        step = step.tb_next
    return found

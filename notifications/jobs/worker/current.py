"""The execution in whose context this code runs."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from notifications.db.threads import DaemonExecutor

if TYPE_CHECKING:
    from notifications.jobs.worker.execution import Execution

_current: contextvars.ContextVar[Execution | None] = contextvars.ContextVar(
    "notifications_execution", default=None
)


def current_execution() -> Execution | None:
    """Return the execution of the job that calls this, or None outside a job."""
    return _current.get()


def set_current_execution(execution: Execution | None) -> None:
    """Make an execution, or none, the current one of this context."""
    _current.set(execution)


def is_inside_job() -> bool:
    """Return whether a job calls this."""
    return _current.get() is not None


def is_on_database_thread() -> bool:
    """Return whether this runs on a thread that async tasks share for their database work."""
    execution = _current.get()
    thread = execution.database_thread if execution else None
    return isinstance(thread, DaemonExecutor) and thread.runs_this_thread()

"""The execution in whose context this code runs."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from notifications.db.threads import DaemonExecutor

if TYPE_CHECKING:  # imported by ``@task`` before the models are ready
    from notifications.models import Job


class CurrentExecution:
    """What code below a task may know of its execution."""

    __slots__ = ()

    job: Job
    is_cancelling: bool
    on_progress: Callable[[Any], None]
    run_inline: Callable[[Any], None] | None
    database_thread: Executor | None


_current: contextvars.ContextVar[CurrentExecution | None] = contextvars.ContextVar(
    "notifications_execution", default=None
)


def current_execution() -> CurrentExecution | None:
    """Return the execution of the job that calls this, or None outside a job."""
    return _current.get()


def set_current_execution(execution: CurrentExecution | None) -> None:
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

"""What a task may do with its job: report progress, and see that it is cancelled."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

from notifications import validators
from notifications.compat import TaskContext
from notifications.context import current_execution
from notifications.exceptions import JobCancelled

logger = logging.getLogger("notifications.jobs")

T = TypeVar("T")


class JobContext(TaskContext):
    """The context of a task with ``takes_context=True``: Django's, with progress and cancellation."""

    def progress(self, current: int, total: int | None = None, message: str = "") -> None:
        """See ``notifications.api.progress``."""
        progress(current, total, message)

    def raise_if_cancelled(self) -> None:
        """Raise ``JobCancelled`` if the job is to be cancelled. A sync task calls this between its steps."""
        execution = current_execution()
        if execution is not None and execution.is_cancelling:
            raise JobCancelled


def progress(current: int, total: int | None = None, message: str = "") -> None:
    """See ``notifications.api.progress``."""
    execution = current_execution()
    if execution is None:
        logger.debug("Ignored: progress() has no effect outside of a job")
        return
    job, done = execution.job, validators.integer(current)
    job.progress_current = (job.progress_current or 0) if done is None else done
    job.progress_total = validators.integer(total)
    text = "" if message is None else validators.decoration(message)
    job.progress_message = validators.shortened(text, validators.MAX_PROGRESS_LENGTH)
    execution.on_progress(execution)


def track(items: Iterable[T], *, message: str = "") -> Iterator[T]:
    """See ``notifications.api.track``."""
    try:
        total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
    except Exception:  # as of a data loader whose length is not known
        total = None
    for done, item in enumerate(items):
        progress(done, total, message)
        yield item
    if total is not None:
        progress(total, total, message)

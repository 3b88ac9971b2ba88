"""A claimed job, as its worker has it until its outcome is recorded."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from notifications.models import Job

if TYPE_CHECKING:
    from notifications.compat import TaskResult

#: The number that is a job's id, which Python hashes without a call, and the fence of one claim. A worker may hold two
#: claims of one job: after the deadline of the first one, whose sync task could not be stopped, the same worker claimed
#: the job again.
Claim = tuple[int, int]


PROGRESS_COLUMNS = ("progress_current", "progress_total", "progress_message")


def progress_of(job: Job) -> tuple[Any, ...]:
    """Return the values of ``PROGRESS_COLUMNS``."""
    return (job.progress_current, job.progress_total, job.progress_message)


class StartTooLate(Exception):
    """The task was not called in time to be counted by the limit of its starts."""


@dataclass(slots=True, eq=False)
class ClaimedJob:
    """The row of a claimed job, and what its worker knows beyond the row.

    The row has the ``expires_at`` of the job until its task is called, because a job that is queued again before that
    has not begun.

    ``claim_jobs()`` makes one for each row, ``prepare_claimed_jobs()`` completes it, and an ``Execution`` holds it
    until the outcome is recorded. It is created for each job, so it uses ``__slots__`` (0.3 µs).

    ``owner``
        The primary key of the owner of the job, or else of its batch.
    ``task_result``
        The TaskResult in the context of a task with ``takes_context=True``. None if nothing needs it.
    ``start_by``
        Until when (monotonic) the start of the job is counted by the limit of its key, None without a limit.
    """

    row: Job
    owner: Any = None
    task_result: TaskResult | None = None
    start_by: float | None = None

    def check_start(self) -> None:
        """Raise ``StartTooLate`` if the limit of the job does not count its start any more."""
        if self.start_by is not None and time.monotonic() > self.start_by:
            raise StartTooLate


def claim_of(job: Job) -> Claim:
    """Return the claim that the row of a claimed job stands for."""
    return job.id.int, job.fence

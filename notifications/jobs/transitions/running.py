"""A claimed job, as its worker has it until its outcome is recorded, and what is read and stored of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications import streams
from notifications.db.clock import database_now
from notifications.db.transactions import database, retrying_atomic
from notifications.jobs.transitions.conditional_updates import conditional_update
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


#: Seconds between the timeout of a task and the deadline of its claim. A worker whose event loop is blocked renews its
#: lease from another thread; only the deadline takes the job away from it.
DEADLINE_MARGIN_SECONDS = 60


def deadline_after(now: datetime, timeout: float | None) -> datetime | None:
    """Return when a job that begins now is taken away from its worker, None if its task may take any time."""
    return None if timeout is None else now + timedelta(seconds=timeout + DEADLINE_MARGIN_SECONDS)


def read_claims(worker: UUID) -> list[Job]:
    """Return the running jobs of a worker, with the columns that ``queueing.release()`` needs."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    columns = ("id", "fence", "state", "worker", "executor", "user", "task_path", "expires_at")
    return list(running.only(*columns, "backend", "queue_name"))


def cancellations_requested(worker: UUID) -> list[tuple[UUID, int, bool]]:
    """Return id, fence and ``cancelled_by_other`` of the running jobs of a worker that are to be cancelled."""
    running = Job.objects.using(database()).filter(worker=worker, state=Job.State.RUNNING)
    requested = running.filter(cancel_requested_at__isnull=False)
    return list(requested.values_list("id", "fence", "cancelled_by_other"))


def extend_deadlines(jobs: Sequence[Job], timeouts: Mapping[str, float | None]) -> None:
    """Count the deadlines of claimed jobs from now.

    For jobs whose timeout became known only after the claim, and for jobs that still wait for a thread. ``timeouts``
    are the seconds that tasks may take, None for no limit, by their dotted paths.
    """
    now = database_now()
    rows = [((deadline_after(now, timeouts[job.task_path]),), job) for job in jobs]
    retrying_atomic(lambda: conditional_update("deadline=%s", rows))


def store_progress(jobs: Sequence[Job]) -> None:
    """Store the progress of running jobs, and ring for their owners."""

    def write() -> None:
        conditional_update(
            "progress_current=%s, progress_total=%s, progress_message=%s, version=version+1",
            [(progress_of(job), job) for job in jobs],
        )
        streams.ring(job.user_id for job in jobs)

    retrying_atomic(write)

"""A claimed job: its row, and what the worker that claimed it knows about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from notifications.models import Job

if TYPE_CHECKING:
    from notifications.compat import TaskResult

#: A job's id and the fence of one claim. A worker may hold two claims of one job: the first one passed its deadline
#: while its task refused to end, and the same worker claimed the job again.
Claim = tuple[UUID, int]


@dataclass(slots=True, eq=False)
class ClaimedJob:
    """The row of a claimed job, and what its worker knows beyond the row.

    The path of each job: ``claim_jobs()`` makes one of these for each row, ``prepare_claimed_jobs()`` completes it,
    and an ``Execution`` holds it until the outcome is recorded. That is thousands of jobs a second, so it has slots: to
    make one takes 0.3 µs of the 100 µs or so that a job takes.

    ``known_until``
        Until when a worker must know the job's task, or the job fails; None unless a worker has requeued the job
        because it does not know the task. While such a job is queued, its ``deadline`` column holds this time; a claim
        replaces it with the deadline of the claim.
    ``owner``
        The key of the user for whom the job works: its own user, or else the owner of its batch.
    ``task_result``
        The TaskResult in the context of a task with ``takes_context=True``. None if nothing needs it.
    """

    row: Job
    known_until: datetime | None = None
    owner: Any = None
    task_result: TaskResult | None = None


def claim_of(job: Job) -> Claim:
    return job.id, job.fence

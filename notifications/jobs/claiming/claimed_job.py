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
    """The row of a job as its claim left it, and what does not belong into the row.

    One is made for each claimed job, thousands a second, so it has slots, and its fields are filled in where their
    values are at hand: ``known_until`` by the claim, the others when ``task_started`` is prepared.

    ``known_until``
        When a job fails whose task no worker knows; None until the first worker has met it. While such a job is
        queued, its ``deadline`` column holds this time. The claim overwrites the column with the deadline of the lease.
    ``owner``
        The key of the user for whom the job works: its own user, or that of its batch.
    ``task_result``
        What a task with ``takes_context=True`` finds in its context; None for other tasks.
    """

    row: Job
    known_until: datetime | None = None
    owner: Any = None
    task_result: TaskResult | None = None


def claim_of(job: Job) -> Claim:
    return job.id, job.fence

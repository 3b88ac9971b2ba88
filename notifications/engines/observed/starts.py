"""Write the starts of observed tasks: each, also a redelivery of the same message, raises the fence."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from notifications import streams, times
from notifications.db import bulk
from notifications.db.transactions import connection
from notifications.jobs.declaring.policies import Policy
from notifications.jobs.outcomes import Outcome
from notifications.jobs.transitions.conditional_updates import insert_attempts, prepare_id
from notifications.jobs.transitions.running import PROGRESS_COLUMNS
from notifications.models import Job
from notifications.statistics.recording import StatisticsBuffer

_ROW_FIELDS = tuple(
    column.attname for column in Job._meta.concrete_fields if column.attname not in PROGRESS_COLUMNS
)


@dataclass(slots=True, eq=False, kw_only=True)
class ObservedAttempt:
    """One start of an observed task, and its end.

    ``job``
        The job as this process knows it: until the start is recorded, the row of the message, running.
    ``worker``, ``number``
        The worker, and the number of the attempt from 1.
    ``outcome``
        The end, made for ``job``; None while the task runs.
    ``remake``
        Makes the outcome again for a row with another title, link, language or owner than ``job`` had.
    ``policy``
        That of the task.
    ``make_batch``
        Returns the unsaved row of the batch that ``job`` names.
    """

    job: Job
    worker: UUID
    number: int
    policy: Policy
    make_batch: Callable[[], Job] | None = None
    outcome: Outcome | None = None
    remake: Callable[[Job], Outcome] | None = None
    #: When the task started (monotonic).
    started_at: float = field(default_factory=time.monotonic)
    #: The start is recorded.
    is_begun: bool = False
    #: The fence of the recorded start. That of ``job`` is raised before the commit, which may fail.
    fence: int = 0
    #: The job is done already, runs elsewhere, or is not one of an observed task. Nothing is recorded any more.
    is_void: bool = False
    #: The end is recorded.
    is_ended: bool = False

    def __post_init__(self) -> None:
        job = self.job
        job.state, job.attempt, job.worker = Job.State.RUNNING, self.number, self.worker


def write_starts(
    starts: Sequence[tuple[ObservedAttempt, Job]], now: datetime, statistics: StatisticsBuffer
) -> None:
    """Start the attempts whose rows are locked, and complete their jobs by what the rows say."""
    if not starts:
        return
    prepare, db = prepare_id(), connection()
    # The retry of a task may begin before the end of the attempt is recorded, which schedule_retry() does then.
    interrupted = [
        (row, None, now)
        for attempt, row in starts
        if row.state == Job.State.RUNNING and row.attempt >= attempt.number
    ]
    insert_attempts(interrupted, statistics)
    updates = []
    for attempt, row in starts:
        old_values = (prepare(row.id), row.fence, str(row.state))
        seconds = max(time.monotonic() - attempt.started_at, 0.0)
        row.state, row.worker, row.run_after = Job.State.RUNNING, attempt.worker, None
        row.started_at = now - timedelta(seconds=seconds)
        row.fence += 1
        row.version += 1
        row.attempt, row.max_attempts = attempt.number, max(row.max_attempts, attempt.number)
        updates.append(
            (
                prepare(attempt.worker),
                times.to_db(row.started_at, db),
                row.attempt,
                row.max_attempts,
                *old_values,
            )
        )
        attempt.job.__dict__.update({name: row.__dict__[name] for name in _ROW_FIELDS})
    bulk.update(
        Job,
        ("worker", "started_at", "attempt", "max_attempts"),
        ("id", "fence", "state"),
        updates,
        assignments=(
            "state = 'running'",
            "fence = fence + 1",
            "version = version + 1",
            "run_after = NULL",
            "check_at = NULL",
            "missing_since = NULL",
            "progress_current = NULL",
            "progress_total = NULL",
            "progress_message = ''",
        ),
    )
    streams.ring([row.user_id for _, row in starts])
